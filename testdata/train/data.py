"""Data sets: loading, splitting, and writing them in the forms that lapidary reads.

Both sets come with scikit-learn, so nothing is downloaded. Every split is drawn with a fixed
seed, class by class, after exact duplicates have been removed; `assert_disjoint` proves by row
digests that no sample is in two splits.
"""

import csv
import dataclasses
import hashlib
import pathlib
import shutil

import numpy as np
from PIL import Image
from sklearn import datasets

SIDE = 16  # side of a prepared digit image, in pixels


@dataclasses.dataclass(frozen=True)
class Split:
    """Samples (first axis) and their class labels (int64)."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self):
        return len(self.y)

    def take(self, index):
        return Split(self.x[index], self.y[index])


@dataclasses.dataclass(frozen=True)
class Sets:
    """`calib` is a part of `train`; `val` shares no sample with either."""

    train: Split
    calib: Split
    val: Split


def digits():
    """8-bit grey images, uint8 [N, 16, 16]: 0 is paper, 255 is ink."""
    raw = datasets.load_digits()
    images = upscale(raw.images, SIDE) * (255 / 16)
    whole = unique(Split(np.rint(images).astype(np.uint8), raw.target.astype(np.int64)))
    return split(whole, val_share=0.3, calib_per_class=20, seed=1)


def tumours():
    """Cell-nucleus measurements, float32 [N, 30]; label 0 is malignant, 1 is benign."""
    raw = datasets.load_breast_cancer()
    whole = unique(Split(raw.data.astype(np.float32), raw.target.astype(np.int64)))
    return split(whole, val_share=0.35, calib_per_class=50, seed=2), feature_names(raw)


def feature_names(raw):
    return [str(name).replace(" ", "_") for name in raw.feature_names]


def upscale(images, side):
    """Bilinear resize of square images [N, s, s], pixel centres at half integers, edges clamped."""
    size = images.shape[-1]
    at = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
    low = np.minimum(at.astype(int), size - 2)
    weight = np.zeros((side, size))
    weight[np.arange(side), low] = 1 - (at - low)
    weight[np.arange(side), low + 1] += at - low
    return weight @ images @ weight.T


def unit(images):
    """The models' image input: uint8 [N, H, W] to float32 [N, 1, H, W] in 0..1."""
    return images[:, None].astype(np.float32) / np.float32(255)


def split(whole, val_share, calib_per_class, seed):
    rng = np.random.default_rng(seed)
    train, calib, val = [], [], []
    for label in np.unique(whole.y):
        index = rng.permutation(np.flatnonzero(whole.y == label))
        held = round(len(index) * val_share)
        val.append(index[:held])
        train.append(index[held:])
        calib.append(index[held : held + calib_per_class])
    shuffled = [rng.permutation(np.concatenate(part)) for part in (train, calib, val)]
    sets = Sets(*(whole.take(index) for index in shuffled))
    assert_disjoint(sets)
    return sets


def row_digests(x):
    return [hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest() for row in x]


def unique(whole):
    """Keeps the first of every group of identical samples."""
    first = {}
    for i, digest in enumerate(row_digests(whole.x)):
        first.setdefault(digest, i)
    return whole.take(sorted(first.values()))


def assert_disjoint(sets):
    train, calib, val = (set(row_digests(s.x)) for s in (sets.train, sets.calib, sets.val))
    assert len(train) == len(sets.train) and len(val) == len(sets.val), "duplicate rows"
    assert calib <= train, "calibration rows must come from the training split"
    assert not val & train, "validation rows overlap the training split"


def write_npz(path, name, x, y):
    np.savez(path, **{name: x, "labels": y})


def write_images(folder, images, labels):
    """One PNG per sample and labels.tsv (file, label)."""
    folder = pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = []
    for i, (image, label) in enumerate(zip(images, labels)):
        rows.append((f"{i:03d}.png", int(label)))
        Image.fromarray(image).save(folder / rows[-1][0], optimize=True)
    with open(folder / "labels.tsv", "w", newline="") as f:
        table = csv.writer(f, delimiter="\t", lineterminator="\n")
        table.writerow(("file", "label"))
        table.writerows(rows)


def write_csv(path, columns, x, y):
    """Shortest decimals that read back as the same float32."""
    with open(path, "w", newline="") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow([*columns, "label"])
        for row, label in zip(x, y):
            table.writerow([np.format_float_positional(v, trim="-") for v in row] + [int(label)])
