"""Runs lapidary quantize and onnxruntime.quantization over models, and writes docs/benchmarks-quantize.md.

Called by "make bench-quantize" with the Python of .bench/peers. Both get the same
fused model and the same calibration samples, none of which is evaluated. The peer
is tried with MinMax, Entropy and Percentile, per channel, after its own
preprocessing; its best by accuracy, or by signal to noise without labels, counts.
Times are of alternating pairs in one process.
"""
import argparse, os, subprocess, sys, time
import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quant_pre_process, quantize_static
from common import commit, machine, today, versions


def images(a, n, skip, size, channels, mean, scale):
    from PIL import Image
    folder = os.path.join(a.zoo, "data/imagenet")
    rows = [l.rstrip("\n").split("\t") for l in open(folder + "/labels.tsv")][1:]
    xs, ys = [], []
    for name, label, _ in rows[skip:skip + n]:
        im = Image.open(os.path.join(folder, name)).convert("RGB")
        if size:
            im = im.resize(size, Image.BILINEAR)
        x = np.asarray(im, np.float32)
        x = x[:, :, ::-1] if channels == "bgr" else x
        xs.append(((x - np.float32(mean)) / np.float32(scale)).transpose(2, 0, 1))
        ys.append(int(label))
    return np.stack(xs), np.array(ys)


def squeeze(a):
    p = dict(size=None, channels="bgr", mean=[104.007, 116.669, 122.679], scale=1)
    x, y = images(a, 400, 0, **p)
    return {"data": x}, y, {"data": images(a, 100, 400, **p)[0]}


def ultraface(a):
    p = dict(size=(320, 240), channels="rgb", mean=[127] * 3, scale=128)
    return {"input": images(a, 100, 0, **p)[0]}, None, {"input": images(a, 50, 400, **p)[0]}


def arrays(file, evaluate, calibrate, change=lambda k, v: v):
    def load(a):
        z = np.load(os.path.join(a.zoo, "data", file) if not file.startswith("testdata") else file)
        inputs = {k: change(k, z[k]) for k in z.files if k != "labels"}
        return ({k: v[evaluate] for k, v in inputs.items()}, (z["labels"][evaluate] if "labels" in z.files else None), {k: v[calibrate] for k, v in inputs.items()})
    return load


def pair(val, calib):
    def load(a):
        v, c = np.load(val), np.load(calib)
        return {k: v[k] for k in v.files if k != "labels"}, v["labels"], {k: c[k] for k in c.files if k != "labels"}
    return load


def mnist(k, v):
    return ((v / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081)).astype(np.float32)


MODELS = {
    "squeezenet1.1": ("zoo", squeeze, "class"),
    "mnist-8": ("zoo", arrays("mnist.npz", slice(0, 2000), slice(2000, 2200), lambda k, v: v.astype(np.float32)), "class"),
    "mnist-cnn": ("zoo", arrays("mnist.npz", slice(0, 2000), slice(2000, 2200), mnist), "class"),
    "magika-fast": ("zoo", arrays("magika-fast.npz", slice(0, 120), slice(120, None)), "class"),
    "ultraface-rfb-320": ("zoo", ultraface, "none"),
    "silero-vad": ("zoo", arrays("silero.npz", slice(0, 800), slice(800, 900)), "none"),
    "iris-mlp": ("zoo", arrays("iris.npz", slice(0, None, 2), slice(1, None, 2)), "class"),
    "stories260K": ("zoo", arrays("stories.npz", slice(0, 55), slice(55, None)), "token"),
    "digits-cnn": ("testdata", pair("testdata/digits-val.npz", "testdata/digits-calib.npz"), "class"),
    "digits-vit": ("testdata", pair("testdata/digits-val.npz", "testdata/digits-calib.npz"), "class"),
    "tabular-mlp": ("testdata", pair("testdata/tabular-val.npz", "testdata/tabular-calib.npz"), "class"),
}


