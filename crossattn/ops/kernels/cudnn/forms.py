"""Which way a mask goes through cuDNN, decided from what is known when a call is traced.

* "in place": lengths, causal(0), a window to its left; nothing is moved;
* "keys in front": keys hidden one by one, see `gathering`;
* "packed": segments and media, see `packing`;
* "written": whatever is left, and every bias, where T x S is small, see `writing`;
* "prefixes": all previous media where it is not, see `prefixes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp

from crossattn.ops.kernels.cudnn.primitives import library
from crossattn.ops.kernels.cudnn.writing import refuse_size, written_shape
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.masks import lowering
from crossattn.ops.masks.mask import Mask
from crossattn.ops.masks.matching import Media, Segments
from crossattn.ops.masks.terms import DensePairs, Keys, Lengths

__all__ = ["FORMS", "refusals", "with_keys"]

FORMS = ("in place", "keys in front", "packed", "written", "prefixes")


def refusals(call: AttentionCall) -> Iterator[tuple[str, str | None]]:
    """(form, why it does not fit the call or None), the fastest first; of those that might."""
    # Shapes are enough here: a row for all queries is of keys without being made of booleans.
    mask = Mask(tuple(Keys(x.seen) if _one_row(x) else x for x in call.mask.terms))
    reason = "a bias" if call.bias is not None else lowering.reason(mask)
    if _has(mask, Segments, Media):
        yield "packed", reason or _packed(mask, call)
    elif _has(mask, Keys):
        yield "keys in front", reason or _in_front(mask, call)
    else:
        yield "in place", reason or _in_place(mask, call)
    yield "written", _written(call)
    if _has(mask, Media) and call.bias is None:
        yield "prefixes", _prefixes(mask, call)


def with_keys(mask: Mask, B: int, S: int) -> Mask:
    """The same mask, where dense ones with one row for all queries and heads are masks of keys.

    >>> with_keys(Mask.dense(jnp.array([[[[True]]]])), 1, 2).terms[0].seen.tolist()
    [[True, True]]
    """
    keys = lambda x: Keys(jnp.broadcast_to(x.seen[:, 0, 0], (B, S)))
    return Mask(tuple(keys(x) if _one_row(x) else x for x in mask.terms))


def _one_row(term: Any) -> bool:
    return isinstance(term, DensePairs) and term.seen.shape[1:3] == (1, 1)


def _has(mask: Mask, *kinds: type) -> bool:
    return any(isinstance(term, kinds) for term in mask.terms)


def _in_place(mask: Mask, call: AttentionCall) -> str | None:
    T, S = call.T, call.S
    window = lowering.static_band(mask, T, S)
    if window is None:
        return None
    if window.high != 0:
        return "causal with an offset or a window to the right: cuDNN has causal(0) only"
    if window.low > 1 - T and (T > S or _has(mask, Lengths)):
        return "a window to the left with lengths, or with more queries than keys"
    return None


def _in_front(mask: Mask, call: AttentionCall) -> str | None:
    if lowering.static_band(mask, call.T, call.S) is not None:
        return "causal or a window beside keys hidden one by one: their order matters"
    return None


def _packed(mask: Mask, call: AttentionCall) -> str | None:
    _, T, S, H, K = call.sizes
    window = lowering.static_band(mask, T, S)
    if window is None:
        return None
    if window.high != 0 or window.low > 1 - T:
        return "segments beside causal with an offset or a window: cuDNN has causal(0) only"
    return "causal segments with grouped heads" if H != K else None


def _prefixes(mask: Mask, call: AttentionCall) -> str | None:
    latest = lambda x: dataclasses.replace(x, latest_only=True) if isinstance(x, Media) else x
    reason = lowering.reason(Mask(tuple(map(latest, mask.terms))))
    if reason is None and lowering.static_band(mask, call.T, call.S) is not None:
        return "media beside causal or a window"
    return reason


def _written(call: AttentionCall) -> str | None:
    if call.q.dtype != jnp.bfloat16:
        return f"in {call.q.dtype} no number is low enough to hide a key for sure"
    bias = call.bias
    if bias is not None and bias.dtype != jnp.bfloat16:
        return f"a {bias.dtype} bias: cuDNN adds bfloat16; write bias.astype(jnp.bfloat16)"
    if bias is not None and not _differentiable(call):
        return "cuDNN gives no gradient of a bias of this shape here"
    return refuse_size(call)


def _differentiable(call: AttentionCall) -> bool:
    if library.lacks("should_export_dbias"):
        return True  # jax 0.12 has the gradient of every shape
    layout = library.AttentionLayout.BTNH.value
    return library.should_export_dbias(written_shape(call), call.q.shape, layout)
