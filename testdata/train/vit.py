"""Vision transformer for digits: 4×4 patches, class token, pre-norm blocks (Dosovitskiy et al. 2021).

The file keeps what a tracing exporter leaves of such a model: LayerNormalization and GELU as
elementary operators, shapes computed at run time, one matrix for query, key and value.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

import exporter
import nn

NAME, INPUT, OUTPUT, CLASSES = "digits-vit", "image", "logits", 10
PATCH, TOKENS, WIDTH, HIDDEN, HEADS, DEPTH = 4, 16, 64, 128, 4, 4
HEAD_WIDTH = WIDTH // HEADS
EPSILON = 1e-6
DROPOUT = 0.1


def linear_sizes(block):
    return {
        f"{block}.attn.qkv": (WIDTH, 3 * WIDTH),
        f"{block}.attn.proj": (WIDTH, WIDTH),
        f"{block}.mlp.fc1": (WIDTH, HIDDEN),
        f"{block}.mlp.fc2": (HIDDEN, WIDTH),
    }


def init(seed):
    rng = np.random.default_rng(seed)
    params = {
        "patch_embed.weight": nn.normal(rng, (WIDTH, 1, PATCH, PATCH), 1 / PATCH),
        "patch_embed.bias": np.zeros(WIDTH, np.float32),
        "cls_token": nn.normal(rng, (1, 1, WIDTH), 0.02),
        "pos_embed": nn.normal(rng, (1, TOKENS + 1, WIDTH), 0.02),
    }
    for b in range(DEPTH):
        for name, (n_in, n_out) in linear_sizes(f"blocks.{b}").items():
            params[f"{name}.weight"] = nn.normal(rng, (n_in, n_out), math.sqrt(2 / (n_in + n_out)))
            params[f"{name}.bias"] = np.zeros(n_out, np.float32)
    norms = [f"blocks.{b}.norm{i}" for b in range(DEPTH) for i in (1, 2)] + ["norm"]
    for name in norms:
        params[f"{name}.weight"] = np.ones(WIDTH, np.float32)
        params[f"{name}.bias"] = np.zeros(WIDTH, np.float32)
    params["head.weight"] = nn.normal(rng, (CLASSES, WIDTH), WIDTH**-0.5)
    params["head.bias"] = np.zeros(CLASSES, np.float32)
    return params, {}


def layernorm(params, name, x):
    centred = x - x.mean(-1, keepdims=True)
    deviation = jnp.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
    return centred / deviation * params[f"{name}.weight"] + params[f"{name}.bias"]


def linear(params, name, x):
    return x @ params[f"{name}.weight"] + params[f"{name}.bias"]


def attention(params, name, x):
    n, tokens, _ = x.shape
    qkv = linear(params, f"{name}.qkv", x).reshape(n, tokens, 3, HEADS, HEAD_WIDTH)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    weights = jax.nn.softmax(q @ k.transpose(0, 1, 3, 2) * HEAD_WIDTH**-0.5)
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(n, tokens, WIDTH)
    return linear(params, f"{name}.proj", mixed)


def mlp(params, name, x):
    hidden = jax.nn.gelu(linear(params, f"{name}.fc1", x), approximate=False)
    return linear(params, f"{name}.fc2", hidden)


def forward(params, state, x, key):
    def drop(x, index):
        return x if key is None else nn.dropout(jax.random.fold_in(key, index), x, DROPOUT)

    n, _, h, w = x.shape
    patches = x.reshape(n, h // PATCH, PATCH, w // PATCH, PATCH).transpose(0, 1, 3, 2, 4)
    kernel = params["patch_embed.weight"].reshape(WIDTH, PATCH * PATCH)
    x = patches.reshape(n, TOKENS, PATCH * PATCH) @ kernel.T + params["patch_embed.bias"]
    x = jnp.concatenate([jnp.broadcast_to(params["cls_token"], (n, 1, WIDTH)), x], 1)
    x = x + params["pos_embed"]
    for b in range(DEPTH):
        name = f"blocks.{b}"
        x = x + drop(attention(params, f"{name}.attn", layernorm(params, f"{name}.norm1", x)), 2 * b)
        x = x + drop(mlp(params, f"{name}.mlp", layernorm(params, f"{name}.norm2", x)), 2 * b + 1)
    x = layernorm(params, "norm", x)[:, 0]
    return x @ params["head.weight"].T + params["head.bias"], state


def train(x, y):
    params, state = init(seed=21)
    return nn.fit(
        forward, params, state, x, y,
        epochs=240, batch=64, peak=1.5e-3, decay=0.05, smoothing=0.05, augment=nn.random_affine, seed=22,
    )


class Writer:
    """Writes the parts of the transformer into a graph."""

    def __init__(self, params):
        self.g = exporter.Graph()
        self.params = params

    def weight(self, name):
        return self.g.weight(name, self.params[name])

    def dimension(self, path, x, axis):
        """Size of one axis as a vector of one element."""
        shape = self.g.node(f"{path}/Shape", "Shape", x)
        index = self.g.constant(f"{path}/Constant", axis)
        size = self.g.node(f"{path}/Gather", "Gather", shape, index, axis=0)
        return self.as_vector(path, size)

    def as_vector(self, path, size):
        axes = self.g.constant(f"{path}/Constant_1", [0])
        return self.g.node(f"{path}/Unsqueeze", "Unsqueeze", size, axes)

    def layernorm(self, name, x):
        g, path = self.g, "/" + name.replace(".", "/")
        last = g.constant(f"{path}/Constant", [-1])
        mean = g.node(f"{path}/ReduceMean", "ReduceMean", x, last, keepdims=1)
        centred = g.node(f"{path}/Sub", "Sub", x, mean)
        two = g.constant(f"{path}/Constant_1", 2, np.float32)
        square = g.node(f"{path}/Pow", "Pow", centred, two)
        last = g.constant(f"{path}/Constant_2", [-1])
        variance = g.node(f"{path}/ReduceMean_1", "ReduceMean", square, last, keepdims=1)
        epsilon = g.constant(f"{path}/Constant_3", EPSILON, np.float32)
        root = g.node(f"{path}/Sqrt", "Sqrt", g.node(f"{path}/Add", "Add", variance, epsilon))
        x = g.node(f"{path}/Div", "Div", centred, root)
        x = g.node(f"{path}/Mul", "Mul", x, self.weight(f"{name}.weight"))
        return g.node(f"{path}/Add_1", "Add", x, self.weight(f"{name}.bias"))

    def linear(self, name, x):
        path = "/" + name.replace(".", "/")
        x = self.g.node(f"{path}/MatMul", "MatMul", x, self.weight(f"{name}.weight"))
        return self.g.node(f"{path}/Add", "Add", self.weight(f"{name}.bias"), x)

    def gelu(self, path, x):
        g = self.g
        root = g.constant(f"{path}/Constant", math.sqrt(2), np.float32)
        erf = g.node(f"{path}/Erf", "Erf", g.node(f"{path}/Div", "Div", x, root))
        one = g.constant(f"{path}/Constant_1", 1, np.float32)
        y = g.node(f"{path}/Mul", "Mul", x, g.node(f"{path}/Add", "Add", erf, one))
        half = g.constant(f"{path}/Constant_2", 0.5, np.float32)
        return g.node(f"{path}/Mul_1", "Mul", y, half)

    def attention(self, name, x):
        g, path = self.g, "/" + name.replace(".", "/")
        n = self.dimension(f"{path}/n", x, 0)
        tokens = self.dimension(f"{path}/tokens", x, 1)
        split = [g.constant(f"{path}/split_{v}", [v]) for v in (3, HEADS, HEAD_WIDTH)]
        shape = g.node(f"{path}/Concat", "Concat", n, tokens, *split, axis=0)
        qkv = g.node(f"{path}/Reshape", "Reshape", self.linear(f"{name}.qkv", x), shape)
        qkv = g.node(f"{path}/Transpose", "Transpose", qkv, perm=[2, 0, 3, 1, 4])
        q, k, v = (
            g.node(f"{path}/{part}/Gather", "Gather", qkv, g.constant(f"{path}/{part}/Constant", i), axis=0)
            for i, part in enumerate("qkv")
        )
        k = g.node(f"{path}/Transpose_1", "Transpose", k, perm=[0, 1, 3, 2])
        scores = g.node(f"{path}/MatMul", "MatMul", q, k)
        scale = g.constant(f"{path}/scale", HEAD_WIDTH**-0.5, np.float32)
        weights = g.node(f"{path}/Softmax", "Softmax", g.node(f"{path}/Mul", "Mul", scores, scale), axis=-1)
        mixed = g.node(f"{path}/MatMul_1", "MatMul", weights, v)
        mixed = g.node(f"{path}/Transpose_2", "Transpose", mixed, perm=[0, 2, 1, 3])
        width = g.constant(f"{path}/width", [WIDTH])
        shape = g.node(f"{path}/Concat_1", "Concat", n, tokens, width, axis=0)
        return self.linear(f"{name}.proj", g.node(f"{path}/Reshape_1", "Reshape", mixed, shape))

    def mlp(self, name, x):
        path = "/" + name.replace(".", "/")
        hidden = self.gelu(f"{path}/act", self.linear(f"{name}.fc1", x))
        return self.linear(f"{name}.fc2", hidden)

    def patches(self, x):
        """Convolution, then [N, WIDTH, 4, 4] to [N, 16, WIDTH] by a shape cut from the tensor's own."""
        g, path = self.g, "/patch_embed"
        x = g.node(
            f"{path}/Conv", "Conv", x, self.weight("patch_embed.weight"), self.weight("patch_embed.bias"),
            dilations=[1, 1], group=1, kernel_shape=[PATCH] * 2, pads=[0] * 4, strides=[PATCH] * 2,
        )
        shape = g.node(f"{path}/Shape", "Shape", x)
        bounds = [g.constant(f"{path}/{name}", [v]) for name, v in (("starts", 0), ("ends", 2), ("axes", 0))]
        kept = g.node(f"{path}/Slice", "Slice", shape, *bounds)
        rest = g.constant(f"{path}/Constant", [-1])
        shape = g.node(f"{path}/Concat", "Concat", kept, rest, axis=0)
        x = g.node(f"{path}/Reshape", "Reshape", x, shape)
        return g.node(f"{path}/Transpose", "Transpose", x, perm=[0, 2, 1])

    def class_token(self):
        """cls_token.expand(N, -1, -1), with the -1 resolved at run time."""
        g, path = self.g, "/cls_token"
        n = self.dimension(f"{path}/n", INPUT, 0)
        keep = [g.constant(f"{path}/Constant_{i}", [-1]) for i in (1, 2)]
        wanted = g.node(f"{path}/Concat", "Concat", n, *keep, axis=0)
        rank = g.constant(f"{path}/Constant_3", [3])
        ones = g.node(f"{path}/ConstantOfShape", "ConstantOfShape", rank, value=exporter.one_int64())
        minus = g.constant(f"{path}/Constant_4", -1)
        unknown = g.node(f"{path}/Equal", "Equal", wanted, g.node(f"{path}/Mul", "Mul", ones, minus))
        shape = g.node(f"{path}/Where", "Where", unknown, ones, wanted)
        return g.node(f"{path}/Expand", "Expand", self.weight("cls_token"), shape)


def export(params, state):
    w = Writer(params)
    g = w.g
    x = g.node("/Concat", "Concat", w.class_token(), w.patches(INPUT), axis=1)
    x = g.node("/Add", "Add", x, w.weight("pos_embed"))
    for b in range(DEPTH):
        name = f"blocks.{b}"
        y = w.attention(f"{name}.attn", w.layernorm(f"{name}.norm1", x))
        x = g.node(f"/blocks/{b}/Add", "Add", x, y)
        y = w.mlp(f"{name}.mlp", w.layernorm(f"{name}.norm2", x))
        x = g.node(f"/blocks/{b}/Add_1", "Add", x, y)
    x = w.layernorm("norm", x)
    x = g.node("/head/Gather", "Gather", x, g.constant("/head/Constant", 0), axis=1)
    g.node("/head/Gemm", "Gemm", x, w.weight("head.weight"), w.weight("head.bias"), out=OUTPUT, transB=1)
    return g.model(
        NAME,
        [exporter.floats(INPUT, "N", 1, 16, 16)],
        [exporter.floats(OUTPUT, "N", CLASSES)],
        opset=20, ir_version=10,
        doc="Digit classifier. Input: grey image, 0..1, ink is 1.",
    )
