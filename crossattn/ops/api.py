"""The public operation: checks, the one differentiation rule, sinks, the trace."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from crossattn.ops import dispatch
from crossattn.ops.checks import (
    as_array,
    as_mask,
    check_arrays,
    checked_dropout,
    checked_scale,
    checked_sinks,
)
from crossattn.ops.dispatch import IMPLEMENTATIONS, RefusalError
from crossattn.ops.dropout import Dropout
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.dense import KERNEL as DENSE
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Kernel
from crossattn.ops.masks.mask import Mask
from crossattn.ops.partials import add_sinks
from crossattn.ops.trace.trace import AttentionTrace
from crossattn.ops.varying import varying_like
from crossattn.shapes import Array, Bool, Float

__all__ = ["IMPLEMENTATIONS", "RefusalError", "attend", "attention", "explain"]

# Names of what a backward pass needs beside q, k and v, for `jax.checkpoint_policies`: whoever
# keeps both does not run the kernel again.
RESIDUALS = ("attention_out", "attention_lse")


def attend(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    *,
    mask: Mask | Bool[Array | np.ndarray, "#B #H #T #S"] | None = None,
    bias: Float[Array, "#B #H #T #S"] | None = None,
    scale: float | int | None = None,
    softcap: float | int | None = None,
    sinks: Float[Array, " H"] | None = None,
    dropout: tuple[float | int, Array] | Dropout | None = None,
    implementation: str | BlockSizes | None = None,
    heads_first: bool = False,
) -> tuple[Float[Array, "B T H V"], AttentionTrace]:
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
      sinks: one logit for each query head, (H,): a key with that score and value 0, which lets a
        head look at nothing. Differentiable.
      dropout: (rate, key), rate in [0, 1): weights that a random key drops, the same ones whatever
        implementation and devices; the others grow by 1 / (1 - rate). The trace shows the weights
        before. A `Dropout` says which part of a larger call this is.
      implementation: a name of `IMPLEMENTATIONS`, or `BlockSizes` for "chunked" with these; None
        chooses by platform and shape, as `explain` says.
      heads_first: whether k and v are transposed views of arrays that lie (B, K, S, ...), as those
        of a cache: few queries then read them without a copy.

    Returns:
      out (B, T, H, V) in v's dtype, and an `AttentionTrace`, whose `lse` (B, H, T) is in float32
      (float64 for float64); softmax and sums are taken in that precision. A query that sees no key
      has out 0, lse -inf and gradients 0. What nobody sees influences nothing, even as NaN or Inf:
      keys that no query sees, queries that see no key, their cotangents. (A NaN in a key or value
      that one query does see may reach the queries that do not.) Both results can be differentiated
      in reverse mode, twice; forward mode (jvp, jacfwd) raises TypeError.

    Raises:
      ValueError, TypeError: shapes or dtypes that do not fit; the message says what to write.

    >>> import jax, jax.numpy as jnp
    >>> words, regions = jax.random.normal(jax.random.key(0), (2, 2, 7, 3, 8))
    >>> mask = Mask.lengths(key=jnp.array([7, 0]))
    >>> out, trace = attend(words[:, :5], regions, regions, mask=mask)
    >>> out.shape, bool(jnp.all(out[1] == 0)), trace.valid[:, 0, 0].tolist()
    ((2, 5, 3, 8), True, [True, False])
    """
    mask = as_mask(mask)
    given = {"q": q, "k": k, "v": v, "bias": bias}
    q, k, v, bias = (as_array(name, x) for name, x in given.items())
    check_arrays(q, k, v, bias)
    (B, T, H, D), S = q.shape, k.shape[1]
    mask.check(B, H, T, S)
    scale, softcap = checked_scale(scale, softcap, D)
    dropout = Dropout.of(checked_dropout(dropout), B, H)
    q, k, v, bias = varying_like((q, k, v, bias), q, k, v, bias, mask, dropout)
    call = AttentionCall(q, k, v, mask, bias, dropout, scale, softcap, heads_first)
    plan = dispatch.plan(call, implementation)
    if plan[0].autodiff:
        out, lse = plan[0].forward(call)
    else:
        out, lse, q, k = _attend(*_Static.of(call, plan))
    if sinks is None:
        return out, AttentionTrace(q, k, mask, bias, lse, scale, softcap)
    out, total = add_sinks(out, lse, checked_sinks(sinks, H, lse)[None, :, None])
    return out, AttentionTrace(q, k, mask, bias, total, scale, softcap, lse)


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


