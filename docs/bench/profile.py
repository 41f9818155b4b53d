"""Runs lapidary profile --static and onnx-tool over models, and writes docs/benchmarks-profile.md.

Called by "make bench-profile" with the Python of .bench/peers. For each model both
tools run in processes of their own, taking turns; the least of a few wall times of the
whole process counts, and for onnx-tool also that without starting Python and loading its
modules. MACs are compared operator by operator for those that both count as products:
onnx-tool adds the bias and weighs elementwise operators too, which is taken off.
"""
import argparse, json, os, subprocess, sys, time, zipfile
from common import commit, machine, today, versions

# onnx-tool wants numbers: the sizes of symbolic dimensions for both.
SIZES = {"batch": 1, "seq": 128, "past": 32, "N": 1, "T": 32, "unk__0": 1}
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NETS = ["resnet50", "mobilenetv3", "yolov8n", "gtcrn", "llama", "whisper-encoder", "unet", "vit", "gpt2", "bert", "chain"]
ZOO = ["mnist-8", "mnist-cnn", "squeezenet1.1", "ultraface-rfb-320", "ultraface-slim-320", "stories260K", "magika-fast",
       "fns-candy", "silero-vad", "tf-bert-qa-tiny", "iris-mlp", "iris-forest"]
NOTES = """
Where the two differ:

- *Parameters.* onnx-tool counts every constant; lapidary leaves out integers of 64 bits, booleans and text, which are shapes, indices and masks, counts the
  numbers that operators of ai.onnx.ml keep in attributes, and counts a Constant node's value like an initializer.
- *MACs in all.* onnx-tool adds biases, activations and normalizations with a weight of its own for each (32 for an exponential), so its sum is neither
  MACs nor FLOPs; lapidary's MACs are those of products, and its FLOPs have the rest.
- *ConvTranspose.* onnx-tool multiplies the output's elements by a filter of the output's channels; each element of the input meets the filters of its own channel,
  which is what lapidary counts.
- *Bodies.* onnx-tool does not look into If, Loop and Scan, and fails on operators that it has no row for; what lapidary does not know is in its coverage.
"""


def peer(path, sizes):
    """What onnx-tool counts: printed as JSON, by a process of its own."""
    start = time.perf_counter()
    import numpy
    import onnx
    import onnx_tool
    loaded = time.perf_counter()
    m = onnx_tool.loadmodel(path, {"constant_folding": True, "verbose": False})
    g, feed = m.graph, {}
    for i in m.mproto.graph.input:
        t = i.type.tensor_type
        shape = [d.dim_value or sizes.get(d.dim_param, 1) for d in t.shape.dim]
        feed[i.name] = numpy.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(t.elem_type))
    g.shape_infer({k: v for k, v in feed.items() if k in g.input})
    g.profile()
    done = time.perf_counter()
    macs = {}
    for n in g.nodemap.values():
        if n.op_type in PRODUCTS:
            bias = numpy.prod(g.tensormap[n.output[0]].get_shape()) if len(n.input) > 2 else 0
            macs[n.op_type] = macs.get(n.op_type, 0) + int(n.macs[0] - bias)
    print(json.dumps({"macs": macs, "params": int(g.params), "import": loaded - start, "work": done - loaded}))


def output(command, limit):
    start = time.monotonic()
    try:
        p = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None, "too slow", limit
    seconds = time.monotonic() - start
    if p.returncode:
        lines = [l for l in p.stderr.strip().splitlines() if l.strip()] or ["failed"]
        return None, lines[-1][:120], seconds
    return p.stdout, "", seconds


def symbols(lapidary, path):
    """The open dimensions of a model."""
    out, why, _ = output([lapidary, "profile", "--static", "--format", "json", path], 60)
    if out is None:
        sys.exit(f"{path}: {why}")
    return [d["name"] for d in json.loads(out)["static"].get("dims", [])]


