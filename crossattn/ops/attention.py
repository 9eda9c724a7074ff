"""The public operation: checks, the table of implementations, the choice among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn.ops import reference, xla
from crossattn.ops.mask import Mask
from crossattn.ops.trace import Trace
from crossattn.shapes import Array, Bool, Float

__all__ = ["IMPLEMENTATIONS", "RefusalError", "attend", "attention"]


class RefusalError(ValueError):
    """Raised by an implementation that cannot take a call; its text is the reason."""


# Each takes (q, k, v, mask, bias, scale, softcap) and returns (out, lse), or raises RefusalError.
# In order of preference: the first that does not refuse is taken.
IMPLEMENTATIONS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "xla": xla.attend,
    "reference": reference.attend,
}

DTYPES = ("float64", "float32", "bfloat16", "float16")


def attend(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    *,
    mask: Mask | Bool[Array | np.ndarray, "#B #H #T #S"] | None = None,
    bias: Float[Array, "#B #H #T #S"] | None = None,
    scale: float | int | None = None,
    softcap: float | int | None = None,
    implementation: str | None = None,
) -> tuple[Float[Array, "B T H V"], Trace]:
    """Attention of queries to a context, and the trace of what was looked at.

    softmax over the visible keys of `softcap(scale * q k) + bias`, times v.

    Args:
      q: queries (B, T, H, D), float64, float32, bfloat16 or float16.
      k: keys (B, S, K, D) of the same dtype; H is a multiple of K, and query head n uses key head
        n // (H / K).
      v: values (B, S, K, V) of the same dtype.
      mask: which query sees which key, a `Mask` or booleans (B|1, H|1, T|1, S|1); None: every key.
      bias: added to the scores, (B|1, H|1, T|1, S|1); an entry of -inf hides a key. Differentiable.
      scale: factor of the scores; 1 / sqrt(D) by default.
      softcap: c > 0 bounds the scores by `c * tanh(score / c)`, before bias and mask.
      implementation: "xla" or "reference"; None chooses.

    Returns:
      out (B, T, H, V) in v's dtype, and a `Trace`, whose `lse` (B, H, T) is in float32 (float64 for
      float64); softmax and sums are taken in that precision. A query that sees no key has out 0,
      lse -inf and gradients 0. What nobody sees influences nothing, even as NaN or Inf: keys that
      no query sees, queries that see no key, and their cotangents. (A NaN in a key or value that
      one query does see may reach the queries that do not.) Both results can be differentiated in
      reverse mode, twice; forward mode (jvp, jacfwd) raises TypeError.

    Raises:
      ValueError, TypeError: shapes or dtypes that do not fit; the message says what to write.

    >>> import jax, jax.numpy as jnp
    >>> words, regions = jax.random.normal(jax.random.key(0), (2, 2, 7, 3, 8))
    >>> mask = Mask.lengths(key=jnp.array([7, 0]))
    >>> out, trace = attend(words[:, :5], regions, regions, mask=mask)
    >>> out.shape, bool(jnp.all(out[1] == 0)), trace.valid[:, 0, 0].tolist()
    ((2, 5, 3, 8), True, [True, False])
    """
    mask = _as_mask(mask)
    _check(q, k, v, bias)
    (B, T, H, D), S = q.shape, k.shape[1]
    mask.check(B, H, T, S)
    scale = float(D**-0.5) if scale is None else _number("scale", scale)
    if softcap is not None:
        softcap = _number("softcap", softcap)
        if not softcap > 0:
            raise ValueError(
                f"softcap must be positive, got {softcap}: write softcap=None for no cap"
            )
    out, lse = _run(implementation, q, k, v, mask, bias, scale, softcap)
    return out, Trace(q, k, mask, bias, lse, scale, softcap)


def attention(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    **options: Any,
) -> Float[Array, "B T H V"]:
    """`attend` without the trace: the output alone, the same arguments.

    >>> x = jnp.ones((2, 5, 3, 8))
    >>> attention(x[:, :1], x, x, scale=1.0).shape
    (2, 1, 3, 8)
    """
    return attend(q, k, v, **options)[0]


def _run(implementation: str | None, *call: Any) -> tuple[Array, Array]:
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        known = ", ".join(map(repr, IMPLEMENTATIONS))
        raise ValueError(
            f"unknown implementation {implementation!r}: write one of {known}, or None to choose"
        )
    refusals = []
    for name in IMPLEMENTATIONS if implementation is None else [implementation]:
        try:
            return IMPLEMENTATIONS[name](*call)
        except RefusalError as reason:
            refusals.append(f"{name}: {reason}")
    raise RefusalError("no implementation takes this call; " + "; ".join(refusals))


def _as_mask(mask: Any) -> Mask:
    if mask is None:
        return Mask()
    return mask if isinstance(mask, Mask) else Mask.dense(mask)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except TypeError as error:  # a traced array
        raise TypeError(
            f"{name} is a Python number, got {value}: multiply q instead of tracing it"
        ) from error


def _check(q: Any, k: Any, v: Any, bias: Any) -> None:
    if k is None or v is None:
        raise TypeError(
            "context is required, got None for k or v: write attend(q, k, v) with the keys and "
            "values of the context (those of the queries' own stream for self-attention)"
        )
    said = f"q {q.dtype}{list(q.shape)}, k {k.dtype}{list(k.shape)}, v {v.dtype}{list(v.shape)}"
    if not (q.ndim == k.ndim == v.ndim == 4):
        raise ValueError(
            f"{said}: write q (B, T, H, D), k (B, S, K, D), v (B, S, K, V); "
            "x[:, :, None] makes (B, T, D) one head"
        )
    if not (q.dtype == k.dtype == v.dtype):
        raise TypeError(f"{said}: the dtypes differ; write k.astype(q.dtype), v.astype(q.dtype)")
    if q.dtype.name not in DTYPES:
        raise TypeError(f"{said}: attention takes {', '.join(DTYPES)}; write q.astype(jnp.float32)")
    (B, T, H, D), (_, S, K, _) = q.shape, k.shape
    if k.shape[0] != B or v.shape[0] != B:
        raise ValueError(
            f"{said}: the batch sizes (axis 0) differ; every query needs its own example's context"
        )
    if v.shape[1:3] != (S, K):
        raise ValueError(
            f"{said}: k and v differ in length or heads; write both as (B, S={S}, K={K}, ...)"
        )
    if k.shape[3] != D:
        raise ValueError(f"{said}: the head sizes of q and k differ; project both to D={D}")
    if K == 0 or H % K:
        raise ValueError(f"{said}: {H} query heads are not a multiple of {K} key heads")
    if bias is not None:
        _check_bias(bias, {"B": B, "H": H, "T": T, "S": S})


def _check_bias(bias: Any, sizes: dict[str, int]) -> None:
    if not jnp.issubdtype(bias.dtype, jnp.floating):
        raise TypeError(
            f"bias takes floats, got {bias.dtype}: write mask=Mask.dense(...) to hide keys"
        )
    wanted = tuple(sizes.values())
    if bias.ndim != 4 or any(n not in (1, w) for n, w in zip(bias.shape, wanted, strict=True)):
        said = ", ".join(f"{letter}={n}" for letter, n in sizes.items())
        raise ValueError(
            f"bias has shape {bias.shape} but this call takes (B|1, H|1, T|1, S|1) with {said}; "
            "bias[None] adds an axis"
        )