def session(path, threads=0):
    o = ort.SessionOptions()
    o.log_severity_level = 3
    if threads:
        o.intra_op_num_threads = threads
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def feeds(s, inputs, n):
    """The inputs of sample n, in the shape that the model wants."""
    out = {}
    names = [i.name for i in s.get_inputs()]
    for k, v in inputs.items():
        name = k if k in names else names[0]
        want = next(i for i in s.get_inputs() if i.name == name)
        x = v[n:n + 1] if v.ndim == len(want.shape) else v[n]
        out[name] = np.ascontiguousarray(x)
    return out


def outputs(path, inputs):
    s = session(path)
    count = len(next(iter(inputs.values())))
    return [s.run(None, feeds(s, inputs, i))[0] for i in range(count)]


def right(kind, got, labels):
    """Which samples, or tokens, were right; None without labels."""
    if kind == "class":
        return [int(g.reshape(-1).argmax() == l) for g, l in zip(got, labels)]
    if kind == "token":
        return [int(r) for g, l in zip(got, labels) for r in g.reshape(l.size, -1).argmax(-1) == l.reshape(-1)]
    return None


def score(kind, got, want, labels):
    """Accuracy in percent, or None; and the signal to noise ratio in dB of the first output over all samples."""
    noise = sum(float(((g.astype(np.float64) - w) ** 2).sum()) for g, w in zip(got, want))
    signal = sum(float((w.astype(np.float64) ** 2).sum()) for w in want)
    sqnr = float("inf") if noise == 0 else 10 * np.log10(signal / noise)
    r = right(kind, got, labels)
    return None if r is None else 100 * float(np.mean(r)), sqnr


class Reader(CalibrationDataReader):
    def __init__(self, path, inputs):
        s = session(path)
        self.list = iter([feeds(s, inputs, i) for i in range(len(next(iter(inputs.values()))))])

    def get_next(self):
        return next(self.list, None)


def peer(a, model, name, calib):
    """Result files of the peer by what it was told."""
    base = os.path.abspath(os.path.join(a.work, name + "-peer"))
    pre, back, model = base + "-pre.onnx", os.getcwd(), os.path.abspath(model)
    os.chdir(a.work)  # it leaves files where it runs
    try:
        quant_pre_process(model, pre)
    except Exception:
        pre = model
    finally:
        os.chdir(back)
    out, failed = {}, []
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile):
        try:
            quantize_static(pre, f"{base}-{method.name}.onnx", Reader(pre, calib), quant_format=QuantFormat.QDQ, per_channel=True,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method)
            session(f"{base}-{method.name}.onnx")
            out[method.name] = f"{base}-{method.name}.onnx"
        except Exception as e:
            failed.append(f"{method.name}: {type(e).__name__}")
    return out, failed


def ours(a, model, name, calib, extra):
    file = os.path.join(a.work, name + "-calib.npz")
    names = [i.name for i in session(model).get_inputs()]
    np.savez(file, **{(k if k in names else names[0]): v for k, v in calib.items()})
    out = os.path.join(a.work, f"{name}-lapidary{'-'.join(extra)}.onnx")
    if os.path.exists(out):
        os.remove(out)
    r = subprocess.run([a.lapidary, "quantize", model, "-o", out, "--data", file, "-q", *extra], capture_output=True, text=True)
    if r.returncode not in (0, 3):
        print(r.stderr.strip(), file=sys.stderr)
    return (out if os.path.exists(out) else None), r.stderr.strip().splitlines()[-1:] if r.returncode else []


def ratio(one, other, inputs, seconds=4.0):
    """Median over alternating pairs of the time of one over that of the other, with its middle half."""
    s = [session(one), session(other)]
    f = [feeds(x, inputs, 0) for x in s]
    for x, i in zip(s, f):
        for _ in range(3):
            x.run(None, i)
    t0 = time.perf_counter()
    for _ in range(5):
        s[0].run(None, f[0])
    n = max(1, int(0.01 / max((time.perf_counter() - t0) / 5, 1e-6)))
    list_, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(list_) < 8:
        d = []
        for k in ((0, 1) if len(list_) % 2 else (1, 0)):
            best = float("inf")
            for _ in range(n):
                t = time.perf_counter()
                s[k].run(None, f[k])
                best = min(best, time.perf_counter() - t)
            d.append((k, best))
        d = dict(d)
        list_.append(d[0] / d[1])
    return np.percentile(list_, [50, 25, 75])


