"""Makes everything in testdata/: the data files, the three models, SHA256SUMS.

    python train.py              # everything
    python train.py digits-vit   # the data and only this model

Same machine type and same package versions give the same bytes.
"""

import os

# Before JAX is imported: one thread, so that sums are always taken in the same order.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import argparse
import hashlib
import pathlib

import jax
import numpy as np
import onnx
import onnxruntime

import cnn
import data
import tabular
import vit

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMAGES = 200  # held-out digits that are also written as PNG files


def write_digits(sets):
    val, calib = sets.val, sets.calib
    data.write_npz(ROOT / "digits-val.npz", cnn.INPUT, data.unit(val.x), val.y)
    data.write_npz(ROOT / "digits-calib.npz", cnn.INPUT, data.unit(calib.x), calib.y)
    data.write_images(ROOT / "digits-png", val.x[:IMAGES], val.y[:IMAGES])


def write_tabular(sets, columns):
    val, calib = sets.val, sets.calib
    data.write_npz(ROOT / "tabular-val.npz", tabular.INPUT, val.x, val.y)
    data.write_npz(ROOT / "tabular-calib.npz", tabular.INPUT, calib.x, calib.y)
    data.write_csv(ROOT / "tabular-val.csv", columns, val.x, val.y)


def make(model, train, val):
    """Trains, exports, and checks the file in ONNX Runtime against the network that was trained."""
    print(f"{model.NAME}: {len(train)} training samples", flush=True)
    params, state = model.train(train.x, train.y)
    path = ROOT / f"{model.NAME}.onnx"
    onnx.save(model.export(params, state), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run([model.OUTPUT], {model.INPUT: val.x})[0]
    want = np.asarray(model.forward(params, state, val.x, None)[0])
    if model is tabular:
        want = np.asarray(jax.nn.softmax(want))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    right = int((got.argmax(-1) == val.y).sum())
    count = sum(v.size for v in [*params.values(), *state.values()])
    print(f"  {right}/{len(val)} held-out samples right, {count} values, {path.stat().st_size} bytes")


def write_digests():
    names = [p for pattern in ("*.onnx", "*.npz", "*.csv", "digits-png/*") for p in ROOT.glob(pattern)]
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(ROOT)}\n" for p in sorted(names)]
    (ROOT / "SHA256SUMS").write_text("".join(lines))


def main():
    names = [m.NAME for m in (cnn, vit, tabular)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"one of {', '.join(names)}; default: all")
    wanted = parser.parse_args().models or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no model named {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    digits = data.digits()
    tumours, columns = data.tumours()
    write_digits(digits)
    write_tabular(tumours, columns)
    as_input = lambda s: data.Split(data.unit(s.x), s.y)
    for model, sets in ((cnn, digits), (vit, digits), (tabular, tumours)):
        if model.NAME in wanted:
            prepare = (lambda s: s) if model is tabular else as_input
            make(model, prepare(sets.train), prepare(sets.val))
    write_digests()


if __name__ == "__main__":
    main()
