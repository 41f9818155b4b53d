"""Runs lapidary fuse and its peers over models, and writes docs/benchmarks-fuse.md.

Called by "make bench-fuse" with the Python of .bench/peers. For each model every
tool runs in a process of its own, in rotating order and under a time limit; wall
time and peak memory are of that process and all below it. A second process then
compares each result with the original in ONNX Runtime with optimizations off, and
times both with all optimizations on, in alternating pairs on one thread.
"""
import argparse, json, os, shutil, subprocess, sys, time
from common import call, commit, machine, today, versions

# Tiny sizes of symbolic dimensions would time call overhead only.
SIZES = {"batch": 1, "seq": 128, "past": 32, "N": 1, "T": 32, "unk__0": 1}
ZOO = ["mnist-8", "squeezenet1.1", "ultraface-rfb-320", "ultraface-slim-320", "stories260K", "tf-bert-qa-tiny", "magika-fast"]
NETS = ["resnet50", "mobilenetv3", "yolov8n", "gtcrn", "llama", "whisper-encoder", "unet", "vit", "gpt2", "bert", "chain", "wide"]
TRANSFORMER = {"bert": "bert", "tf-bert-qa-tiny": "bert_keras", "gpt2": "gpt2", "vit": "vit", "unet": "unet", "whisper-encoder": "bart"}


def tools(a):
    """Command lines by name; each takes the model, the result and the model's name."""
    py, bin = sys.executable, os.path.dirname(sys.executable)
    return {
        "lapidary fuse": lambda m, out, name: [a.lapidary, "fuse", m, "-o", out, "-q"],
        "lapidary fuse --target auto --opset 23": lambda m, out, name: [a.lapidary, "fuse", m, "-o", out, "-q", "--target", "auto", "--opset", "23"],
        "lapidary fuse --no-verify": lambda m, out, name: [a.lapidary, "fuse", m, "-o", out, "-q", "--no-verify"],
        "onnxslim": lambda m, out, name: [bin + "/onnxslim", m, out] + (["--save-as-external-data"] if name == "wide" else []),
        "onnxsim": lambda m, out, name: [bin + "/onnxsim", m, out] + (["--save-as-external-data"] if name == "wide" else []),
        "onnxoptimizer": lambda m, out, name: [py, "-m", "onnxoptimizer", m, out],
        "ort transformers": lambda m, out, name: ["env", "PYTHONPATH=" + standin(a), py, "-m", "onnxruntime.transformers.optimizer", "--input", m, "--output", out,
                                                  "--model_type", TRANSFORMER.get(name, "bert"), "--num_heads", "0", "--hidden_size", "0"]
        + (["--use_external_data_format"] if name == "wide" else []),
    }


def standin(a):
    """A folder with as much of PyTorch as onnxruntime.transformers asks for: the version of its CUDA."""
    folder = os.path.abspath(os.path.join(a.work, "torch-version"))
    os.makedirs(folder + "/torch", exist_ok=True)
    open(folder + "/torch/__init__.py", "w").close()
    with open(folder + "/torch/version.py", "w") as f:
        f.write("cuda = None\nhip = None\n")
    return folder


def inputs(session, numpy, most):
    """The same inputs for every model of one signature, integers below most."""
    r, out = numpy.random.default_rng(1), {}
    types = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}
    for i in session.get_inputs():
        shape = [d if isinstance(d, int) and d > 0 else SIZES.get(d, 1) for d in i.shape]
        t = types[i.type]
        if "mask" in i.name:
            x = numpy.ones(shape)
        elif i.name == "position_ids":
            x = numpy.broadcast_to(numpy.arange(shape[-1]), shape)
        elif "type_ids" in i.name or "token_type" in i.name:
            x = numpy.zeros(shape)
        elif "int" in t:
            x = r.integers(0, most, shape)
        else:
            x = r.standard_normal(shape)
        out[i.name] = numpy.ascontiguousarray(x).astype(t)
    return out


def nodes(path):
    """The nodes of a model, those of subgraphs and functions included."""
    import onnx

    def count(ns):
        return sum(1 + sum(count(a.g.node) + sum(count(g.node) for g in a.graphs) for a in n.attribute) for n in ns)
    m = onnx.load(path, load_external_data=False)
    return count(m.graph.node) + sum(count(f.node) for f in m.functions)


