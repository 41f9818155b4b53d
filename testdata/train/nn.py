"""Training: parameters, layers shared by the models, augmentation, AdamW and the loop.

A model is a pair of flat dictionaries, `params` (trained) and `state` (running statistics), with
the names and layouts of the ONNX initializers they become, and a function
`forward(params, state, x, key) -> (logits, state)`; `key` is None at inference.
"""

import jax
import jax.numpy as jnp
import numpy as np

BATCHNORM_EPSILON = 1e-5
BATCHNORM_MOMENTUM = 0.9


def he_normal(rng, shape, fan_in):
    return rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)


def normal(rng, shape, deviation):
    return rng.normal(0, deviation, shape).astype(np.float32)


def add_batchnorm(params, state, name, channels):
    params[f"{name}.weight"] = np.ones(channels, np.float32)
    params[f"{name}.bias"] = np.zeros(channels, np.float32)
    state[f"{name}.running_mean"] = np.zeros(channels, np.float32)
    state[f"{name}.running_var"] = np.ones(channels, np.float32)


def batchnorm(params, state, name, x, training):
    """Over the last axis. Returns y and the entries of `state` that change."""
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    changed = {}
    if training:
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        batch_mean, batch_var = x.mean(axes), x.var(axes)
        keep = BATCHNORM_MOMENTUM
        changed[f"{name}.running_mean"] = keep * mean + (1 - keep) * batch_mean
        changed[f"{name}.running_var"] = keep * var + (1 - keep) * batch_var * count / (count - 1)
        mean, var = batch_mean, batch_var
    y = (x - mean) * jax.lax.rsqrt(var + BATCHNORM_EPSILON)
    return y * params[f"{name}.weight"] + params[f"{name}.bias"], changed


def dropout(key, x, rate):
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def random_affine(key, x, turn=0.17, zoom=0.12, shear=0.12, shift=1.6):
    """Images [N, 1, H, W], each turned, scaled, sheared (radians, fractions) and moved (pixels)."""
    n, _, h, w = x.shape
    keys = jax.random.split(key, 4)
    angle = jax.random.uniform(keys[0], (n,), minval=-turn, maxval=turn)
    scale = 1 + jax.random.uniform(keys[1], (n, 2), minval=-zoom, maxval=zoom)
    slant = jax.random.uniform(keys[2], (n,), minval=-shear, maxval=shear)
    move = jax.random.uniform(keys[3], (n, 2), minval=-shift, maxval=shift)
    rows, cols = jnp.mgrid[0:h, 0:w]
    centre = jnp.array([(h - 1) / 2, (w - 1) / 2])
    grid = jnp.stack([rows, cols], -1) - centre

    def one(image, angle, scale, slant, move):
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        matrix = jnp.array([[cos, -sin], [sin, cos]]) @ jnp.array([[1, 0], [slant, 1]]) * scale
        at = grid @ matrix.T + centre + move
        return jax.scipy.ndimage.map_coordinates(image, [at[..., 0], at[..., 1]], order=1)

    return jax.vmap(one)(x[:, 0], angle, scale, slant, move)[:, None]


def add_noise(key, x, deviation=0.1):
    return x + deviation * jax.random.normal(key, x.shape)


def cross_entropy(logits, labels, smoothing):
    classes = logits.shape[-1]
    target = jax.nn.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
    return -(target * jax.nn.log_softmax(logits)).sum(-1).mean()


def schedule(step, steps, peak, warmup):
    """Linear warm-up, then a half cosine to zero."""
    progress = jnp.clip((step - warmup) / (steps - warmup), 0, 1)
    return peak * jnp.minimum((step + 1) / warmup, 1) * (1 + jnp.cos(jnp.pi * progress)) / 2


def adamw(params, grads, moments, step, rate, decay):
    """One step of AdamW (Loshchilov and Hutter 2019); only tensors of rank 2 and up decay."""
    new_params, new_moments = {}, {}
    for name, p in params.items():
        m, v = moments[name]
        m = 0.9 * m + 0.1 * grads[name]
        v = 0.99 * v + 0.01 * grads[name] ** 2
        update = (m / (1 - 0.9 ** (step + 1))) / (jnp.sqrt(v / (1 - 0.99 ** (step + 1))) + 1e-8)
        new_params[name] = p - rate * (update + (decay if p.ndim > 1 else 0) * p)
        new_moments[name] = (m, v)
    return new_params, new_moments


def fit(forward, params, state, x, y, *, epochs, batch, peak, decay, smoothing, augment, seed):
    """Trains on all of (x, y) for a fixed number of epochs; the last step's weights are returned."""
    per_epoch = len(y) // batch
    steps = epochs * per_epoch

    @jax.jit
    def update(params, state, moments, step, key, x, y):
        augment_key, forward_key = jax.random.split(key)
        x = augment(augment_key, x)

        def loss(params):
            logits, changed = forward(params, state, x, forward_key)
            return cross_entropy(logits, y, smoothing), changed

        (value, changed), grads = jax.value_and_grad(loss, has_aux=True)(params)
        rate = schedule(step, steps, peak, 3 * per_epoch)
        params, moments = adamw(params, grads, moments, step, rate, decay)
        return params, {**state, **changed}, moments, value

    moments = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in params.items()}
    order, key = np.random.default_rng(seed), jax.random.key(seed)
    step = 0
    for epoch in range(epochs):
        index = order.permutation(len(y))[: per_epoch * batch].reshape(per_epoch, batch)
        total = 0.0
        for rows in index:
            step_key = jax.random.fold_in(key, step)
            params, state, moments, value = update(
                params, state, moments, step, step_key, x[rows], y[rows]
            )
            total += float(value)
            step += 1
        if (epoch + 1) % 20 == 0 or epoch + 1 == epochs:
            print(f"  epoch {epoch + 1}/{epochs}: loss {total / per_epoch:.4f}", flush=True)
    as_numpy = lambda tree: {name: np.asarray(v) for name, v in tree.items()}
    return as_numpy(params), as_numpy(state)
