"""The judge: attention by its definition in numpy float64, forward and backward, none of our code.

Arrays are named as in tests/ops/cases.py: q, k, v, bias and sinks, and the cotangents out and lse.
"""

import numpy as np


def weights(arrays, visible, scale=None, softcap=None):
    """{weights and scores (B,H,T,S), lse (B,H,T), slope of the cap, q, k, v where anyone looks}."""
    q, k, v = (np.asarray(arrays[name], np.float64) for name in "qkv")
    B, T, H, D = q.shape
    S, K = k.shape[1:3]
    visible = np.broadcast_to(visible, (B, H, T, S))
    bias = np.asarray(arrays.get("bias", np.zeros((1, 1, 1, 1))), np.float64)
    visible = visible & (bias != -np.inf)
    # What nobody sees may be NaN, and 0 * NaN is NaN.
    q = np.where(visible.any(3).swapaxes(1, 2)[..., None], q, 0)
    seen = visible.reshape(B, K, H // K * T, S).any(2).swapaxes(1, 2)[..., None]
    k, v = (np.repeat(np.where(seen, x, 0), H // K, 2) for x in (k, v))
    s = np.einsum("bihd,bjhd->bhij", q, k) * (D**-0.5 if scale is None else scale)
    slope = np.ones_like(s)
    if softcap is not None:
        capped = np.tanh(s / softcap)
        s, slope = softcap * capped, 1 - capped**2
    s = np.where(visible, s + np.where(visible, bias, 0), -np.inf)
    # A sink is one more key of each head: its score is the sink, its value 0.
    sinks = np.asarray(arrays.get("sinks", np.full(H, -np.inf)), np.float64)
    sinks = np.broadcast_to(sinks[:, None], (B, H, T))
    m = np.maximum(s.max(3, initial=-np.inf), sinks)
    m = np.where(np.isneginf(m), 0, m)
    total = np.exp(s - m[..., None]).sum(3) + np.exp(sinks - m)
    with np.errstate(divide="ignore"):
        lse = m + np.log(total)
    finite = np.where(np.isneginf(lse), 0, lse)
    p = np.exp(s - finite[..., None])
    sunk = np.exp(sinks - finite)
    seen = {"q": q, "k": k, "v": v}
    return {"weights": p, "scores": s, "lse": lse, "sunk": sunk, "slope": slope, **seen}


def judge(arrays, visible, scale=None, softcap=None, kept=1.0):
    """{out, lse, dq, dk, dv, dbias, dsinks}; `kept` multiplies the weights, as dropout does."""
    w = weights(arrays, visible, scale, softcap)
    p, q, k, v = (w[name] for name in ("weights", "q", "k", "v"))
    (B, _, H, D), (S, K) = q.shape, np.shape(arrays["k"])[1:3]
    found = {"out": np.einsum("bhij,bjhv->bihv", p * kept, v), "lse": w["lse"]}
    if "out" not in arrays:
        return found
    valid = ~np.isneginf(w["lse"])
    # A cotangent where no key is seen may be NaN.
    keyed = ~np.isneginf(w["scores"]).all(3)
    do = np.where(keyed.swapaxes(1, 2)[..., None], arrays["out"], 0)
    dlse = np.where(valid, arrays.get("lse", 0.0), 0)
    dp = np.einsum("bihv,bjhv->bhij", do, v) * kept
    # d p_j / d s_i = p_j (1_ij - p_i) and d lse / d s_i = p_i; the sink's value has no gradient.
    rest = dlse - (dp * p).sum(3)
    ds = p * (dp + rest[..., None])
    found["dsinks"] = (w["sunk"] * rest).sum((0, 2))
    for name in ("bias", "sinks"):
        if name not in arrays:
            found.pop(f"d{name}", None)
    if "bias" in arrays:
        axes = tuple(a for a, n in enumerate(np.shape(arrays["bias"])) if n == 1)
        found["dbias"] = ds.sum(axes, keepdims=True)
    ds = ds * w["slope"] * (D**-0.5 if scale is None else scale)
    found["dq"] = np.einsum("bhij,bjhd->bihd", ds, k)
    for name, a, b in (("dk", ds, q), ("dv", p * kept, do)):
        per_head = np.einsum("bhij,bihd->bjhd", a, b)
        found[name] = per_head.reshape(B, S, K, H // K, b.shape[3]).sum(3)
    return found
