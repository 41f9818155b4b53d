"""Runs every row of the numbers that lapidary holds itself to, beside its peers, and writes docs/benchmarks.md.

Called by "make bench" with the Python of .bench/peers. What is timed takes turns with the
peer, several rounds in one run; wall time, processor time and peak memory are of the whole
process with all below it. The figures of a row stay in docs/benchmarks.json until the row is
measured again: ROWS="bert fuse" measures these only.
"""
import argparse, json, math, os, re, shutil, subprocess, sys, time
from types import SimpleNamespace
from common import call, commit, machine, median, spread, today, versions

PEERS = ("onnxruntime", "onnxslim", "onnxsim", "onnxoptimizer", "onnx-tool", "onnx")


def line(model, figure, target, reached, ours, peer="–", note=""):
    """One line of the table; reached is None where nothing was asked for."""
    return {"model": model, "figure": figure, "target": target, "reached": reached, "ours": ours, "peer": peer, "note": note}


def net(a, name, *flags, file=None):
    """The path of a generated network, made where it is missing."""
    path = os.path.join(a.work, "models", (file or name) + ".onnx")
    if not os.path.exists(path):
        folder = os.path.join(a.work, "made")
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["go", "run", "./internal/nets/netgen", "-o", folder, *flags, name], check=True, stdout=a.log, stderr=a.log)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        for f in os.listdir(folder):
            os.replace(os.path.join(folder, f), path if f == name + ".onnx" else os.path.join(os.path.dirname(path), f))
    return path


def out(a, name):
    folder = os.path.join(a.work, "out")
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, name)


def turns(a, commands, limit, rounds):
    """Runs commands in turns; lists of (seconds, processor seconds, bytes) by name. A command that fails ends the row."""
    got = {n: [] for n in commands}
    for k in range(rounds):
        names = list(commands)
        for n in names if k % 2 else names[::-1]:
            became, seconds, cpu, peak = call(commands[n], limit, a.log)
            if became != "ok":
                raise RuntimeError(f"{n}: {became}; see {a.log.name}")
            got[n].append((seconds, cpu, peak))
    return got


def cost(runs):
    s, c, p = zip(*runs)
    return f"{spread(s, unit='s')}, {spread(c, unit='s')} of processor, {max(p) / 2**20:.0f} MiB"


def self(*words):
    return [sys.executable, __file__, *words]


# The rows. Each returns lines.

def bert(a):
    model = net(a, "bert")
    got = turns(a, {"ours": [a.lapidary, "quantize", model, "-o", out(a, "bert-ours.onnx"), "--dynamic", "--for", "size", "--no-verify", "-q"],
                    "peer": self("--dynamic", model, out(a, "bert-peer.onnx"))}, 300, a.rounds)
    fast = median([s for s, _, _ in got["peer"]]) / median([s for s, _, _ in got["ours"]])
    memory = max(p for _, _, p in got["ours"]) / max(p for _, _, p in got["peer"])
    name = f"BERT-base, {os.path.getsize(model) / 2**20:.0f} MiB"
    return [line(name, f"{fast:.1f}× faster", "≥ 20×", fast >= 20, cost(got["ours"]), cost(got["peer"]), "the floor is the SHA-256 of the input, which the evidence needs"),
            line(name, f"{memory:.2f} of the peak memory", "≤ 0.25", memory <= 0.25, "as above", "as above")]


def calibration(a):
    r = subprocess.run(["go", "test", "./internal/calibrate", "-run", "TestManyImages", "-v", "-count=1", "-timeout", "20m"], capture_output=True, text=True,
                       env={**os.environ, "LAPIDARY_MANY_IMAGES": str(a.pictures)})
    a.log.write(r.stdout + r.stderr)
    peaks = re.findall(r"(\d+) pictures: .*peak memory (\d+) MiB", r.stdout)
    both = re.search(r"2 workers: peak memory (\d+) MiB", r.stdout)
    rates = re.search(r"([\d.]+) and ([\d.]+) of the bare rate of ([\d.]+) pictures a second; ([\d.]+) with 2 workers", r.stdout)
    if len(peaks) != 2 or not rates or not both:
        raise RuntimeError("TestManyImages gave no figures; see " + a.log.name)
    peer = [call(self("--calibrate", net(a, "yolov8n"), str(n)), 300, a.log) for n in (2, 6)]
    theirs = "–" if any(p[0] != "ok" for p in peer) else f"histograms of 2 and of 6 pictures: {peer[0][3] / 2**20:.0f} and {peer[1][3] / 2**20:.0f} MiB"
    (n, low), (m, high) = peaks
    name = "yolov8n at 640×640, all convolutions' outputs"
    return [line(name, f"{float(rates[4]):.2f} of the bare inference rate with --calibration-workers 2, {float(rates[2]):.2f} with one", "≥ 0.9", float(rates[4]) >= 0.9,
                 f"bare {rates[3]} pictures a second, outputs left in the engine; {both[1]} MiB with 2 workers"),
            line(name, f"memory {int(high) / int(low):.2f}×, {n} → {m} pictures", "flat (≤ 1.1×)", int(high) <= 1.1 * int(low), f"{low} → {high} MiB", theirs)]


