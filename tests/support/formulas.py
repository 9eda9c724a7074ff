"""The published formulas in NumPy, float64; parameters have the names of our modules."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def filled(module, *arguments, seed=0, **options):
    """Random parameters: no bias is zero, no gate shut, no norm trivial."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(1), *arguments, **options))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0.1, 0.5, p.shape), p.dtype), shapes)


def dense(p, x):
    return x @ np.asarray(p["kernel"]) + np.asarray(p.get("bias", 0.0))


def norm(p, x, epsilon):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    return x * np.asarray(p["scale"]) + np.asarray(p["bias"])


def attention(p, queries, keys, values, heads, seen):
    """`seen` (B, 1, T|1, S); who sees nothing gets nothing."""
    split = lambda x: x.reshape(*x.shape[:2], heads, -1)
    q, k, v = (
        split(dense(p[name], x))
        for name, x in (("query", queries), ("key", keys), ("value", values))
    )
    logits = np.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    e = np.where(seen, np.exp(logits - logits.max(-1, keepdims=True)), 0)
    total = e.sum(-1, keepdims=True)
    weights = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    out = np.einsum("bhts,bshd->bthd", weights, v)
    y = dense(p["out"], out.reshape(*out.shape[:2], -1))
    return np.where((total > 0).any(1), y, 0)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def feed(p, x, activation):
    return dense(p["down"], activation(dense(p["up"], x)))


def ragged(lengths, size):
    """(B, 1, 1, size): the first lengths[b] are visible."""
    return (np.arange(size) < np.array(lengths)[:, None])[:, None, None]
