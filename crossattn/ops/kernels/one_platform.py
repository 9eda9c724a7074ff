"""What can be compiled for one platform only, in programs that are lowered for several at once.

`jax.lax.platform_dependent` lowers a branch for every platform of the program, also for those that
never take it, and private primitives of jax have rules for theirs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax.interpreters import batching, mlir

from crossattn.ops.kernels.protocol import RefusalError

__all__ = ["on_cuda", "on_tpu"]


def _on_platform(platform: str) -> Callable[..., Any]:
    primitive = jax.extend.core.Primitive(f"on_{platform}")
    primitive.multiple_results = True
    primitive.def_abstract_eval(lambda *_, program, elsewhere: program.out_avals)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    mlir.register_lowering(primitive, partial(_lower, platform), platform=platform)
    mlir.register_lowering(primitive, _lower_elsewhere)

    def on_platform(function: Callable[..., Any], elsewhere: str | None) -> Callable[..., Any]:
        """The same function from arrays to a list of arrays of floats, in programs for it.

        Elsewhere RefusalError says `elsewhere` when it is lowered; None: it is in a branch that
        other platforms never take, and is NaN there.
        """

        def call(*arrays: Any) -> list[Any]:
            program = jax.make_jaxpr(function)(*arrays)
            return primitive.bind(*arrays, program=program, elsewhere=elsewhere)

        return call

    return on_platform


def _lower(platform: str, ctx: Any, *arrays: Any, program: Any, elsewhere: str | None) -> Any:
    function = jax.extend.core.jaxpr_as_fun(program)
    ctx = ctx.replace(module_context=ctx.module_context.replace(platforms=(platform,)))
    return mlir.lower_fun(function, multiple_results=True)(ctx, *arrays)


def _lower_elsewhere(ctx: Any, *arrays: Any, program: Any, elsewhere: str | None) -> Any:
    if elsewhere is not None:
        raise RefusalError(elsewhere)
    nothing = lambda *_: [jnp.full(x.shape, jnp.nan, x.dtype) for x in program.out_avals]
    return mlir.lower_fun(nothing, multiple_results=True)(ctx, *arrays)


def _batch(primitive: Any, arrays: Any, axes: Any, *, program: Any, elsewhere: str | None) -> Any:
    function = jax.vmap(jax.extend.core.jaxpr_as_fun(program), tuple(axes))
    program = jax.make_jaxpr(function)(*arrays)
    out = primitive.bind(*arrays, program=program, elsewhere=elsewhere)
    return out, [0] * len(out)


on_cuda, on_tpu = _on_platform("cuda"), _on_platform("tpu")