def explain(
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    softcap: float | int | None = None,
    dropout: Any = None,
    heads_first: bool = False,
) -> str:
    """What `attend` takes for this call on each platform, and why: a text to read.

    Arrays or their shapes (`jax.ShapeDtypeStruct`); nothing is computed.

    >>> q = jax.ShapeDtypeStruct((1, 64, 8, 64), "float32")
    >>> k = jax.ShapeDtypeStruct((1, 50_000, 8, 64), "float32")
    >>> print(explain(q, k, k).splitlines()[0])
    cpu: chunked (otherwise)
    """
    check_arrays(q, k, v, bias)
    if (dropout := checked_dropout(dropout)) is not None:
        (rate, key), (B, _, H, _) = dropout, q.shape
        dropout = jax.eval_shape(lambda key: Dropout.of((rate, key), B, H), key)
    given = q, k, v, as_mask(mask), bias, dropout
    call = AttentionCall(*given, *checked_scale(1.0, softcap, 1), heads_first)
    return dispatch.explained(call)


class _Static(NamedTuple):
    """The part of a call that is compiled in: kernels for the platforms, and a mask without arrays.

    Fused kernels need offsets that are known when they are compiled; for others those are data, so
    that a new one compiles nothing.
    """

    plan: tuple[Kernel, ...]
    tree: Any
    integers: tuple[int | None, ...]

    @classmethod
    def of(cls, call: AttentionCall, plan: tuple[Kernel, ...]) -> tuple[_Static, AttentionCall]:
        """The call has what is left of its mask, a list of arrays."""
        leaves, tree = jax.tree.flatten(call.mask)
        fused = any(kernel.static_mask for kernel in plan)
        known = tuple(x if fused and isinstance(x, int) else None for x in leaves)
        traced = [jnp.asarray(x) for x, n in zip(leaves, known, strict=True) if n is None]
        return cls(plan, tree, known), dataclasses.replace(call, mask=traced)

    def whole(self, call: AttentionCall) -> AttentionCall:
        """The call with its mask."""
        rest = iter(call.mask)
        leaves = [next(rest) if n is None else n for n in self.integers]
        return dataclasses.replace(call, mask=jax.tree.unflatten(self.tree, leaves))


# q and k pass through: what a trace adds to their gradients then arrives in the backward rule,
# which sums onto it. Added outside, an entropy loss would need two more copies of K, not none.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(static: _Static, call: AttentionCall) -> tuple[Array, ...]:
    o, lse = _lowered(static, "forward", call)
    return o, lse, call.q, call.k


def _forward(static, call):
    call = jax.tree.map(lambda x: x.value, call, is_leaf=lambda x: hasattr(x, "perturbed"))
    # The custom rule itself is called, not its body, so that second derivatives use it too.
    o, lse, q, k = _attend(static, call)
    o, lse = (checkpoint_name(x, name) for x, name in zip((o, lse), RESIDUALS, strict=True))
    return (o, lse, q, k), (call, o, lse)


def _backward(static, residuals, cotangents):
    call, o, lse = residuals
    do, dlse, dq, dk = (None if isinstance(g, SymbolicZero) else g for g in cotangents)
    do = jnp.zeros_like(o) if do is None else do
    return (_cotangent(call, *_gradients(static, call, BackwardInputs(o, lse, do, dlse, dq, dk))),)


def _cotangent(call, dq, dk, dv, dbias):
    return dataclasses.replace(call, q=dq, k=dk, v=dv, mask=None, bias=dbias, dropout=None)


_attend.defvjp(_forward, _backward, symbolic_zeros=True)


# Kernels differentiate once. Second derivatives are those of the dense formulas, by autodiff.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(static, call, given):
    return _lowered(static, "gradients", call, given)


def _gradients_forward(*call):
    return _gradients(*call), call[1:]


def _gradients_backward(static, residuals, cotangents):
    call, given = residuals
    dense = static._replace(plan=(DENSE,))

    def gradients(q, k, v, bias, given):
        return _lowered(
            dense, "gradients", dataclasses.replace(call, q=q, k=k, v=v, bias=bias), given
        )

    _, pull = jax.vjp(gradients, call.q, call.k, call.v, call.bias, given)
    *inputs, dgiven = pull(cotangents)
    return _cotangent(call, *inputs), dgiven


_gradients.defvjp(_gradients_forward, _gradients_backward)


# jit so that a call outside of one compiles once, not operation by operation; inlined within one.
@partial(jax.jit, static_argnums=(0, 1), inline=True)
def _lowered(static: _Static, method: str, call: AttentionCall, *given: Any) -> Any:
    """What the plan names for the platform that is compiled for: "forward" or "gradients" of it."""

    def branch(kernel: Kernel):
        return lambda call, *given: getattr(kernel, method)(static.whole(call), *given)

    *special, default = static.plan
    named = zip(dispatch.TABLE, special, strict=False)
    branches = {platform: branch(kernel) for platform, kernel in named if kernel != default}
    if not branches:
        return branch(default)(call, *given)
    return jax.lax.platform_dependent(call, *given, **branches, default=branch(default))
