"""The public operation: checks, the one differentiation rule, sinks, the trace."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from crossattn.ops import dispatch, reference
from crossattn.ops.checks import (
    as_array,
    as_mask,
    check_arrays,
    checked_dropout,
    checked_scale,
    checked_sinks,
)
from crossattn.ops.dispatch import IMPLEMENTATIONS, Choice, RefusalError
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.masks.mask import Mask
from crossattn.ops.trace.trace import AttentionTrace
from crossattn.ops.varying import varying_like
from crossattn.shapes import Array, Bool, Float

__all__ = ["IMPLEMENTATIONS", "RefusalError", "attend", "attention", "explain"]


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
    dropout: tuple[float | int, Array] | None = None,
    implementation: str | BlockSizes | None = None,
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
      dropout: (rate, key), rate in [0, 1): weights that a random key drops; the others grow by
        1 / (1 - rate). The trace shows the weights before.
      implementation: a name of `IMPLEMENTATIONS`, or `BlockSizes` for "chunked" with these; None
        chooses by platform and shape, as `explain` says.

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
    dropout = checked_dropout(dropout)
    q, k, v, bias = varying_like((q, k, v, bias), q, k, v, bias, mask)
    out, lse, q, k = _run(implementation, q, k, v, mask, bias, scale, softcap, dropout)
    if sinks is None:
        return out, AttentionTrace(q, k, mask, bias, lse, scale, softcap)
    sinks = checked_sinks(sinks, q.shape[2], lse)
    out, total = _with_sinks(out, lse, jnp.broadcast_to(sinks[None, :, None], lse.shape))
    return out, AttentionTrace(q, k, mask, bias, total, scale, softcap, lse)


def _with_sinks(out: Array, lse: Array, sinks: Array) -> tuple[Array, Array]:
    """Join (0, sink) to (out, lse); no infinity meets another, neither here nor in gradients."""
    valid = lse != -jnp.inf
    keys = jnp.where(valid, lse, 0)
    sinks = jnp.where(sinks == -jnp.inf, -jnp.inf, sinks)  # without a gradient there
    total = jnp.where(valid, jnp.logaddexp(keys, sinks), sinks)
    share = jnp.where(valid, jnp.exp(keys - jnp.where(valid, total, 0)), 0)
    rows = lambda x: x.swapaxes(1, 2)[..., None]
    joined = jnp.where(rows(valid), out.astype(share.dtype) * rows(share), 0)
    return joined.astype(out.dtype), total


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
) -> str:
    """What `attend` takes for this call on each platform, and why: a text to read.

    Arrays or their shapes (`jax.ShapeDtypeStruct`); nothing is computed.

    >>> q = jax.ShapeDtypeStruct((1, 64, 8, 64), "float32")
    >>> k = jax.ShapeDtypeStruct((1, 50_000, 8, 64), "float32")
    >>> print(explain(q, k, k).splitlines()[0])
    cpu: chunked (otherwise)
    """
    check_arrays(q, k, v, bias)
    call = (q, k, v, as_mask(mask), bias, *checked_scale(1.0, softcap, 1), checked_dropout(dropout))
    lines = []
    for platform in dispatch.TABLE:
        chosen, when, passed = dispatch.choose(platform, *call)
        inner = f" around {chosen.inner}" if chosen.inner else ""
        lines.append(f"{platform}: {chosen.implementation}{inner} ({when})")
        lines += [f"  not {row.implementation}: {why} ({row.when})" for row, why in passed]
    return "\n".join(lines)


def _run(implementation: str | BlockSizes | None, *call: Any) -> tuple[Array, Array, Array, Array]:
    q, k, v, mask, bias, scale, softcap, dropout = call
    if implementation == "reference":
        return (*reference.attend(*call), q, k)
    if implementation is None:
        plan = tuple(dispatch.choose(platform, *call)[0] for platform in dispatch.TABLE)
    else:
        plan = tuple(dispatch.forced(p, implementation, *call) for p in dispatch.TABLE)
    fixed, traced = _Fixed.of(mask, plan)
    return _call(_Static(plan, scale, softcap, fixed), q, k, v, traced, bias, dropout)


class _Fixed(NamedTuple):
    """A mask without its arrays. Fused kernels need offsets that are known when they are compiled;
    for others those are data, so that a new one compiles nothing."""

    tree: Any
    integers: tuple[int | None, ...]

    @classmethod
    def of(cls, mask: Mask, plan: tuple[Choice, ...]) -> tuple[_Fixed, list[Array]]:
        leaves, tree = jax.tree.flatten(mask)
        fused = any(dispatch.FUSED & {c.implementation, c.inner} for c in plan)
        known = tuple(x if fused and isinstance(x, int) else None for x in leaves)
        traced = [jnp.asarray(x) for x, n in zip(leaves, known, strict=True) if n is None]
        return cls(tree, known), traced

    def mask(self, traced: list[Array]) -> Mask:
        rest = iter(traced)
        return jax.tree.unflatten(
            self.tree, [next(rest) if n is None else n for n in self.integers]
        )


class _Static(NamedTuple):
    """The part of a call that is compiled in."""

    plan: tuple[Choice, ...]
    scale: float
    softcap: float | None
    fixed: _Fixed


# jit so that a call outside of one compiles once, not operation by operation; inlined within one.
@partial(jax.jit, static_argnums=0, inline=True)
def _call(static: _Static, *arrays: Any) -> tuple[Array, ...]:
    return _attend(static, *arrays)


# q and k pass through: what a trace adds to their gradients then arrives in the backward rule,
# which sums onto it. Added outside, an entropy loss would need two more copies of K, not none.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(static: _Static, q, k, v, mask, bias, dropout) -> tuple[Array, ...]:
    o, lse = _lowered(static, 0, (q, k, v, mask, bias), dropout)
    return o, lse, q, k


def _forward(static, *primals):
    arrays = jax.tree.map(lambda x: x.value, primals, is_leaf=lambda x: hasattr(x, "perturbed"))
    # The custom rule itself is called, not its body, so that second derivatives use it too.
    o, lse, q, k = _attend(static, *arrays)
    return (o, lse, q, k), (arrays, o, lse)


def _backward(static, residuals, cotangents):
    arrays, o, lse = residuals
    do, dlse, *onto = (None if isinstance(g, SymbolicZero) else g for g in cotangents)
    do = jnp.zeros_like(o) if do is None else do
    dq, dk, dv, dbias = _gradients(static, arrays, (o, lse, do, dlse), tuple(onto))
    return dq, dk, dv, None, dbias, None


_attend.defvjp(_forward, _backward, symbolic_zeros=True)


# Kernels differentiate once. Second derivatives are those of the dense formulas, by autodiff.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(static, arrays, results, onto):
    *inputs, dropout = arrays
    return _lowered(static, 1, inputs, dropout, results, onto)


def _gradients_forward(*call):
    return _gradients(*call), call[1:]


def _gradients_backward(static, residuals, cotangents):
    (q, k, v, mask, bias, dropout), results, onto = residuals
    dense = static._replace(plan=(Choice("default", "xla"),))

    def gradients(q, k, v, bias, results, onto):
        return _lowered(dense, 1, (q, k, v, mask, bias), dropout, results, onto)

    _, pull = jax.vjp(gradients, q, k, v, bias, results, onto)
    dq, dk, dv, dbias, dresults, donto = pull(cotangents)
    return (dq, dk, dv, None, dbias, None), dresults, donto


_gradients.defvjp(_gradients_forward, _gradients_backward)


def _lowered(static: _Static, direction: int, inputs, dropout, *more):
    """Forward (0) or backward (1) of what the plan names for the platform that is compiled for."""
    plan, scale, softcap, fixed = static
    run = (dispatch.forward, dispatch.backward)[direction]

    def branch(chosen: Choice):
        def call(inputs, *rest):
            q, k, v, traced, bias = inputs
            mask = fixed.mask(traced)
            kernel = dispatch.kernel(chosen, dispatch.sizes_of(q, k, mask), q.dtype)
            return run(kernel, (q, k, v, mask, bias), scale, softcap, *rest)

        return call

    *special, default = plan
    branches = {c.platform: branch(c) for c in special if c.like != default.like}
    if not branches:
        return branch(default)(inputs, dropout, *more)
    return jax.lax.platform_dependent(inputs, dropout, *more, **branches, default=branch(default))
