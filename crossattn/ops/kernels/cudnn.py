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

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo as library

from crossattn.ops.masks import lowering
from crossattn.ops.masks.mask import Mask
from crossattn.ops.masks.terms import Band, Lengths
from crossattn.ops.varying import varying_like
from crossattn.shapes import Array, Float

__all__ = ["backward", "forward", "refuse"]

LANES = 8  # head sizes are multiples of it
EVEN = 2  # and T and S of this: jax refuses the gradient of odd ones


def refuse(
    q: Any, k: Any, v: Any, mask: Mask, bias: Any, scale: float, softcap: float | None
) -> str | None:
    """Why cuDNN cannot take this call, from its static side and what is installed; else None.

    >>> x = jax.ShapeDtypeStruct((1, 64, 8, 64), jnp.float32)
    >>> refuse(x, x, x, Mask(), None, 0.125, None)
    'float32: cuDNN computes in bfloat16 and float16'
    """
    if 0 in (*q.shape, *k.shape, *v.shape):
        return "an axis of size 0"
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"{q.dtype}: cuDNN computes in bfloat16 and float16"
    if softcap is not None:
        return "a soft-cap: cuDNN has none"
    if bias is not None:
        return "a bias: cuDNN wants it written out for T x S, and not for all shapes its gradient"
    return _refuse_mask(mask, q.shape[1], k.shape[1]) or _refuse_machine(q, k, v)


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


def _refuse_machine(q: Any, k: Any, v: Any) -> str | None:
    """What jax itself asks cuDNN's version and the GPU for."""
    try:
        version = library.check_cudnn_version()
    except RuntimeError:
        return "jax has no cuDNN here: pip install 'crossattn[cuda]' on a machine with a GPU"
    if not library.check_compute_capability("8.0"):
        return "no NVIDIA GPU of compute capability 8.0 (Ampere) or later is JAX's default device"
    q, k, v = jax.eval_shape(lambda *xs: [_padded(x, _width(q, v)) for x in xs], q, k, v)
    layout = library.AttentionLayout.BTNH.value
    has_bias, is_training = False, True
    try:
        library.check_is_flash_attention(q, k, v, layout, version, has_bias, is_training)
    except NotImplementedError as error:
        return str(error)
    return None


def forward(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    mask: Mask,
    bias: None,
    scale: float,
    softcap: None,
) -> tuple[Float[Array, "B T H V"], Float[Array, "B H T"]]:
    """(out in v.dtype, lse in float32) of a call that is not refused."""
    call, rows, keys = _given(mask, q, k, scale)
    T, V, width = q.shape[1], v.shape[3], _width(q, v)
    k, v = (_padded(_only(keys, x), width) for x in (k, v))
    o, lse = _forward(_padded(q, width), k, v, call)
    o, lse = varying_like((o[:, :T, :, :V], lse[:, :, :T]), q, k, v)
    if rows is None:
        return o, lse
    return _only(rows, o), jnp.where(rows[:, None], lse, -jnp.inf)


def backward(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    mask: Mask,
    bias: None,
    scale: float,
    softcap: None,
    o: Float[Array, "B T H V"],
    lse: Float[Array, "B H T"],
    do: Float[Array, "B T H V"],
    dlse: Float[Array, "B H T"] | None,
) -> tuple[Array, Array, Array, None]:
    """(dq, dk, dv, None) in the dtypes of q, k and v.

    Exact also where o and lse are those of a softmax over these and further keys. A cotangent of
    lse (not None) costs the kernel once more.
    """
    call, rows, keys = _given(mask, q, k, scale)
    seen = ~(lse == -jnp.inf)
    seen = seen if rows is None else seen & rows[:, None]
    by_query = seen.swapaxes(1, 2)
    width, given = _width(q, v), (q, k, v)
    q, o, do = (_padded(jnp.where(by_query[..., None], x, 0), width) for x in (q, o, do))
    k, v = (_padded(_only(keys, x), width) for x in (k, v))
    lse = jnp.pad(jnp.where(seen, lse, 0), [(0, 0), (0, 0), (0, q.shape[1] - lse.shape[2])])
    dq, dk, dv = _backward(q, k, v, o, lse, do, call)
    if dlse is not None:
        more = _of_lse(q, k, lse, jnp.where(seen, dlse, 0), call)
        dq, dk = (_sum(x, y) for x, y in zip((dq, dk), more, strict=True))
    dq, dk, dv = (
        x[:, : like.shape[1], :, : like.shape[3]]
        for x, like in zip((dq, dk, dv), given, strict=True)
    )
    # What is beyond a length is not promised to be 0.
    dq = jnp.where(by_query[..., None], dq, 0)
    return (*varying_like((dq, _only(keys, dk), _only(keys, dv)), *given, do), None)


