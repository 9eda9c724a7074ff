"""What a call is checked for before anything is computed; each message says what to write."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.ops.dropout import Dropout
from crossattn.ops.masks.mask import Mask
from crossattn.ops.numbers import checked_finite, checked_positive, short_repr
from crossattn.ops.sizes import all_known
from crossattn.shapes import Array

__all__ = [
    "as_array",
    "as_mask",
    "check_arrays",
    "checked_columns",
    "checked_dropout",
    "checked_queries",
    "checked_scale",
    "checked_sinks",
]

DTYPES = ("float64", "float32", "bfloat16", "float16")


def as_mask(mask: Any) -> Mask:
    """Booleans are a dense mask, None hides nothing."""
    if mask is None:
        return Mask()
    if isinstance(mask, str) or callable(mask):
        raise TypeError(
            f"mask is a Mask or booleans, got {short_repr(mask)}: write mask=Mask.causal(0)"
        )
    return mask if isinstance(mask, Mask) else Mask.dense(mask)


def as_array(name: str, x: Any) -> Any:
    """An array of jax, made of one of numpy; None stays. TypeError for lists and the rest."""
    if x is None or isinstance(x, jax.Array):
        return x
    if isinstance(x, np.ndarray) or hasattr(x, "__jax_array__"):
        return jnp.asarray(x)
    raise TypeError(f"{name} is an array, got {_kind(x)}: write jnp.asarray({name})")


def checked_scale(scale: Any, softcap: Any, D: int) -> tuple[float, float | None]:
    """Both as Python numbers."""
    scale = (
        D**-0.5 if scale is None else checked_finite("scale", scale, "scale=None for 1 / sqrt(D)")
    )
    if softcap is not None:
        softcap = checked_positive("softcap", softcap, "softcap=None for no cap")
    return float(scale), softcap


def checked_dropout(dropout: Any) -> Any:
    """(rate, key), or None where nothing is dropped. A `Dropout`, of a part of a call, stays."""
    if dropout is None or isinstance(dropout, Dropout):
        return dropout
    if not (isinstance(dropout, tuple) and len(dropout) == 2):
        raise TypeError(
            f"dropout is (rate, key), got {short_repr(dropout)}: write dropout=(0.1, key)"
        )
    rate, key = dropout
    rate = checked_finite("dropout rate", rate)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate must be in [0, 1), got {rate}")
    if not hasattr(key, "dtype"):
        raise TypeError(f"dropout key is an array, got {short_repr(key)}: write jax.random.key(0)")
    return (rate, key) if rate else None


def checked_sinks(sinks: Any, H: int, lse: Array) -> Array:
    """One float for each query head, in the dtype of lse."""
    sinks = as_array("sinks", sinks)
    if sinks.shape != (H,) or not jnp.issubdtype(sinks.dtype, jnp.floating):
        raise ValueError(
            f"sinks are floats (H,) = ({H},), one for each query head; got "
            f"{sinks.dtype}{list(sinks.shape)}"
        )
    return sinks.astype(lse.dtype)


def checked_columns(columns: Any, B: Any, S: Any) -> Any:
    """(B, S, R) real numbers or booleans; None stays."""
    columns = as_array("columns", columns)
    if columns is None:
        return None
    real = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(columns.dtype, kind) for kind in real):
        raise TypeError(f"columns are real numbers or booleans, got {columns.dtype}")
    if columns.ndim != 3 or columns.shape[:2] != (B, S):
        raise ValueError(f"columns are (B, S, R) = ({B}, {S}, R), got {list(columns.shape)}")
    return columns


def checked_queries(queries: Any, T: Any) -> Any:
    """Integers (R,) or (B, R) in [0, T); T where one outside is not known yet. None stays."""
    queries = as_array("queries", queries)
    if queries is None:
        return None
    if not jnp.issubdtype(queries.dtype, jnp.integer):
        raise TypeError(f"queries are integers, numbers of queries, got {queries.dtype}")
    if queries.ndim not in (1, 2):
        raise ValueError(f"queries are (R,) or (B, R), got {list(queries.shape)}")
    hidden = isinstance(queries, jax.core.Tracer) or not queries.is_fully_addressable
    if hidden or not all_known(T):
        return jnp.where((queries < 0) | (queries >= T), T, queries)
    numbers = np.asarray(queries)
    wrong = numbers[(numbers < 0) | (numbers >= T)]
    if wrong.size:
        raise ValueError(f"there is no query {wrong[0]}: queries are numbers from 0 to {T - 1}")
    return queries


def _kind(x: Any) -> str:
    return f"a {type(x).__name__}"


def check_arrays(q: Any, k: Any, v: Any, bias: Any) -> None:
    """Raise ValueError or TypeError, with what to write, where the arrays do not fit."""
    if k is None or v is None:
        raise TypeError(
            "context is required, got None for k or v: write attend(q, k, v) with the keys and "
            "values of the context (those of the queries' own stream for self-attention)"
        )
    for name, x in (("q", q), ("k", k), ("v", v), *((("bias", bias),) if bias is not None else ())):
        if not hasattr(x, "ndim") or not hasattr(x, "dtype"):
            raise TypeError(f"{name} is an array, got {_kind(x)}: write jnp.asarray({name})")
    what = f"q {q.dtype}{list(q.shape)}, k {k.dtype}{list(k.shape)}, v {v.dtype}{list(v.shape)}"
    if not (q.ndim == k.ndim == v.ndim == 4):
        raise ValueError(
            f"{what}: write q (B, T, H, D), k (B, S, K, D), v (B, S, K, V); "
            "x[:, :, None] makes (B, T, D) one head"
        )
    if not (q.dtype == k.dtype == v.dtype):
        raise TypeError(f"{what}: the dtypes differ; write k.astype(q.dtype), v.astype(q.dtype)")
    if q.dtype.name not in DTYPES:
        raise TypeError(f"{what}: attention takes {', '.join(DTYPES)}; write q.astype(jnp.float32)")
    (B, T, H, D), (_, S, K, _) = q.shape, k.shape
    if k.shape[0] != B or v.shape[0] != B:
        raise ValueError(
            f"{what}: the batch sizes (axis 0) differ; every query needs its own example's context"
        )
    if v.shape[1:3] != (S, K):
        raise ValueError(
            f"{what}: k and v differ in length or heads; write both as (B, S={S}, K={K}, ...)"
        )
    if k.shape[3] != D:
        raise ValueError(f"{what}: the head sizes of q and k differ; project both to D={D}")
    if D == 0 or H == 0:
        raise ValueError(f"{what}: there are no {'heads' if H == 0 else 'features in a head'}")
    if K == 0 or H % K:
        raise ValueError(f"{what}: {H} query heads are not a multiple of {K} key heads")
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
