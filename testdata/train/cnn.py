"""Convolutional digit classifier: BatchNormalization after every convolution, a plain, a
projected and an inverted residual block, and two depthwise-separable blocks.

The input is normalized inside the model. The file is written as a tracing exporter would: literals
are Constant nodes, dropout has become an Identity, BatchNormalization nodes are kept.
"""

import jax
import jax.numpy as jnp
import numpy as np

import exporter
import nn

NAME, INPUT, OUTPUT, CLASSES = "digits-cnn", "image", "logits", 10
MEAN, STD = 0.306, 0.319  # of the training pixels
DROPOUT = 0.2

# name: (out channels, in channels per group, kernel, stride, bias). Depthwise: one per group.
CONVS = {
    "stem": (24, 1, 3, 1, True),
    "res1.a": (24, 24, 3, 1, False),
    "res1.b": (24, 24, 3, 1, False),
    "sep1.depthwise": (24, 1, 3, 2, False),
    "sep1.pointwise": (48, 24, 1, 1, False),
    "inv.expand": (96, 48, 1, 1, False),
    "inv.depthwise": (96, 1, 3, 1, False),
    "inv.project": (48, 96, 1, 1, False),
    "res2.a": (64, 48, 3, 2, False),
    "res2.b": (64, 64, 3, 1, False),
    "res2.shortcut": (64, 48, 1, 2, False),
    "sep2.depthwise": (64, 1, 3, 1, False),
    "sep2.pointwise": (96, 64, 1, 1, False),
}
FEATURES = 96


def init(seed):
    rng = np.random.default_rng(seed)
    params, state = {}, {}
    for name, (out, inner, kernel, _, bias) in CONVS.items():
        shape = (out, inner, kernel, kernel)
        params[f"{name}.conv.weight"] = nn.he_normal(rng, shape, inner * kernel * kernel)
        if bias:
            params[f"{name}.conv.bias"] = np.zeros(out, np.float32)
        nn.add_batchnorm(params, state, f"{name}.bn", out)
    params["head.fc.weight"] = nn.normal(rng, (CLASSES, FEATURES), FEATURES**-0.5)
    params["head.fc.bias"] = np.zeros(CLASSES, np.float32)
    return params, state


def is_depthwise(name):
    return name.endswith("depthwise")


def depthwise(x, weight, stride):
    """3×3, padding 1, as nine shifted products: XLA on a CPU is slow at grouped convolutions."""
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + h : stride, j : j + w : stride] * weight[:, 0, i, j]
        for i in range(3)
        for j in range(3)
    )