def measure(a, name, extras=([], ["--for", "size"])):
    """What became of a model: the original's accuracy, results of both with their figures, models not written, and the peer's failures."""
    where, load, kind = MODELS[name]
    source = os.path.join(a.zoo, "models", name + ".onnx") if where == "zoo" else f"testdata/{name}.onnx"
    model = os.path.join(a.work, name + "-fused.onnx")
    subprocess.run([a.lapidary, "fuse", source, "-o", model, "-q", "--no-verify", "--opset", "13"], check=True, capture_output=True)
    inputs, labels, calib = load(a)
    want = outputs(model, inputs)
    base, _ = score(kind, want, want, labels)
    lines = []
    files, failed = peer(a, model, name, calib)
    scored = {m: score(kind, outputs(f, inputs), want, labels) for m, f in files.items()}
    best = max(scored, key=lambda m: (scored[m][0] or 0, scored[m][1])) if scored else None
    results = []
    if best:
        results.append((f"onnxruntime, {best}", files[best], scored[best]))
    for extra in extras:
        out, note = ours(a, model, name, calib, extra)
        if out is None:
            lines.append((f"lapidary {' '.join(extra)}", None, note))
        else:
            results.append((f"lapidary {' '.join(extra)}".strip(), out, score(kind, outputs(out, inputs), want, labels)))
    measured = []
    for label, file, (acc, sqnr) in results:
        measured.append({"by": label, "file": file, "right": right(kind, outputs(file, inputs), labels), "bytes": os.path.getsize(file), "accuracy": acc, "sqnr": sqnr, "to_float": ratio(file, model, inputs),
                         "to_peer": ratio(file, files[best], inputs) if best and file != files[best] else None})
    return {"accuracy": base, "results": measured, "unwritten": [(l.strip(), " ".join(n).split(": ")[-1][:120]) for l, _, n in lines], "failed": failed,
            "samples": len(want)}


def row(a, name):
    m, text = measure(a, name), []
    cell = lambda r: "–" if r is None else f"{r[0]:.2f} ({r[1]:.2f}–{r[2]:.2f})"
    for r in m["results"]:
        accuracy = "–" if r["accuracy"] is None else f"{m['accuracy']:.2f} → {r['accuracy']:.2f} %"
        text.append(f"| {name} | {r['by']} | {r['bytes'] / 1024:.0f} KiB | {accuracy} | {r['sqnr']:.1f} dB | {cell(r['to_float'])} | {cell(r['to_peer'])} |")
    for label, note in m["unwritten"]:
        text.append(f"| {name} | {label} | – | – | – | not written | {note} |")
    if m["failed"]:
        text.append(f"| {name} | onnxruntime | | | | failed: {', '.join(m['failed'])} | |")
    print("\n".join(text), flush=True)
    return text


def main():
    p = argparse.ArgumentParser()
    p.add_argument("models", nargs="*", default=list(MODELS))
    p.add_argument("--lapidary", default="bin/lapidary")
    p.add_argument("--zoo", default=os.environ.get("LAPIDARY_ZOO", "../shared/zoo"))
    p.add_argument("--work", default=".bench/quantize")
    p.add_argument("-o", default="docs/benchmarks-quantize.md")
    a = p.parse_args()
    unknown = [m for m in a.models if m not in MODELS]
    if unknown:
        sys.exit(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    os.makedirs(a.work, exist_ok=True)
    head = ["| model | int8 by | size | accuracy | SQNR | time / float | time / peer |", "|---|---|---|---|---|---|---|"]
    rows = [l for m in a.models for l in row(a, m)]
    if len(a.models) == len(MODELS):
        with open(a.o, "w") as f:
            f.write("# Int8 beside onnxruntime.quantization\n\n" + __doc__.split("\n\n", 1)[1].replace("\n", " ").strip() + "\n\n"
                    f"`make bench-quantize`, {today()} at commit {commit()}: {machine()}; {versions('onnxruntime', 'onnx')}. "
                    "Ratios are medians with their middle half; below 1 is faster.\n\n" + "\n".join(head + rows) + "\n")


if __name__ == "__main__":
    main()