def seven(a):
    model = net(a, "llama-7b", "-sparse")
    to = out(a, "llama-int4.onnx")
    got = call([a.lapidary, "quantize", model, "-o", to, "--to", "int4", "--no-verify", "-q"], 600, a.log)
    if got[0] != "ok":
        raise RuntimeError(f"{got[0]}; see {a.log.name}")
    sizes = [sum(os.path.getsize(os.path.join(os.path.dirname(p), f)) for f in os.listdir(os.path.dirname(p)) if f.startswith(os.path.basename(p).split(".")[0])) for p in (model, to)]
    start = time.monotonic()
    for f in os.listdir(os.path.dirname(model)):
        if f.startswith("llama-7b"):
            copy(os.path.join(os.path.dirname(model), f), out(a, "copied"), sizes[1])
    took = time.monotonic() - start
    for f in os.listdir(os.path.dirname(to)):
        os.remove(os.path.join(os.path.dirname(to), f))
    rate = took / got[1]
    name = f"7B shape, {sizes[0] / 2**30:.1f} → {sizes[1] / 2**30:.1f} GiB"
    return [line(name, f"{got[3] / 2**30:.2f} GiB of memory", "≤ 2 GiB", got[3] <= 2 * 2**30, cost([got[1:]]), "not run: it holds the model in memory"),
            line(name, f"{rate:.2f} of the copy rate", "≥ 0.5", rate >= 0.5, f"{got[1]:.1f} s", f"{took:.1f} s: all of the input read, the result's bytes written and synced")]


def copy(path, to, most):
    """Reads a file and writes as much of it as the result has, which is what any quantizer must do."""
    with open(path, "rb", buffering=0) as r, open(to, "wb", buffering=0) as w:
        block, written = bytearray(1 << 20), 0
        while n := r.readinto(block):
            if written < most:
                written += w.write(memoryview(block)[:n])
        os.fsync(w.fileno())


def fuse(a):
    import fuse as f
    names = ["mnist-8", "squeezenet1.1", "ultraface-rfb-320", "stories260K", "tf-bert-qa-tiny", "magika-fast", "mobilenetv3", "vit", "chain"]
    o = SimpleNamespace(lapidary=a.lapidary, work=a.work, limit=90, pairs=1, tools="")
    chosen = ("lapidary fuse", "lapidary fuse --no-verify", "onnxslim", "onnxsim")
    all_ = f.tools
    f.tools = lambda x: {n: c for n, c in all_(x).items() if n in chosen}
    lines, faster, wrong, more = [], [], [], []
    for turn, n in enumerate(names):
        path = os.path.join(a.zoo, "models", n + ".onnx") if n in f.ZOO else net(a, n)
        rows = {r["tool"]: r for r in f.one(o, n, path, turn, a.log)}
        mine, quick = rows["lapidary fuse"], rows["lapidary fuse --no-verify"]
        peers = {t: rows[t] for t in ("onnxslim", "onnxsim") if rows[t]["became"] == "ok"}
        if mine["became"] != "ok" or not mine.get("right"):
            wrong.append(n)
        right = {t: r for t, r in peers.items() if r.get("right") and "error" not in r}
        if right and min(r["nodes"] for r in right.values()) < mine.get("nodes", 1 << 30):
            more.append(n)
        times = min((r["seconds"], t) for t, r in rows.items() if t in ("onnxslim", "onnxsim"))
        ratio = times[0] / quick["seconds"]
        faster.append(ratio)
        text = ", ".join(f"{t} {rows[t]['seconds']:.2f} s {'' if rows[t]['became'] == 'ok' else '(' + rows[t]['became'] + ') '}{rows[t].get('nodes', '–')} nodes"
                         + ("" if rows[t].get("right") or rows[t]["became"] != "ok" else ", **wrong**") for t in ("onnxslim", "onnxsim"))
        lines.append(line(n, f"{ratio:.0f}× faster", "≥ 10×", ratio >= 10, f"{quick['seconds']:.2f} s ({mine['seconds']:.2f} s verified), {mine['before']} → {mine.get('nodes', '–')} nodes", text,
                          "a latency ratio of %.2f (%.2f–%.2f)" % tuple(mine["ratio"]) if "ratio" in mine else ""))
    f.tools = all_
    lines.append(line("all of these", f"{len(wrong)} wrong, {len(more)} with more nodes than a peer that is right", "0, 0", not wrong and not more, ", ".join(wrong + more) or "–"))
    return lines


