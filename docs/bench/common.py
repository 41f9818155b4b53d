"""What the benchmarks share: running programs with their time and memory, and saying where and with what that was."""
import os, platform, signal, subprocess, threading, time
from importlib import metadata


def machine():
    cpu = platform.processor()
    try:
        with open("/proc/cpuinfo") as f:
            cpu = next((l.split(":")[1].strip() for l in f if l.startswith("model name")), cpu)
    except FileNotFoundError:
        pass
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") / 2**30
    return f"{cpu or platform.machine()}, {os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def commit():
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip() or "unknown"


def versions(*packages):
    return ", ".join(f"{p} {metadata.version(p)}" for p in packages) + f", Python {platform.python_version()}"


def today():
    return time.strftime("%Y-%m-%d", time.gmtime())


def command(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read()


def tree(pid):
    """Resident bytes of a process and all below it; one that is still a copy of this program counts nothing."""
    total, todo = 0, [pid]
    while todo:
        p = todo.pop()
        try:
            if command(p) == command("self"):
                continue
            with open(f"/proc/{p}/statm") as f:
                total += int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")
            for t in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{t}/children") as f:
                    todo += [int(c) for c in f.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def call(command, limit, log):
    """Runs a command; returns what became of it, its seconds by the clock and of the processor, and its peak bytes."""
    start, peak, done = time.monotonic(), 0, False
    p = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def watch():
        nonlocal peak
        while not done:
            peak = max(peak, tree(p.pid))
            time.sleep(0.01)

    w = threading.Thread(target=watch)
    w.start()
    timer = threading.Timer(limit, lambda: os.killpg(p.pid, signal.SIGKILL))
    timer.start()
    _, status, usage = os.wait4(p.pid, 0)
    seconds = time.monotonic() - start
    done = True
    timer.cancel()
    w.join()
    p.returncode = os.waitstatus_to_exitcode(status)
    became = "ok" if p.returncode == 0 else "too slow" if seconds >= limit else "failed"
    return became, seconds, usage.ru_utime + usage.ru_stime, peak or usage.ru_maxrss * 1024  # which counts what this program had when it started the other


def median(values):
    s = sorted(values)
    return s[len(s) // 2] if len(s) % 2 else (s[len(s) // 2 - 1] + s[len(s) // 2]) / 2


def spread(values, form="{:.2f}", unit=""):
    """The median, and the range where there are several."""
    values = list(values)
    text = form.format(median(values))
    if len(values) > 1:
        text += f" ({form.format(min(values))}–{form.format(max(values))})"
    return text + (" " + unit if unit else "")