def forward(params, state, x, key):
    changed = {}

    def conv_bn(name, x):
        _, _, kernel, stride, bias = CONVS[name]
        weight = params[f"{name}.conv.weight"]
        if is_depthwise(name):
            x = depthwise(x, weight, stride)
        else:
            pad = [(kernel // 2, kernel // 2)] * 2
            x = jax.lax.conv_general_dilated(
                x, weight.transpose(2, 3, 1, 0), (stride, stride), pad,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        if bias:
            x = x + params[f"{name}.conv.bias"]
        y, update = nn.batchnorm(params, state, f"{name}.bn", x, key is not None)
        changed.update(update)
        return y

    relu, relu6 = jax.nn.relu, jax.nn.relu6
    x = (x.transpose(0, 2, 3, 1) - MEAN) / STD
    x = relu(conv_bn("stem", x))
    x = relu(conv_bn("res1.b", relu(conv_bn("res1.a", x))) + x)
    x = relu6(conv_bn("sep1.depthwise", x))
    x = relu6(conv_bn("sep1.pointwise", x))
    y = relu6(conv_bn("inv.depthwise", relu6(conv_bn("inv.expand", x))))
    x = conv_bn("inv.project", y) + x
    y = conv_bn("res2.b", relu(conv_bn("res2.a", x)))
    x = relu(y + conv_bn("res2.shortcut", x))
    x = relu6(conv_bn("sep2.depthwise", x))
    x = relu6(conv_bn("sep2.pointwise", x))
    x = x.mean((1, 2))
    if key is not None:
        x = nn.dropout(key, x, DROPOUT)
    return x @ params["head.fc.weight"].T + params["head.fc.bias"], changed


def train(x, y):
    params, state = init(seed=11)
    return nn.fit(
        forward, params, state, x, y,
        epochs=80, batch=64, peak=3e-3, decay=0.02, smoothing=0.05, augment=nn.random_affine, seed=12,
    )


def export(params, state):
    g = exporter.Graph()

    def conv_bn(name, x):
        out, _, kernel, stride, bias = CONVS[name]
        path = "/" + name.replace(".", "/")
        weights = [g.weight(f"{name}.conv.weight", params[f"{name}.conv.weight"])]
        if bias:
            weights.append(g.weight(f"{name}.conv.bias", params[f"{name}.conv.bias"]))
        x = g.node(
            f"{path}/conv/Conv", "Conv", x, *weights,
            dilations=[1, 1], group=out if is_depthwise(name) else 1,
            kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, strides=[stride] * 2,
        )
        norm = [g.weight(f"{name}.bn.{p}", params[f"{name}.bn.{p}"]) for p in ("weight", "bias")]
        norm += [
            g.weight(f"{name}.bn.{s}", state[f"{name}.bn.{s}"])
            for s in ("running_mean", "running_var")
        ]
        return g.node(
            f"{path}/bn/BatchNormalization", "BatchNormalization", x, *norm,
            epsilon=nn.BATCHNORM_EPSILON, momentum=nn.BATCHNORM_MOMENTUM, training_mode=0,
        )

    def relu(path, x):
        return g.node(f"{path}/relu/Relu", "Relu", x)

    def relu6(path, x):
        low = g.constant(f"{path}/relu6/Constant", 0, np.float32)
        high = g.constant(f"{path}/relu6/Constant_1", 6, np.float32)
        return g.node(f"{path}/relu6/Clip", "Clip", x, low, high)

    mean = g.constant("/normalize/Constant", MEAN, np.float32)
    x = g.node("/normalize/Sub", "Sub", INPUT, mean)
    std = g.constant("/normalize/Constant_1", STD, np.float32)
    x = g.node("/normalize/Div", "Div", x, std)
    x = relu("/stem", conv_bn("stem", x))
    y = conv_bn("res1.b", relu("/res1/a", conv_bn("res1.a", x)))
    x = relu("/res1", g.node("/res1/Add", "Add", y, x))
    x = relu6("/sep1/depthwise", conv_bn("sep1.depthwise", x))
    x = relu6("/sep1/pointwise", conv_bn("sep1.pointwise", x))
    y = relu6("/inv/expand", conv_bn("inv.expand", x))
    y = relu6("/inv/depthwise", conv_bn("inv.depthwise", y))
    x = g.node("/inv/Add", "Add", conv_bn("inv.project", y), x)
    y = conv_bn("res2.b", relu("/res2/a", conv_bn("res2.a", x)))
    x = relu("/res2", g.node("/res2/Add", "Add", y, conv_bn("res2.shortcut", x)))
    x = relu6("/sep2/depthwise", conv_bn("sep2.depthwise", x))
    x = relu6("/sep2/pointwise", conv_bn("sep2.pointwise", x))
    x = g.node("/head/pool/GlobalAveragePool", "GlobalAveragePool", x)
    shape = g.constant("/head/Constant", [-1, FEATURES])
    x = g.node("/head/Reshape", "Reshape", x, shape)
    x = g.node("/head/dropout/Identity", "Identity", x)
    fc = [g.weight(f"head.fc.{p}", params[f"head.fc.{p}"]) for p in ("weight", "bias")]
    g.node("/head/fc/Gemm", "Gemm", x, *fc, out=OUTPUT, alpha=1.0, beta=1.0, transB=1)
    return g.model(
        NAME,
        [exporter.floats(INPUT, "N", 1, 16, 16)],
        [exporter.floats(OUTPUT, "N", CLASSES)],
        opset=17, ir_version=8,
        doc="Digit classifier. Input: grey image, 0..1, ink is 1.",
    )
