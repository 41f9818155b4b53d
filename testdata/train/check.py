"""Checks the committed files in testdata/ and prints the facts that README.md states.

    python check.py

Reads only the files: nothing of the training code is used, so a file that says something else
than the scripts is found.
"""

import collections
import csv
import hashlib
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = (  # name, data, input, output that holds one score per class
    ("digits-cnn", "digits", "image", "logits"),
    ("digits-vit", "digits", "image", "logits"),
    ("tabular-mlp", "tabular", "features", "probabilities"),
)


def load(name):
    with np.load(ROOT / name) as arrays:
        (key,) = set(arrays) - {"labels"}
        return key, arrays[key], arrays["labels"]


def run(path, level, outputs, feed):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(outputs, feed)


def check_model(name, data, input_name, output):
    path = ROOT / f"{name}.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    key, x, labels = load(f"{data}-val.npz")
    assert key == input_name == model.graph.input[0].name
    assert x.dtype == np.float32 and labels.dtype == np.int64
    levels = onnxruntime.GraphOptimizationLevel
    plain = run(path, levels.ORT_DISABLE_ALL, [output], {key: x})[0]
    optimized = run(path, levels.ORT_ENABLE_ALL, [output], {key: x})[0]
    assert (plain.argmax(-1) == optimized.argmax(-1)).all(), f"{name}: optimization changes labels"
    single = run(path, levels.ORT_DISABLE_ALL, [output], {key: x[:1]})[0]
    np.testing.assert_allclose(single, plain[:1], rtol=1e-4, atol=1e-5, err_msg=f"{name}: batch of one")
    right = int((plain.argmax(-1) == labels).sum())
    values = sum(numpy_helper.to_array(t).size for t in model.graph.initializer)
    print(f"{name}: {right}/{len(labels)} = {right / len(labels):.2%} right, {values} values, "
          f"{path.stat().st_size} bytes, opset {model.opset_import[0].version}, IR {model.ir_version}, "
          f"{len(model.graph.node)} nodes, max |optimized - plain| {np.abs(plain - optimized).max():.1e}")
    count = collections.Counter(node.op_type for node in model.graph.node)
    print("  " + ", ".join(f"{op} {n}" for op, n in sorted(count.items())))


def check_disjoint(data):
    _, val, _ = load(f"{data}-val.npz")
    _, calib, labels = load(f"{data}-calib.npz")
    digests = [{hashlib.sha256(row.tobytes()).digest() for row in part} for part in (val, calib)]
    assert [len(d) for d in digests] == [len(val), len(calib)], f"{data}: duplicate rows"
    assert not digests[0] & digests[1], f"{data}: calibration and validation overlap"
    print(f"{data}: {len(val)} validation and {len(calib)} calibration samples, disjoint; "
          f"calibration per class {np.bincount(labels).tolist()}")


def check_images():
    """The PNG files are the first rows of digits-val.npz, bit for bit after division by 255."""
    _, val, labels = load("digits-val.npz")
    with open(ROOT / "digits-png" / "labels.tsv", newline="") as f:
        rows = list(csv.DictReader(f, delimiter="\t"))
    for i, row in enumerate(rows):
        image = np.asarray(Image.open(ROOT / "digits-png" / row["file"]))
        assert image.dtype == np.uint8 and int(row["label"]) == labels[i], row
        np.testing.assert_array_equal(image.astype(np.float32) / np.float32(255), val[i, 0])
    print(f"digits-png: {len(rows)} images equal to the first rows of digits-val.npz")


def check_csv():
    _, val, labels = load("tabular-val.npz")
    with open(ROOT / "tabular-val.csv", newline="") as f:
        rows = np.array(list(csv.reader(f))[1:])
    np.testing.assert_array_equal(rows[:, :-1].astype(np.float32), val)
    np.testing.assert_array_equal(rows[:, -1].astype(np.int64), labels)
    print(f"tabular-val.csv: {len(rows)} rows equal to tabular-val.npz")


def check_digests():
    listed = {}
    for line in (ROOT / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        listed[name] = digest
        assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == digest, f"{name}: digest differs"
    readme = (ROOT / "README.md").read_text()
    missing = [n for n, d in listed.items() if not n.startswith("digits-png/") and d not in readme]
    assert not missing, f"README.md lacks the digests of {', '.join(missing)}"
    print(f"SHA256SUMS: {len(listed)} files as listed")


def main():
    for facts in MODELS:
        check_model(*facts)
    check_disjoint("digits")
    check_disjoint("tabular")
    check_images()
    check_csv()
    check_digests()


if __name__ == "__main__":
    sys.exit(main())