def one(a, name, path):
    dims = []
    for d in symbols(a.lapidary, path):
        dims += ["--dim", f"{d}={SIZES.get(d, 1)}"]
    ours = [a.lapidary, "profile", "--static", "--format", "json", path] + dims
    theirs = [sys.executable, __file__, "--peer", path]
    row = {"model": name, "bytes": os.path.getsize(path)}
    for turn in range(a.turns):
        for who, command in (("ours", ours), ("theirs", theirs)) if turn % 2 else (("theirs", theirs), ("ours", ours)):
            if row.get(who + "_failed"):
                continue
            out, why, seconds = output(command, a.limit)
            if out is None:
                row[who + "_failed"] = why
                continue
            row[who + "_s"] = min(seconds, row.get(who + "_s", seconds))
            if who == "ours":
                s = json.loads(out)["static"]
                row["macs"], row["params"] = s["work"]["macs"], s["weights"]["parameters"]
                row["by_op"] = {o["op"]: o["macs"] for o in s["operators"] if o["op"] in PRODUCTS}
                row["bodies"] = any(n.get("path") for n in s["nodes"])
                row["coverage"] = s["coverage"]["percent"]
            else:
                p = json.loads(out.splitlines()[-1])
                row["their_ops"], row["their_params"] = p["macs"], p["params"]
                row["work_s"] = min(p["work"], row.get("work_s", p["work"]))
    if "their_ops" in row and "by_op" in row:
        row["differ"] = {o: [row["by_op"].get(o, 0), row["their_ops"].get(o, 0)] for o in PRODUCTS if row["by_op"].get(o, 0) != row["their_ops"].get(o, 0)}
    print(json.dumps(row), flush=True)
    return row


def models(a):
    light = os.path.join(a.work, "light")
    os.makedirs(light, exist_ok=True)
    with zipfile.ZipFile(os.path.join(a.zoo, "corpus", "light.zip")) as z:
        for n in z.namelist():
            if n.endswith(".onnx"):
                path = os.path.join(light, os.path.basename(n))
                with open(path, "wb") as f:
                    f.write(z.read(n))
                yield os.path.basename(n)[:-5], path
    for n in ZOO:
        yield n, os.path.join(a.zoo, "models", n + ".onnx")
    for n in NETS:
        yield n, os.path.join(a.work, "models", n + ".onnx")


def size(n):
    for unit in ("", " k", " M", " G"):
        if n < 1000 or unit == " G":
            return f"{n:.3g}{unit}" if unit else str(n)
        n /= 1000


def write(a, rows):
    with open(a.out, "w") as f:
        print(f"""# Static profile beside onnx-tool

Written by `make bench-profile` on {today()} at commit {commit()}.
Machine: {machine()}. Load when it began: {a.load:.1f}. Versions: {versions("onnx-tool", "onnx")}.

*Time* is the least wall time of the whole process in {a.turns} turns; in parentheses, onnx-tool's without the start of Python and of its modules.
*Products* says for Conv, ConvTranspose, Gemm and MatMul whether both count the same MACs, onnx-tool's bias additions taken off.

| model | size | MACs | parameters | onnx-tool's parameters | time | onnx-tool's time | ratio | products |
|---|--:|--:|--:|--:|--:|--:|--:|---|""", file=f)
        for r in rows:
            if "ours_failed" in r:
                print(f"| {r['model']} | {size(r['bytes'])}B | – | – | – | {r['ours_failed']} | – | – | – |", file=f)
                continue
            theirs, ratio, products = "–", "–", r.get("theirs_failed", "").replace("|", "/")
            if "theirs_s" in r:
                theirs, ratio = f"{r['theirs_s']:.2f} s ({1e3 * r['work_s']:.0f} ms)", f"{r['theirs_s'] / r['ours_s']:.0f}× ({r['work_s'] / r['ours_s']:.1f}×)"
                products = "equal" if not r["differ"] else ", ".join(f"{o} {size(m)} against {size(t)}" for o, (m, t) in r["differ"].items())
            print(f"| {r['model']} | {size(r['bytes'])}B | {size(r['macs'])} | {size(r['params'])} | {size(r['their_params']) if 'their_params' in r else '–'} "
                  f"| {1e3 * r['ours_s']:.0f} ms | {theirs} | {ratio} | {products} |", file=f)
        print(NOTES, file=f)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--peer")
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--limit", type=float, default=120, help="seconds that a tool may take")
    p.add_argument("--lapidary", default="bin/lapidary")
    p.add_argument("--work", default=".bench")
    p.add_argument("--zoo", default=os.environ.get("LAPIDARY_ZOO", "../shared/zoo"))
    p.add_argument("--out", default="docs/benchmarks-profile.md")
    p.add_argument("models", nargs="*", help="only these")
    a = p.parse_args()
    if a.peer:
        peer(a.peer, SIZES)
        return
    a.load = os.getloadavg()[0]
    rows = []
    for name, path in models(a):
        if a.models and name not in a.models:
            continue
        if not os.path.exists(path):
            print(f"{name}: no {path}, left out", flush=True)
            continue
        rows.append(one(a, name, path))
    if not rows:
        p.error("no such model: " + ", ".join(a.models))
    write(a, rows)
    print("wrote", a.out)


if __name__ == "__main__":
    main()
