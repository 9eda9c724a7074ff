"""Attention on NVIDIA GPUs by cuDNN's fused kernels, the ones that jax.nn calls.

cuDNN (FlashAttention, Dao et al. 2022) computes in bfloat16 and float16 with softmax in float32; it
knows lengths and a causal mask whose first query sees the first key. Rows without a visible key,
NaN in padding and head sizes that it does not take are dealt with here.

Both kernels are called below `jax.nn.dot_product_attention(implementation="cudnn")`, which rounds
lse to bfloat16: too coarse to join partial results by. Its derivative rule has no cotangent of lse
and runs the forward kernel again. The backward kernel itself takes lse and the output as given
(P from lse, delta = rowsum(dO * O)), so it is exact also where both are of a softmax over further
keys; a cotangent of lse takes it a second time, see `_of_lse`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.kernels import cuda_target
from crossattn.ops.kernels.cudnn_primitives import CALLED, call_primitive, library
from crossattn.ops.kernels.private import no_axis
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Gradients, Kernel
from crossattn.ops.masks import lowering
from crossattn.ops.masks.mask import Mask
from crossattn.ops.masks.terms import Band, Lengths
from crossattn.ops.varying import varying_like
from crossattn.shapes import Array

__all__ = ["KERNEL"]

ELSEWHERE = (
    "cudnn runs on NVIDIA GPUs only: leave `implementation` out, which takes what suits each "
    "platform, or pip install 'crossattn[cuda]' on a machine with a GPU"
)
LANES = 8  # head sizes are multiples of it
EVEN = 2  # and T and S of this: jax refuses the gradient of odd ones


@dataclasses.dataclass(frozen=True)
class CudnnKernel(Kernel):
    """Both kernels, with what surrounds them.

    >>> x = jnp.zeros((1, 64, 8, 64), jnp.float32)
    >>> KERNEL.unsupported(AttentionCall(x, x, x, Mask(), None, None, 0.125, None))
    'float32: cuDNN computes in bfloat16 and float16'
    """

    refuses: bool = False  # whether programs for other platforms may meet it

    name = "cudnn"
    summary = "cuDNN's fused attention on NVIDIA GPUs, through jax.nn"
    platforms = ("cuda",)

    @property
    def static_mask(self) -> bool:
        return True

    def unsupported(self, call: AttentionCall) -> str | None:
        reason = super().unsupported(call) or library.lacks(*CALLED) or no_axis(call)
        if reason is not None:
            return reason
        if call.q.dtype not in (jnp.bfloat16, jnp.float16):
            return f"{call.q.dtype}: cuDNN computes in bfloat16 and float16"
        if call.softcap is not None:
            return "a soft-cap: cuDNN has none"
        if call.bias is not None:
            return (
                "a bias: cuDNN wants it written out for T x S, and not for all shapes its gradient"
            )
        width = _width(call.q, call.v)
        q, v = (jax.ShapeDtypeStruct((*x.shape[:3], width), x.dtype) for x in (call.q, call.v))
        return _refuse_mask(call.mask, call.T, call.S) or cuda_target.refusal(q, v)

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        return dataclasses.replace(self, refuses=platform not in self.platforms)

    def assumed(self) -> str | None:
        return cuda_target.assumed()

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        q, k, v = call.q, call.k, call.v
        options, rows, keys = _given(call, self.refuses)
        T, V, width = call.T, v.shape[3], _width(q, v)
        k, v = (_padded(_only(keys, x), width) for x in (k, v))
        o, lse = _forward(_padded(q, width), k, v, options)
        o, lse = varying_like((o[:, :T, :, :V], lse[:, :, :T]), q, k, v)
        if rows is None:
            return o, lse
        return _only(rows, o), jnp.where(rows[:, None], lse, -jnp.inf)

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        """(dq, dk, dv, None) in the dtypes of q, k and v.

        Exact also where o and lse are those of a softmax over these and further keys. A cotangent
        of lse (not None) costs the kernel once more.
        """
        inputs = call.q, call.k, call.v
        o, lse, do, dlse, *_ = given
        options, rows, keys = _given(call, self.refuses)
        seen = ~(lse == -jnp.inf)
        seen = seen if rows is None else seen & rows[:, None]
        by_query = seen.swapaxes(1, 2)
        width = _width(call.q, call.v)
        q, o, do = (_padded(jnp.where(by_query[..., None], x, 0), width) for x in (call.q, o, do))
        k, v = (_padded(_only(keys, x), width) for x in (call.k, call.v))
        lse = jnp.pad(jnp.where(seen, lse, 0), [(0, 0), (0, 0), (0, q.shape[1] - lse.shape[2])])
        dq, dk, dv = _backward(q, k, v, o, lse, do, options)
        if dlse is not None:
            more = _of_lse(q, k, lse, jnp.where(seen, dlse, 0), options)
            dq, dk = (_sum(x, y) for x, y in zip((dq, dk), more, strict=True))
        dq, dk, dv = (
            x[:, : like.shape[1], :, : like.shape[3]]
            for x, like in zip((dq, dk, dv), inputs, strict=True)
        )
        # What is beyond a length is not promised to be 0.
        dq = jnp.where(by_query[..., None], dq, 0)
        return (*varying_like((dq, _only(keys, dk), _only(keys, dv)), *inputs, given.do), None)


KERNEL = CudnnKernel()


def _refuse_mask(mask: Mask, T: int, S: int) -> str | None:
    if not all(isinstance(term, Lengths | Band) for term in mask.terms):
        return "only lengths and causal(0) are known to cuDNN: no dense, keys, segments, media"
    reason = lowering.reason(mask)
    window = None if reason else lowering.static_band(mask, T, S)
    if reason or window is None:
        return reason
    if window.high != 0:
        return "causal with an offset or a window to the right: cuDNN has causal(0) only"
    if window.low > 1 - T and (T > S or any(isinstance(term, Lengths) for term in mask.terms)):
        return "a window to the left with lengths, or with more queries than keys"
    return None


class _Options(NamedTuple):
    """What the kernels are told beside the arrays."""

    scale: float
    causal: bool
    left: int | None  # how many keys of the causal mask are seen, the last ones
    lengths: tuple[Array, Array] | None  # int32 (B,) of queries and keys, at least 1
    heads_first: bool
    refuses: bool

    @classmethod
    def of(cls, call: AttentionCall, refuses: bool) -> _Options:
        (B, T, S, *_), mask = call.sizes, call.mask
        window, real = lowering.static_band(mask, T, S), lowering.padding(mask, T, S)
        left = None if window is None or window.low <= 1 - T else 1 - window.low
        # The key that makes S even is hidden by lengths, or by causal(0) where T <= S.
        hidden = S % EVEN == 0 or (window is not None and T <= S)
        if real.queries is None and real.keys is None and hidden:
            return cls(call.scale, window is not None, left, None, call.heads_first, refuses)
        counts = (None if x is None else x.sum(1, dtype=jnp.int32) for x in real)
        query, key = (
            jnp.full((B,), n, jnp.int32) if count is None else jnp.maximum(count, 1)
            for count, n in zip(counts, (T, S), strict=True)
        )
        lengths = query, key
        return cls(call.scale, window is not None, left, lengths, call.heads_first, refuses)

    @property
    def told(self) -> dict[str, Any]:
        """What is known when it is compiled."""
        kinds = library.MaskType
        if self.lengths is None:
            mask_type = kinds.CAUSAL if self.causal else kinds.NO_MASK
        else:
            mask_type = kinds.PADDING_CAUSAL if self.causal else kinds.PADDING
        return {
            "scale": self.scale,
            "mask_type": mask_type,
            "sliding_window_length": self.left,
            "heads_first": self.heads_first,
            "elsewhere": ELSEWHERE if self.refuses else None,
        }


def _forward(q: Array, k: Array, v: Array, call: _Options) -> tuple[Array, Array]:
    o, lse = call_primitive("fwd", (q, k, v), (), call.lengths, is_training=True, **call.told)
    return o, lse


def _backward(
    q: Array, k: Array, v: Array, o: Array, lse: Array, do: Array, call: _Options
) -> list[Array]:
    """[dq, dk, dv] for p = exp(s - lse) and delta = rowsum(do * o), whatever lse and o are."""
    return call_primitive("bwd", (q, k, v), (lse, o, do), call.lengths, **call.told)


def _of_lse(q: Array, k: Array, lse: Array, dlse: Array, call: _Options) -> list[Array]:
    """[dq, dk] of a cotangent of lse (B, H, T), ds = p * dlse, by the same kernel.

    With o = 0 the kernel computes ds = p * (do v): v is 1 in two columns and do holds dlse in them,
    as a sum of two numbers, so that it is not rounded to bfloat16.
    """
    dlse = dlse.swapaxes(1, 2)
    high = dlse.astype(q.dtype)
    low = (dlse - high.astype(dlse.dtype)).astype(q.dtype)
    do = _padded(jnp.stack([high, low], 3), q.shape[3])
    ones = _padded(jnp.ones((*k.shape[:3], 2), q.dtype), q.shape[3])
    return _backward(q, k, ones, jnp.zeros_like(do), lse, do, call)[:2]


def _width(q: Any, v: Any) -> int:
    """Head size of queries, keys and values alike, as cuDNN takes it."""
    return -(-max(q.shape[3], v.shape[3]) // LANES) * LANES


def _padded(x: Array, width: int) -> Array:
    """(B, N, H, X) to an even N and a head size of `width`."""
    return jnp.pad(x, [(0, 0), (0, x.shape[1] % EVEN), (0, 0), (0, width - x.shape[3])])


def _given(call: AttentionCall, refuses: bool) -> tuple[_Options, Any, Any]:
    """Options, the queries that see a key (B, T), the keys that are seen (B|1, S); None: all."""
    (B, T, S, *_), mask = call.sizes, call.mask
    rows, keys = lowering.padding(mask, T, S)
    if keys is not None:  # causal(0) leaves no query without a key
        some = jnp.broadcast_to(keys.any(1)[:, None], (B, T))
        rows = some if rows is None else rows & some
    return _Options.of(call, refuses), rows, lowering.seen_keys(mask, B, T, S)


def _only(seen: Array | None, x: Array) -> Array:
    """x (B, N, ...) where seen (B|1, N), else 0, even where it is NaN."""
    return x if seen is None else jnp.where(seen[:, :, None, None], x, 0)


def _sum(x: Array, y: Array) -> Array:
    return (x.astype(jnp.float32) + y.astype(jnp.float32)).astype(x.dtype)