def agree(numpy, want, got):
    if len(want) != len(got):
        return False
    for w, g in zip(want, got):
        w, g = numpy.asarray(w), numpy.asarray(g)
        if w.shape != g.shape or w.dtype != g.dtype:
            return False
        if w.dtype.kind == "f":
            tol = 1e-2 if w.dtype.itemsize == 2 else 1e-3
            w, g = w.astype("float64"), g.astype("float64")
            finite = numpy.abs(w[numpy.isfinite(w)])
            if not numpy.allclose(g, w, rtol=tol, atol=0.1 * tol * (finite.max() if finite.size else 1), equal_nan=True):
                return False
        elif not (w == g).all():
            return False
    return True


def evaluate(original, result, pairs_seconds):
    """What the result is worth: printed as JSON, by a process of its own."""
    import numpy
    import onnxruntime as ort

    def open_(path, level):
        o = ort.SessionOptions()
        o.graph_optimization_level, o.intra_op_num_threads, o.log_severity_level = level, 1, 4
        return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    off, all_ = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    report = {"nodes": nodes(result)}
    s = open_(original, off)
    names = [o.name for o in s.get_outputs()]
    try:
        x = inputs(s, numpy, 90)
        want = s.run(names, x)
    except Exception:  # its vocabulary is smaller
        x = inputs(s, numpy, 2)
        want = s.run(names, x)
    del s
    try:
        s = open_(result, off)
        feed = {i.name: x[i.name] for i in s.get_inputs()}
        report["right"] = agree(numpy, want, s.run(names, feed))
        del s
    except Exception as e:
        print(json.dumps({**report, "error": str(e)[:200]}))
        return
    a, b = open_(original, all_), open_(result, all_)
    ratios, end = [], time.monotonic() + pairs_seconds
    for s, f in ((a, x), (b, feed)) * 3:
        s.run(names, f)
    while (time.monotonic() < end or len(ratios) < 5) and len(ratios) < 2000:
        t = [0, 0]
        for k in ((0, 1) if len(ratios) % 2 else (1, 0)):
            s, f = ((a, x), (b, feed))[k]
            start = time.process_time()
            s.run(names, f)
            t[k] = time.process_time() - start
        ratios.append(t[1] / t[0])
    ratios.sort()
    n, half = len(ratios), 0.98 * len(ratios) ** 0.5  # the order statistics around the median that hold it 19 times of 20
    report["ratio"] = [ratios[n // 2], ratios[max(0, int(n / 2 - half))], ratios[min(n - 1, int(n / 2 + half))]]
    print(json.dumps(report))


def one(a, name, path, turn, log):
    """All tools on one model, as rows of the table."""
    rows, work = [], os.path.join(a.work, "out")
    before = nodes(path)
    list_ = [(t, c) for t, c in tools(a).items() if a.tools in t]
    k = turn % len(list_)
    for tool, command in list_[k:] + list_[:k]:
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        out = os.path.join(work, "model.onnx")
        print(f"== {name}: {tool}", file=log, flush=True)
        limit = a.limit * (2 if name in ("chain", "wide") else 1)
        became, seconds, cpu, peak = call(command(path, out, name), limit, log)
        row = {"model": name, "tool": tool, "before": before, "became": became, "seconds": seconds, "cpu": cpu, "peak": peak}
        if became == "ok" and not os.path.exists(out):
            row["became"] = "failed"
        elif became == "ok" and "--no-verify" not in tool:
            e = subprocess.run([sys.executable, __file__, "--evaluate", path, out, "--pairs", str(a.pairs)], capture_output=True, text=True)
            print(e.stderr[-2000:], file=log, flush=True)
            row.update(json.loads(e.stdout) if e.returncode == 0 and e.stdout else {"error": "crashed the runtime"})
        rows.append(row)
        print(name, tool, row["became"], "%.2f s" % seconds, row.get("right"), row.get("ratio"), row.get("error", ""), flush=True)
    shutil.rmtree(work, ignore_errors=True)
    return rows


def table(rows):
    yield "| model | tool | nodes | latency | wall time | processor time | peak memory | result |"
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for r in rows:
        after = r.get("nodes", "–")
        latency = "%.2f (%.2f–%.2f)" % tuple(r["ratio"]) if "ratio" in r else "–"
        result = r["became"] if r["became"] != "ok" else "as above" if "--no-verify" in r["tool"] else "does not load" if "error" in r else "equal" if r["right"] else "**wrong**"
        yield f"| {r['model']} | {r['tool']} | {r['before']} → {after} | {latency} | {r['seconds']:.2f} s | {r['cpu']:.2f} s | {r['peak'] / 2**20:.0f} MiB | {result} |"


def summary(rows):
    rows = [r for r in rows if "--no-verify" not in r["tool"]]
    yield "| tool | equal | wrong | does not load | failed or too slow | median latency | median wall time | median processor time |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for tool in dict.fromkeys(r["tool"] for r in rows):
        mine = [r for r in rows if r["tool"] == tool]
        median = lambda v: "%.2f" % sorted(v)[len(v) // 2] if v else "–"
        yield "| %s | %d | %d | %d | %d | %s | %s s | %s s |" % (
            tool, sum(r.get("right", False) and "error" not in r for r in mine), sum(r.get("right") is False for r in mine),
            sum("error" in r for r in mine), sum(r["became"] != "ok" for r in mine),
            median([r["ratio"][0] for r in mine if "ratio" in r]), median([r["seconds"] for r in mine]), median([r["cpu"] for r in mine]))


def write(a, rows):
    with open(a.out, "w") as f:
        print(f"""# fuse beside its peers

Written by `make bench-fuse` on {today()} at commit {commit()}.
Machine: {machine()}. Load when it began: {a.load:.1f}.
Versions: {versions("onnxruntime", "onnxslim", "onnxsim", "onnxoptimizer", "onnx")}; onnxruntime.transformers is onnxruntime's,
with a stand-in for PyTorch, of which it reads one version number.

*Latency* is the result's processor time over the original's in ONNX Runtime with all its optimizations, on one thread: the median of
alternating pairs and the interval that holds it 19 times of 20; below 1 is faster. Processor time, since other work may run on the
machine. *Wall time*, *processor time* and *peak memory* are of the tool's whole process with all below it; `lapidary fuse` runs original and result in that time and compares them, the others write unchecked.
*Result* says whether the outputs equal the original's in ONNX Runtime without its optimizations. A tool that took more than
{a.limit:.0f} s, {2 * a.limit:.0f} s for the last two models, was stopped.
Weights of the networks are random (`internal/nets`); `chain` has 20,000 nodes, `wide` 2 GiB of external data.
""", file=f)
        print("\n".join(summary(rows)), file=f)
        print(file=f)
        print("\n".join(table(rows)), file=f)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--evaluate", nargs=2)
    p.add_argument("--pairs", type=float, default=2, help="seconds of alternating runs")
    p.add_argument("--limit", type=float, default=60, help="seconds that a tool may take, twice that for chain and wide")
    p.add_argument("--lapidary", default="bin/lapidary")
    p.add_argument("--work", default=".bench")
    p.add_argument("--zoo", default=os.environ.get("LAPIDARY_ZOO", "../shared/zoo"))
    p.add_argument("--out", default="docs/benchmarks-fuse.md")
    p.add_argument("--tools", default="", help="only tools whose name contains this")
    p.add_argument("models", nargs="*", help="only these; rows of others stay as they were measured last")
    a = p.parse_args()
    if a.evaluate:
        evaluate(*a.evaluate, a.pairs)
        return
    if not any(a.tools in t for t in tools(a)):
        p.error(f"--tools {a.tools!r} is in the name of no tool; there are: " + ", ".join(tools(a)))
    unknown = set(a.models) - set(ZOO + NETS)
    if unknown:
        p.error("there is no model " + ", ".join(sorted(unknown)) + "; there are: " + ", ".join(ZOO + NETS))
    a.load, store = os.getloadavg()[0], os.path.join(a.work, "bench-fuse.json")
    rows = {}
    if os.path.exists(store) and (a.models or a.tools):
        with open(store) as f:
            rows = {(r["model"], r["tool"]): r for r in json.load(f)}
    all_ = [(n, os.path.join(a.zoo, "models", n + ".onnx")) for n in ZOO] + [(n, os.path.join(a.work, "models", n + ".onnx")) for n in NETS]
    with open(os.path.join(a.work, "bench-fuse.log"), "w") as log:
        chosen = [(n, p) for m in a.models for n, p in all_ if n == m] or all_
        for turn, (name, path) in enumerate(chosen):
            if not os.path.exists(path):
                print(f"{name}: no {path}, left out", flush=True)
                continue
            rows.update({(name, r["tool"]): r for r in one(a, name, path, turn, log)})
            order = [rows[n, t] for n, _ in all_ for t in tools(a) if (n, t) in rows]
            write(a, order)
            with open(store, "w") as f:
                json.dump(order, f)
    print("wrote", a.out)


if __name__ == "__main__":
    main()
