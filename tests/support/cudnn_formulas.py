"""What cuDNN's kernels compute, in plain operations: to stand in their place where no GPU is.

What they do not promise is NaN here: whatever lies beyond a length, or in no packed sequence. And
what they multiply by a weight of 0 is multiplied: a NaN in a hidden key gets into the sum.
"""

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.ops.kernels.cudnn import options as kernels
from crossattn.ops.reference import precision


def stand_in(monkeypatch):
    monkeypatch.setattr(kernels, "run_forward", forward)
    monkeypatch.setattr(kernels, "run_backward", backward)


def numbers(n):
    return jnp.arange(n, dtype=jnp.int32)


def sequences(q, k, told):
    """Booleans (B, M, T), (B, M, S), (B, M, T, S): what each sequence has, and who sees whom."""
    (B, T, *_), S = q.shape, k.shape[1]
    i, j = numbers(T)[None, None], numbers(S)[None, None]
    first_query = first_key = jnp.zeros((B, 1), jnp.int32)
    queries, keys = (jnp.full((B, 1), n, jnp.int32) for n in (T, S))
    if told.packed is not None:
        assert told.packed.query_starts.shape[1] > 1
        first_query, queries, first_key, keys = told.packed
    elif told.lengths is not None:
        queries, keys = (x[:, None] for x in told.lengths)
    within = lambda at, start, length: (at >= start[..., None]) & (at < (start + length)[..., None])
    row, column = within(i, first_query, queries), within(j, first_key, keys)
    seen = row[..., None] & column[:, :, None]
    if told.causal:
        ahead = (j - first_key[..., None])[:, :, None] - (i - first_query[..., None])[..., None]
        seen = seen & (ahead <= 0)
        seen = seen if told.left is None else seen & (ahead > -told.left)
    return first_query, row, column, seen


def scores(q, k, told):
    """(B, H, T, S) before anything is hidden."""
    (_, T, H, D), (_, S, K, _) = q.shape, k.shape
    assert D % 8 == T % 2 == S % 2 == 0
    assert told.bias is None or (told.bias.shape[2:] == (T, S) and told.bias.dtype == q.dtype)
    assert told.packed is None or not told.heads_first
    assert told.packed is None or H == K
    wide = precision(q.dtype)
    k = jnp.repeat(k, H // K, 2).astype(wide)
    s = jnp.einsum("BTHD,BSHD->BHTS", q.astype(wide), k) * told.scale
    return s if told.bias is None else s + told.bias.astype(wide)


def shifted(x, by):
    """x (B, M, H, T) with every row moved `by` (B, M) places to its front."""
    at = numbers(x.shape[3])[None, None] + by[..., None]
    return jnp.take_along_axis(x, jnp.clip(at, 0, x.shape[3] - 1)[:, :, None], 3)


def forward(q, k, v, told):
    start, row, _, seen = sequences(q, k, told)
    s = jnp.where(seen[:, :, None], scores(q, k, told)[:, None], -jnp.inf)
    lse = jax.nn.logsumexp(s, 4)
    p = jnp.where(s == -jnp.inf, 0, jnp.exp(s - lse[..., None])).sum(1)
    v = jnp.repeat(v, q.shape[2] // v.shape[2], 2).astype(p.dtype)
    o = jnp.einsum("BHTS,BSHD->BTHD", p, v)
    o = jnp.where(row.any(1)[..., None, None], o, jnp.nan)
    lse = jnp.where(row[:, :, None] & (lse > -jnp.inf), lse, jnp.nan)
    if told.packed is not None:
        lse = shifted(lse, start)
        inside = numbers(q.shape[1])[None, None] < told.packed.query_lengths[..., None]
        lse = jnp.where(inside[:, :, None], lse, jnp.nan)
    return o.astype(q.dtype), lse.reshape(-1, *lse.shape[2:])


def backward(q, k, v, o, lse, do, told):
    start, row, column, seen = sequences(q, k, told)
    (B, M), half, G = start.shape, q.dtype, q.shape[2] // k.shape[2]
    wide, s = precision(half), scores(q, k, told)
    lse = lse.reshape(B, M, *lse.shape[1:])
    lse = shifted(lse, -start) if told.packed is not None else lse
    p = jnp.where(seen[:, :, None], jnp.exp(s[:, None] - lse[..., None]), 0).sum(1)
    k, v = (jnp.repeat(x, G, 2).astype(wide) for x in (k, v))
    q, o, do = (x.astype(wide) for x in (q, o, do))
    delta = (do * o).sum(3).swapaxes(1, 2)[..., None]
    ds = p * (jnp.einsum("BTHD,BSHD->BHTS", do, v) - delta)
    shared = lambda x: x.reshape(*x.shape[:2], -1, G, x.shape[3]).sum(3)
    dq = jnp.einsum("BHTS,BSHD->BTHD", ds, k) * told.scale
    dk = shared(jnp.einsum("BHTS,BTHD->BSHD", ds, q)) * told.scale
    dv = shared(jnp.einsum("BHTS,BTHD->BSHD", p, do))
    rows, columns = (x.any(1)[..., None, None] for x in (row, column))
    found = [jnp.where(rows, dq, jnp.nan), *(jnp.where(columns, x, jnp.nan) for x in (dk, dv))]
    if told.bias_gradient:
        lacks = tuple(axis for axis in (0, 1) if told.bias.shape[axis] != ds.shape[axis])
        found.append(ds.sum(lacks, keepdims=True))
    return [x.astype(half) for x in found]


def poisoned(arrays, visible):
    """What nobody sees as NaN and Inf: {q, k, v, out, lse}, for booleans (B, H|1, T, S)."""
    rows, columns = visible.any(3).any(1), visible.any(2).any(1)
    out = {n: np.array(x) for n, x in arrays.items()}
    out["q"][~rows], out["out"][~rows] = np.nan, np.nan
    out["lse"].swapaxes(1, 2)[~rows] = np.inf
    out["k"][~columns], out["v"][~columns] = np.nan, np.inf
    return out