def latency(a):
    """The fused model against the original at the engine's highest level."""
    lines = []
    for n, most, target in (("ultraface-rfb-320", 0.5, "≤ 0.5 (≥ 2×)"), ("squeezenet1.1", 1, "never above 1"), ("tf-bert-qa-tiny", 1, "never above 1"),
                            ("gtcrn", 1 / 1.5, "≤ 0.67 (≥ 1.5×)"), ("mobilenetv3", 1, "never above 1")):
        path = os.path.join(a.zoo, "models", n + ".onnx")
        if not os.path.exists(path):
            path = net(a, n)
        to = out(a, n + "-fused.onnx")
        subprocess.run([a.lapidary, "fuse", path, "-o", to, "-q", "--target", "auto"], check=True, stdout=a.log, stderr=a.log)
        e = json.loads(subprocess.run([sys.executable, os.path.join(os.path.dirname(__file__), "fuse.py"), "--evaluate", path, to, "--pairs", "6"], capture_output=True, text=True, check=True).stdout)
        r = e["ratio"]
        lines.append(line(n, "%.2f (%.2f–%.2f) of the original's time" % tuple(r), target, e["right"] and (r[1] <= 1 if most == 1 else r[0] <= most), f"{e['nodes']} nodes, {'equal' if e['right'] else '**wrong**'}",
                          "ONNX Runtime, all optimizations, on the original"))
    path, to = net(a, "chain"), out(a, "chain-fused.onnx")
    subprocess.run([a.lapidary, "fuse", path, "-o", to, "-q", "--no-verify"], check=True, stdout=a.log, stderr=a.log)
    got = turns(a, {"ours": self("--load", to), "peer": self("--load", path)}, 120, a.rounds)
    ratio = median([s for s, _, _ in got["peer"]]) / median([s for s, _, _ in got["ours"]])
    lines.append(line("chain of 20,000 nodes", f"{ratio:.1f}× faster to load", "≥ 2×", ratio >= 2, cost(got["ours"]), cost(got["peer"]), "both with the start of Python"))
    return lines


def profile(a):
    lines = []
    script = os.path.join(os.path.dirname(__file__), "profile.py")
    for n in ("resnet50", "bert"):
        path = net(a, n)
        dims = [w for d in ("batch=1", "seq=128") if n == "bert" for w in ("--dim", d)]
        got = turns(a, {"ours": [a.lapidary, "profile", "--static", "--format", "json", path, *dims], "peer": [sys.executable, script, "--peer", path]}, 120, a.rounds + 2)
        ours, peer = (median([s for s, _, _ in got[k]]) for k in ("ours", "peer"))
        lines.append(line(f"{n}, {os.path.getsize(path) / 2**20:.0f} MiB", f"{1e3 * ours:.0f} ms, {peer / ours:.0f}× faster than onnx-tool", "≤ 100 ms", ours <= 0.1, cost(got["ours"]), cost(got["peer"])))
    return lines


def int8(a):
    """Latency of int8 models against float and against the peer's."""
    import quantize as q
    lines = []
    for n, flags, most in (("resnet50", ["-batch", "1"], 1 / 2), ("mobilenetv2", ["-batch", "1"], 1 / 1.6)):
        path, fused, mine = net(a, n, *flags, file=n + "-1"), out(a, n + "-float.onnx"), out(a, n + "-int8.onnx")
        subprocess.run([a.lapidary, "fuse", path, "-o", fused, "-q", "--no-verify", "--opset", "13"], check=True, stdout=a.log, stderr=a.log)
        subprocess.run([a.lapidary, "quantize", fused, "-o", mine, "--data", "synthetic:16", "--recover", "none", "-q"], check=True, stdout=a.log, stderr=a.log)
        s = q.session(fused)
        shape = [d if isinstance(d, int) else 1 for d in s.get_inputs()[0].shape]
        x = {s.get_inputs()[0].name: q.np.random.default_rng(1).standard_normal([16, *shape[1:]]).astype("float32")}
        files, _ = q.peer(a, fused, n, x)
        peer = files.get("MinMax") or next(iter(files.values()))
        lines += compared(q, n, mine, fused, peer, x, most)
    path, mine, peer = net(a, "bert", "-batch", "1", "-seq", "128", file="bert-128"), out(a, "bert-128-int8.onnx"), out(a, "bert-128-peer.onnx")
    subprocess.run([a.lapidary, "quantize", path, "-o", mine, "--dynamic", "--for", "size", "--no-verify", "-q"], check=True, stdout=a.log, stderr=a.log)
    subprocess.run(self("--dynamic", path, peer), check=True, stdout=a.log, stderr=a.log)
    s, r = q.session(path), q.np.random.default_rng(1)
    x = {i.name: (q.np.ones([1, 128]) if "mask" in i.name else r.integers(0, 2, [1, 128])).astype("int64") for i in s.get_inputs()}
    return lines + compared(q, "BERT-base, dynamic, 128 tokens", mine, path, peer, x, 1 / 2)