class _Call(NamedTuple):
    """What the kernels are told beside the arrays."""

    scale: float
    causal: bool
    left: int | None  # how many keys of the causal mask are seen, the last ones
    lengths: tuple[Array, Array] | None  # int32 (B,) of queries and keys, at least 1

    @classmethod
    def of(cls, mask: Mask, B: int, T: int, S: int, scale: float) -> _Call:
        window, real = lowering.static_band(mask, T, S), lowering.padding(mask, T, S)
        left = None if window is None or window.low <= 1 - T else 1 - window.low
        # The key that makes S even is hidden by lengths, or by causal(0) where T <= S.
        hidden = S % EVEN == 0 or (window is not None and T <= S)
        if real.queries is None and real.keys is None and hidden:
            return cls(scale, window is not None, left, None)
        counts = (None if x is None else x.sum(1, dtype=jnp.int32) for x in real)
        query, key = (
            jnp.full((B,), n, jnp.int32) if count is None else jnp.maximum(count, 1)
            for count, n in zip(counts, (T, S), strict=True)
        )
        return cls(scale, window is not None, left, (query, key))

    @property
    def mask_type(self) -> library.MaskType:
        kinds = library.MaskType
        if self.lengths is None:
            return kinds.CAUSAL if self.causal else kinds.NO_MASK
        return kinds.PADDING_CAUSAL if self.causal else kinds.PADDING


def _forward(q: Array, k: Array, v: Array, call: _Call) -> tuple[Array, Array]:
    query, key = call.lengths or (None, None)
    return library.dot_product_attention(
        q,
        k,
        v,
        q_seqlen=query,
        kv_seqlen=key,
        scale=call.scale,
        mask_type=call.mask_type,
        sliding_window_length=call.left,
        return_residual=True,
    )


def _backward(
    q: Array, k: Array, v: Array, o: Array, lse: Array, do: Array, call: _Call
) -> list[Array]:
    """[dq, dk, dv] for p = exp(s - lse) and delta = rowsum(do * o), whatever lse and o are."""
    unused = jnp.zeros(0, q.dtype)
    query, key = call.lengths or (unused, unused)
    # Newer versions of jax let a function change the scores.
    has_score_mod = "score_mod" in inspect.signature(library.dot_product_attention).parameters
    return library._dot_product_attention_bwd_p_wrapper.bind(
        *(q, k, v, unused, query, key, unused, unused, unused, unused, lse, o, do),
        scale=call.scale,
        seed=42,
        dropout_rate=0.0,
        variadic_args=(False, False),
        mask_type=call.mask_type,
        layout=library.AttentionLayout.BTNH.value,
        sliding_window_length=call.left,
        **({"score_mod": None} if has_score_mod else {}),
    )


def _of_lse(q: Array, k: Array, lse: Array, dlse: Array, call: _Call) -> list[Array]:
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


def _given(mask: Mask, q: Array, k: Array, scale: float) -> tuple[_Call, Any, Any]:
    """The call, the queries that see a key (B, T), the keys that are seen (B|1, S); None: all."""
    B, T, S = q.shape[0], q.shape[1], k.shape[1]
    rows, keys = lowering.padding(mask, T, S)
    if keys is not None:  # causal(0) leaves no query without a key
        some = jnp.broadcast_to(keys.any(1)[:, None], (B, T))
        rows = some if rows is None else rows & some
    return _Call.of(mask, B, T, S, scale), rows, lowering.seen_keys(mask, B, T, S)


def _only(seen: Array | None, x: Array) -> Array:
    """x (B, N, ...) where seen (B|1, N), else 0, even where it is NaN."""
    return x if seen is None else jnp.where(seen[:, :, None, None], x, 0)


def _sum(x: Array, y: Array) -> Array:
    return (x.astype(jnp.float32) + y.astype(jnp.float32)).astype(x.dtype)
