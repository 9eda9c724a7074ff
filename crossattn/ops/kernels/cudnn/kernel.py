"""What surrounds the kernels: what they are given, empty rows, NaN, cotangents of lse."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels import chunked, cuda_target
from crossattn.ops.kernels.cudnn import branches, forms, options
from crossattn.ops.kernels.cudnn.layouts import InFront, InPlace, TokenLayout, Written
from crossattn.ops.kernels.cudnn.mapping import mapped_into_batch
from crossattn.ops.kernels.cudnn.primitives import CALLED, library
from crossattn.ops.kernels.private import no_axis
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Gradients, Kernel
from crossattn.ops.partials import merge_partials
from crossattn.ops.reference import precision
from crossattn.ops.varying import varying_like
from crossattn.shapes import Array

__all__ = ["KERNEL", "CudnnKernel"]

LANES = 8  # head sizes are multiples of it


@dataclasses.dataclass(frozen=True)
class CudnnKernel(Kernel):
    """Both kernels, with what surrounds them.

    >>> from crossattn import Mask
    >>> x = jnp.zeros((1, 64, 8, 64), jnp.float32)
    >>> KERNEL.unsupported(AttentionCall(x, x, x, Mask(), None, None, 0.125, None))
    'float32: cudnn computes in bfloat16 and float16'
    """

    form: str | None = None  # one of `forms.FORMS`; None: the first that fits
    refuses: bool = False  # whether programs for other platforms may meet it

    name = "cudnn"
    summary = "cuDNN's fused attention on NVIDIA GPUs, as jax.nn calls it"
    platforms = ("cuda",)
    dtypes = ("bfloat16", "float16")
    undropped = "its seed is compiled in: it would drop the same at each step; 'chunked' drops anew"

    @property
    def label(self) -> str:
        return self.name if self.form in (None, forms.FORMS[0]) else f"{self.name}, {self.form}"

    @property
    def static_mask(self) -> bool:
        return True

    def unsupported(self, call: AttentionCall) -> str | None:
        reason = super().unsupported(call)
        reason = reason or library.lacks(*CALLED) or no_axis(call)
        if reason is not None:
            return reason
        if call.softcap is not None:
            return "a soft-cap: cuDNN has none"
        return self._chosen(call)[1]

    def assumed(self) -> str | None:
        return cuda_target.assumed()

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        return CudnnKernel(self._chosen(call)[0], platform not in self.platforms)

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        return mapped_into_batch(self._in_form(_forward, chunked.ChunkedKernel.forward, _merged))(
            call
        )

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        """(dq, dk, dv, dbias) in the dtypes of q, k, v and bias (None without).

        Exact also where o and lse are those of a softmax over these and further keys. A cotangent
        of lse (not None) costs the kernel once more.
        """
        run = self._in_form(_backward, chunked.ChunkedKernel.backward, _summed)
        return mapped_into_batch(run)(call, given._replace(dq=None, dk=None))

    def _chosen(self, call: AttentionCall) -> tuple[str, str | None]:
        """The first form that fits, and why none does."""
        reasons = []
        for form, reason in forms.refusals(call):
            reason = reason or _refuse_machine(call, form)
            if reason is None:
                return form, None
            reasons.append(reason)
        return "", "; ".join(dict.fromkeys(reasons))

    def _in_form(self, *way: Any) -> Callable[..., Any]:
        """What a `Pass` does with a call."""
        simple: dict[str, Any] = {"in place": InPlace, "keys in front": InFront, "written": Written}
        by_ids = {"packed": branches.packed, "prefixes": branches.prefixes}
        run, *others = way

        def fused(layout: TokenLayout, *given: Any) -> Any:
            return run(layout.with_options(refuses=self.refuses), *given)

        def in_form(call: AttentionCall, *given: Any) -> Any:
            form = self.form or self._chosen(call)[0]
            if form in simple:
                return fused(simple[form].of(call), call, *given)
            return by_ids[form](branches.Pass(fused, *others), call, *given)

        return in_form


KERNEL = CudnnKernel()


def _forward(layout: TokenLayout, call: AttentionCall) -> tuple[Array, Array]:
    q, k, v = call.q, call.k, call.v
    (T, S), D = layout.multiples, _width(q, v)
    q = layout.queries(q)
    k, v = (_padded(layout.keys(_only(layout.seen, x)), S, D) for x in (k, v))
    o, lse = options.run_forward(_padded(q, T, D), k, v, layout.options)
    o = layout.queries_back(o[:, : q.shape[1], :, : call.v.shape[3]])
    lse = layout.lse_back(lse[:, :, : q.shape[1]])
    if layout.rows is not None:
        o, lse = _only(layout.rows, o), jnp.where(layout.rows.swapaxes(1, 2), lse, -jnp.inf)
    return varying_like((o, lse), call.q, call.k, call.v)


def _backward(layout: TokenLayout, call: AttentionCall, given: BackwardInputs) -> Gradients:
    (T, S), D, rows, seen = layout.multiples, _width(call.q, call.v), layout.rows, layout.seen
    by_query = lambda x: _padded(layout.queries(_only(rows, x)), T, D)
    by_key = lambda x: _padded(layout.keys(_only(seen, x)), S, D)
    q, o, do = (by_query(x) for x in (call.q, given.o, given.do))
    k, v = by_key(call.k), by_key(call.v)
    lse = given.lse if rows is None else jnp.where(rows.swapaxes(1, 2), given.lse, 0)
    lse = layout.lse(lse)
    lse = jnp.pad(lse, [(0, 0), (0, 0), (0, q.shape[1] - lse.shape[2])])
    found = options.run_backward(q, k, v, o, lse, do, layout.options)
    if given.dlse is not None:
        # ds = p * dlse: with o = 0 the kernel computes p * (do v), where v is 1 in two columns and
        # do holds dlse in them, as a sum of two numbers, so that it is not rounded.
        more, ones = by_query(_halves(given.dlse, q.dtype)), jnp.ones((*k.shape[:3], 2), q.dtype)
        none, ones = jnp.zeros_like(more), _padded(ones, 1, D)
        also = options.run_backward(q, k, ones, none, lse, more, layout.options)
        dv = found[2]
        found = [_sum(x, y) for x, y in zip(found, also, strict=True)]
        found[2] = dv
    # What is beyond a length is not promised to be 0.
    N, M, V = call.T * call.q.shape[2] // q.shape[2], call.S, call.v.shape[3]
    dq = _only(rows, layout.queries_back(found[0][:, :N, :, : call.q.shape[3]]))
    dk = _only(seen, layout.keys_back(found[1][:, :M, :, : call.q.shape[3]]))
    dv = _only(seen, layout.keys_back(found[2][:, :M, :, :V]))
    dbias = layout.bias_back(found[3], call.bias) if found[3:] else None
    return varying_like((dq, dk, dv, dbias), call.q, call.k, call.v, given.do)


def _merged(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    return merge_partials(*map(jnp.stack, zip(*parts, strict=True)))


def _summed(parts: list[Gradients]) -> Gradients:
    dq, dk, dv = (functools.reduce(_sum, x) for x in list(zip(*parts, strict=True))[:3])
    return dq, dk, dv, None


def _refuse_machine(call: AttentionCall, form: str) -> str | None:
    width = _width(call.q, call.v)
    q, v = (jax.ShapeDtypeStruct((*x.shape[:3], width), x.dtype) for x in (call.q, call.v))
    return cuda_target.refusal(q, v, is_packed=form in ("packed", "prefixes"))


def _width(q: Any, v: Any) -> int:
    """Head size of queries, keys and values alike, as cuDNN takes it."""
    return -(-max(q.shape[3], v.shape[3]) // LANES) * LANES


def _padded(x: Array, multiple: int, width: int) -> Array:
    """(B, N, H, X) to a multiple of N and a head size of `width`."""
    return jnp.pad(x, [(0, 0), (0, -x.shape[1] % multiple), (0, 0), (0, width - x.shape[3])])


def _only(some: Array | None, x: Array) -> Array:
    """x (B, N, H, X) where some (B|1, N, H|1), else 0, even where it is NaN; None: all of x."""
    return x if some is None else jnp.where(some[..., None], x, 0)


def _halves(dlse: Array, dtype: Any) -> Array:
    """(B, H, T) to (B, T, H, 2): two numbers of half precision whose sum it is."""
    dlse = dlse.swapaxes(1, 2)
    high = dlse.astype(dtype)
    return jnp.stack([high, (dlse - high.astype(dlse.dtype)).astype(dtype)], 3)


def _sum(x: Array, y: Array) -> Array:
    wide = precision(x.dtype)
    return (x.astype(wide) + y.astype(wide)).astype(x.dtype)