def compared(q, name, mine, original, peer, x, most):
    f, p = q.ratio(mine, original, x, 8), q.ratio(mine, peer, x, 8)
    form = lambda r: f"{r[0]:.2f} ({r[1]:.2f}–{r[2]:.2f})"
    return [line(name, form(f) + " of float's time", f"≤ {most:.2f} (≥ {1 / most:.1f}×)", bool(f[0] <= most), f"{os.path.getsize(mine) / 2**20:.1f} MiB", f"float32, {os.path.getsize(original) / 2**20:.1f} MiB"),
            line(name, form(p) + " of the peer's time", "≤ 1.0", bool(p[0] < 1.005), "", f"onnxruntime.quantization, {os.path.getsize(peer) / 2**20:.1f} MiB")]


def accuracy(a):
    """Int8 by both on the classifiers, calibrated on the same samples, of which none is evaluated."""
    import quantize as q
    lines = []
    for n in ("squeezenet1.1", "mnist-cnn", "magika-fast", "iris-mlp", "digits-cnn", "digits-vit", "tabular-mlp"):
        m = q.measure(SimpleNamespace(**{**vars(a), "work": a.work + "/quantize"}), n, extras=(["--for", "size"],))
        peer = next((r for r in m["results"] if r["by"].startswith("onnxruntime")), None)
        mine = next(r for r in m["results"] if r["by"].startswith("lapidary"))
        drop = m["accuracy"] - mine["accuracy"]
        theirs = m["accuracy"] - peer["accuracy"] if peer else math.inf
        note, fair = "", drop <= theirs
        if not fair:
            note = f"McNemar between both: p = {mcnemar(mine['right'], peer['right']):.2f} of {m['samples']} samples"
        lines.append(line(n, f"drop {drop:+.2f} pt", "≤ the peer's, ≤ 0.5 pt", fair and drop <= 0.5, f"{m['accuracy']:.2f} → {mine['accuracy']:.2f} %, {mine['sqnr']:.1f} dB",
                          f"{theirs:+.2f} pt, {peer['sqnr']:.1f} dB ({peer['by'].split(', ')[1]})" if peer else "fails", note))
        if mine["to_peer"] is not None:
            r = mine["to_peer"]
            lines.append(line(n, f"{r[0]:.2f} ({r[1]:.2f}–{r[2]:.2f}) of the peer's time", "≤ 1.0", bool(r[0] < 1.005), f"{mine['bytes'] / 1024:.0f} KiB", f"{peer['bytes'] / 1024:.0f} KiB"))
    return lines


def mcnemar(x, y):
    """The exact two-sided p of as many discordant pairs falling as unevenly."""
    b, c = sum(p > q for p, q in zip(x, y)), sum(p < q for p, q in zip(x, y))
    n = b + c
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n) if n else 1.0


ROWS = {
    "bert": ("Dynamic int8 of a BERT-base against onnxruntime.quantization", bert),
    "calibration": ("Static calibration", calibration),
    "int4-7b": ("Int4 weights of a 7B-shaped model with external data", seven),
    "fuse": ("fuse against onnxslim and onnxsim", fuse),
    "latency": ("The fused model's latency against ONNX Runtime's optimizations of the original", latency),
    "profile": ("Static profile of 100 MB and more against onnx-tool", profile),
    "int8": ("The int8 model's latency", int8),
    "accuracy": ("Accuracy after int8 against onnxruntime.quantization's best calibrator", accuracy),
}


# What runs in processes of its own.

def dynamic(model, to):
    from onnxruntime.quantization import quantize_dynamic
    quantize_dynamic(model, to)


