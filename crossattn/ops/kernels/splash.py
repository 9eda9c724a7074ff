"""Attention on TPUs by the Pallas kernels that come with jax, "splash attention".

They are FlashAttention (Dao et al. 2022) with blocks that a static band hides left out and equal
ids of queries and keys as the only other mask; they know no scale, no padding, no empty rows and no
NaN behind a mask: all of that is done here. No T x S array exists in either direction.

The three kernels (forward, dq, dk and dv) are called one by one, not through jax's own derivative
rule: that rule takes neither a cotangent of lse nor a softmax that goes on over other keys, and
would run the forward kernel again. The kernels take (logsumexp, delta) as given, which is the
whole contract: p = exp(s - lse), ds = p (do v - (delta - dlse)). They are private functions of jax
whose signatures are the same in jax 0.7.2, 0.10 and 0.12.

A float32 product costs a TPU's matrix unit several passes in bfloat16 (precision HIGHEST). The
kernels leave the precision open, so it is said around them. In bfloat16, products are taken in
bfloat16 and summed in float32, and `scale * q` is rounded to bfloat16 once (exact for powers of 2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.private import PrivateModule, no_axis, refuse_mesh, tpu_kernel
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Gradients, Kernel
from crossattn.ops.kernels.splash_schedule import LANES, ROWS, KernelBlocks, PassSizes, schedule
from crossattn.ops.masks import lowering
from crossattn.ops.masks.mask import Mask
from crossattn.shapes import Array

__all__ = ["KERNEL", "KernelBlocks", "SplashKernel"]

kernels = PrivateModule("jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_kernel")
CALLED = "_splash_attention_forward", "_splash_attention_bwd_dq", "_splash_attention_bwd_dkv"

BLOCKS = KernelBlocks()
# Larger heads need more memory for a block than the compilers of v5e allow it.
LARGEST_HEAD = 256
ELSEWHERE = "splash is a kernel of TPUs, and this program is for another platform"


@dataclasses.dataclass(frozen=True)
class SplashKernel(Kernel):
    """The three kernels, with what surrounds them.

    >>> x = jnp.zeros((1, 64, 8, 64), jnp.float16)
    >>> KERNEL.unsupported(AttentionCall(x, x, x, Mask(), None, None, 0.125, None))
    'float16: splash computes in bfloat16 and float32'
    """

    blocks: KernelBlocks = BLOCKS
    refuses: bool = True  # to be lowered for another platform, where a branch of it would be NaN

    name = "splash"
    summary = "splash attention's Pallas kernels on TPUs"
    platforms = ("tpu",)
    dtypes = ("bfloat16", "float32")
    biased = False

    @property
    def static_mask(self) -> bool:
        return True

    def unsupported(self, call: AttentionCall) -> str | None:
        reason = super().unsupported(call) or kernels.lacks(*CALLED) or no_axis(call)
        if reason is not None:
            return reason
        if max(call.q.shape[3], call.v.shape[3]) > LARGEST_HEAD:
            return (
                f"heads of more than {LARGEST_HEAD}: a block of scores and keys exceeds the memory"
            )
        return lowering.reason(call.mask) or refuse_mesh()

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        return dataclasses.replace(self, refuses=platform not in self.platforms)

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        (B, T, S, *_), mask, blocks = call.sizes, call.mask, self.blocks
        cut = PassSizes.of(T, S, blocks, ROWS)
        matched = lowering.matched_ids(mask, B, T, S, cut.S)
        info, function = schedule(mask, T, S, cut, matched)
        q = _heads_first(_scaled(call.q, call.scale), cut.T)
        k, v = _keys(call, cut.S)
        sizes = kernels.BlockSizes(block_q=cut.query, block_kv=cut.key, **_layouts(k, v))
        options: Any = _options(call, blocks) | {"mask_function": function, "block_sizes": sizes}
        options |= {"save_residuals": True, "residual_checkpoint_name": None}

        def kernel(q, k, v, ids):
            out, (lse,) = kernels._splash_attention_forward(info, q, k, v, ids, None, **options)
            return out, lse

        o, lse = self._each(kernel, q, k, v, _segments(matched, cut.T))
        o, lse = o[:, :, :T], lse[:, :, :T]
        # The lse of a row without a visible key is near a hidden score, or less. Not `lse >
        # nothing`: a NaN that was seen is passed on.
        nothing = 0.5 * kernels.DEFAULT_MASK_VALUE
        seen = _real(~(lse <= nothing), mask, T, S)
        o = jnp.where(seen[..., None], o, 0).swapaxes(1, 2)
        return o, jnp.where(seen, lse, -jnp.inf)

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        """(dq, dk, dv, None) in the dtypes of q, k and v.

        Exact also where o and lse are those of a softmax over these and further keys.
        """
        (B, T, S, *_), mask, blocks = call.sizes, call.mask, self.blocks
        o, lse, do, dlse, *_ = given
        # One row of lse a block lies along the lanes.
        cut = PassSizes.of(T, S, blocks, LANES)
        matched = lowering.matched_ids(mask, B, T, S, cut.S)
        seen = _real(~(lse == -jnp.inf), mask, T, S)
        do, o, scaled = (
            jnp.where(seen[..., None], x.swapaxes(1, 2), 0)
            for x in (do, o, _scaled(call.q, call.scale))
        )
        delta = (do.astype(jnp.float32) * o.astype(jnp.float32)).sum(3)
        if dlse is not None:
            delta = delta - jnp.where(seen, dlse, 0)
        scaled, do, delta, lse = (
            _pad(x, 2, cut.T) for x in (scaled, do, delta, jnp.where(seen, lse, 0))
        )
        k, v = _keys(call, cut.S)
        options = _options(call, blocks) | {"bq": cut.query, "bkv": cut.key} | _layouts(k, v)
        info, function = schedule(mask, T, S, cut, matched)
        info_dkv, function_dkv = schedule(mask, T, S, cut, matched, by_keys=True)

        def kernel(q, k, v, ids, lse, do, delta):
            inputs = (q, k, v, ids, None, lse, do, delta)
            dq = kernels._splash_attention_bwd_dq(
                *inputs, mask_info=info, mask_function=function, **options
            )
            _, dk, dv = kernels._splash_attention_bwd_dkv(
                *inputs,
                mask_info=info_dkv,
                mask_function=function_dkv,
                bkv_compute=cut.key,
                use_fused_bwd_kernel=False,
                **options,
            )
            return dq, dk, dv

        dq, dk, dv = self._each(kernel, scaled, k, v, _segments(matched, cut.T), lse, do, delta)
        dq = _scaled(dq[:, :, :T].swapaxes(1, 2), call.scale)
        return dq, dk[:, :, :S].swapaxes(1, 2), dv[:, :, :S].swapaxes(1, 2), None

    def _each(self, kernel: Callable[..., Any], *arrays: Any) -> Any:
        each = partial(_each, kernel)
        return tpu_kernel(each, ELSEWHERE if self.refuses else None, self.blocks.interpret)(*arrays)


KERNEL = SplashKernel()


def _scaled(x: Array, scale: float) -> Array:
    return (x.astype(jnp.float32) * scale).astype(x.dtype)


def _pad(x: Array, axis: int, n: int) -> Array:
    return jnp.pad(x, [(0, n - x.shape[i] if i == axis else 0) for i in range(x.ndim)])


def _heads_first(x: Array, n: int) -> Array:
    return _pad(x.swapaxes(1, 2), 2, n)


def _keys(call: AttentionCall, S_to: int) -> tuple[Array, Array]:
    """(B,K,S_to,D), (B,K,S_to,V): what nobody sees becomes 0, since it may hold NaN."""
    seen, k, v = lowering.seen_keys(call.mask, *call.sizes[:3]), call.k, call.v
    if seen is not None:
        k, v = (jnp.where(seen[:, :, None, None], x, 0) for x in (k, v))
    return _heads_first(k, S_to), _heads_first(v, S_to)


def _options(call: AttentionCall, blocks: KernelBlocks) -> dict[str, Any]:
    """What all three kernels are told."""
    return {
        "is_mqa": False,
        "mask_value": kernels.DEFAULT_MASK_VALUE,
        "attn_logits_soft_cap": call.softcap,
        "interpret": blocks.interpret,
    }


def _layouts(k: Array, v: Array) -> dict[str, Any]:
    """Along the lanes, heads of 64 would be padded to 128: keys and values copied, not read as is.

    With the keys along the lanes instead, T = 64 queries of S = 16384 keys took 0.2 MiB beside
    their inputs instead of 64 (forward), with 3 % fewer instructions (compiled for v5e, bfloat16).
    """
    layouts = kernels.QKVLayout
    minor = (layouts.SEQ_MINOR if x.shape[-1] % LANES else layouts.HEAD_DIM_MINOR for x in (k, v))
    return dict(
        zip(("q_layout", "k_layout", "v_layout"), (layouts.HEAD_DIM_MINOR, *minor), strict=True)
    )


def _segments(ids: tuple[Array, Array] | None, T_to: int) -> Any:
    return None if ids is None else kernels.SegmentIds(_pad(ids[0], 1, T_to), ids[1])


def _real(seen: Array, mask: Mask, T: int, S: int) -> Array:
    """Booleans (B, H, T) without the queries beyond their lengths."""
    queries = lowering.padding(mask, T, S).queries
    return seen if queries is None else seen & queries[:, None]


def _each(kernel: Callable[..., Any], *arrays: Any) -> Any:
    """kernel(...) of every example."""
    exact = arrays[0].dtype == jnp.float32
    with jax.default_matmul_precision("highest" if exact else "default"):
        if arrays[0].shape[0] == 1:  # scalars of one example may steer what is skipped
            out = kernel(*jax.tree.map(lambda x: x[0], arrays))
            return jax.tree.map(lambda x: x[None], out)
        return jax.vmap(kernel)(*arrays)
