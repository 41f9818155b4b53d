"""Tabular classifier: standardization, two hidden layers, and two outputs of different type.

Written as converters of Keras and scikit-learn models write it: MatMul and Add rather than Gemm,
BatchNormalization on a matrix, the scaler as Sub and Div, probabilities beside the chosen label.
"""

import jax
import numpy as np

import exporter
import nn

NAME, INPUT, OUTPUT, LABEL, CLASSES = "tabular-mlp", "features", "probabilities", "label", 2
FEATURES, WIDTHS = 30, (160, 96)
DROPOUT = 0.3


def init(seed, x):
    rng = np.random.default_rng(seed)
    params, state = {}, {"scaler.mean": x.mean(0), "scaler.scale": x.std(0)}
    for name, n_in, n_out in (
        ("dense1", FEATURES, WIDTHS[0]), ("dense2", *WIDTHS), ("dense3", WIDTHS[1], CLASSES),
    ):
        params[f"{name}.kernel"] = nn.he_normal(rng, (n_in, n_out), n_in)
        params[f"{name}.bias"] = np.zeros(n_out, np.float32)
    nn.add_batchnorm(params, state, "bn1", WIDTHS[0])
    return params, state


def forward(params, state, x, key):
    """Logits; the exported model ends in their softmax."""
    def dense(name, x):
        return x @ params[f"{name}.kernel"] + params[f"{name}.bias"]

    def drop(x, index):
        return x if key is None else nn.dropout(jax.random.fold_in(key, index), x, DROPOUT)

    x = (x - state["scaler.mean"]) / state["scaler.scale"]
    if key is not None:
        x = nn.add_noise(jax.random.fold_in(key, 0), x)
    x, changed = nn.batchnorm(params, state, "bn1", dense("dense1", x), key is not None)
    x = drop(jax.nn.relu(x), 1)
    x = drop(jax.nn.relu(dense("dense2", x)), 2)
    return dense("dense3", x), changed


def train(x, y):
    params, state = init(31, x)
    return nn.fit(
        forward, params, state, x, y,
        epochs=100, batch=32, peak=2e-3, decay=0.05, smoothing=0.02, augment=lambda key, x: x, seed=32,
    )


def export(params, state):
    g = exporter.Graph()

    def dense(name, x):
        x = g.node(f"{name}/MatMul", "MatMul", x, g.weight(f"{name}.kernel", params[f"{name}.kernel"]))
        return g.node(f"{name}/BiasAdd", "Add", x, g.weight(f"{name}.bias", params[f"{name}.bias"]))

    x = g.node("scaler/Sub", "Sub", INPUT, g.weight("scaler.mean", state["scaler.mean"]))
    x = g.node("scaler/Div", "Div", x, g.weight("scaler.scale", state["scaler.scale"]))
    norm = [g.weight(f"bn1.{p}", params[f"bn1.{p}"]) for p in ("weight", "bias")]
    norm += [g.weight(f"bn1.{s}", state[f"bn1.{s}"]) for s in ("running_mean", "running_var")]
    x = g.node("bn1/BatchNormalization", "BatchNormalization", dense("dense1", x), *norm,
               epsilon=nn.BATCHNORM_EPSILON, momentum=nn.BATCHNORM_MOMENTUM)
    x = g.node("dense1/Relu", "Relu", x)
    x = g.node("dense2/Relu", "Relu", dense("dense2", x))
    g.node("softmax/Softmax", "Softmax", dense("dense3", x), out=OUTPUT, axis=-1)
    g.node("argmax/ArgMax", "ArgMax", OUTPUT, out=LABEL, axis=1, keepdims=0)
    return g.model(
        NAME,
        [exporter.floats(INPUT, "N", FEATURES)],
        [exporter.floats(OUTPUT, "N", CLASSES), exporter.int64s(LABEL, "N")],
        opset=13, ir_version=7,
        doc="Benign (1) or malignant (0) from 30 measurements of cell nuclei. Not for medical use.",
    )