def calibrate(model, n):
    import numpy
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        left = int(n)

        def get_next(self):
            self.left -= 1
            return {"images": numpy.random.default_rng(self.left).random([1, 3, 640, 640], "float32")} if self.left >= 0 else None

    c = create_calibrator(model, ["Conv"], augmented_model_path=model + ".augmented", calibrate_method=CalibrationMethod.Entropy)
    c.collect_data(Reader())
    c.compute_data()


def load(path):
    import onnxruntime as ort
    o = ort.SessionOptions()
    o.log_severity_level = 4
    ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


# The page.

def reached(l):
    return "" if l["reached"] is None else "yes" if l["reached"] else "**no**"


def page(kept):
    lines = [l for r in ROWS for l in kept.get(r, {}).get("lines", [])]
    asked = [l for l in lines if l["reached"] is not None]
    yield "# lapidary beside its peers\n"
    yield ("Written by `make bench`; a row is measured again by `make bench ROWS=\"name …\"`. What is timed takes turns with the peer in one run; wall time, processor time and peak memory are of\n"
           "the whole process with all below it, medians with their range. Ratios of latency are of alternating pairs, with the middle half or the interval that holds the median 19 times of 20.\n"
           "Larger tables: [fuse](benchmarks-fuse.md), [quantize](benchmarks-quantize.md), [profile](benchmarks-profile.md). Peers are pinned in `docs/bench/peers.txt`.\n")
    yield f"{sum(l['reached'] for l in asked)} of {len(asked)} targets are reached.\n"
    for name, (title, _) in ROWS.items():
        r = kept.get(name)
        yield f"## {title}\n"
        if r is None:
            yield f"Not measured yet: `make bench ROWS={name}`.\n"
            continue
        yield f"`make bench ROWS={name}`, {r['date']}, commit {r['commit']}, load {r['load']:.1f} when it began, {r['seconds']:.0f} s. {r['machine']}. {r['versions']}.\n"
        if r.get("failed"):
            yield f"It did not run to its end: {r['failed']}\n"
        if r["lines"]:
            yield "| model | figure | asked | reached | lapidary | peer | |\n|---|---|---|---|---|---|---|"
            yield "\n".join(f"| {l['model']} | {l['figure']} | {l['target']} | {reached(l)} | {l['ours']} | {l['peer']} | {l['note']} |" for l in r["lines"]) + "\n"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dynamic", nargs=2)
    p.add_argument("--calibrate", nargs=2)
    p.add_argument("--load")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--pictures", type=int, default=1000)
    p.add_argument("--lapidary", default="bin/lapidary")
    p.add_argument("--work", default=".bench")
    p.add_argument("--zoo", default=os.environ.get("LAPIDARY_ZOO", "../shared/zoo"))
    p.add_argument("--out", default="docs/benchmarks")
    p.add_argument("--write", action="store_true", help="write the page of what was measured last, and measure nothing")
    p.add_argument("rows", nargs="*", help="only these; others stay as they were measured last")
    a = p.parse_args()
    for do, words in ((dynamic, a.dynamic), (calibrate, a.calibrate), (load, a.load and [a.load])):
        if words:
            return do(*words)
    if unknown := set(a.rows) - set(ROWS):
        p.error(f"there is no row {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}")
    kept = {}
    if os.path.exists(a.out + ".json"):
        with open(a.out + ".json") as f:
            kept = json.load(f)
    os.makedirs(a.work, exist_ok=True)
    with open(os.path.join(a.work, "bench.log"), "w") as a.log:
        for name in [] if a.write else a.rows or ROWS:
            kept[name] = measured(a, name)
            save(a, kept)
    save(a, kept)
    print("wrote", a.out + ".md")


def measured(a, name):
    start, r = time.monotonic(), {"date": today(), "commit": commit(), "machine": machine(), "versions": versions(*PEERS), "load": os.getloadavg()[0], "lines": []}
    print(f"== {name}", file=a.log, flush=True)
    try:
        r["lines"] = ROWS[name][1](a)
    except Exception as e:  # the other rows can be measured all the same
        r["failed"] = f"{type(e).__name__}: {str(e)[:300]}"
    shutil.rmtree(os.path.join(a.work, "out"), ignore_errors=True)
    r["seconds"] = time.monotonic() - start
    for l in r["lines"]:
        print(name, l["model"], l["figure"], l["target"], reached(l), flush=True)
    print(name, r.get("failed", "done"), f"{r['seconds']:.0f} s", flush=True)
    return r


def save(a, kept):
    with open(a.out + ".json", "w") as f:
        json.dump({n: kept[n] for n in ROWS if n in kept}, f, indent=1, ensure_ascii=False)
    with open(a.out + ".md", "w") as f:
        f.write("\n".join(page(kept)))


if __name__ == "__main__":
    main()
