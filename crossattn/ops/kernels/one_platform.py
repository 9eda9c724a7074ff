"""What can be compiled for one platform only, in programs that are lowered for several at once.

`jax.lax.platform_dependent` lowers a branch for every platform of the program, also for those that
never take it, and private primitives of jax have rules for theirs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax.interpreters import mlir

from crossattn.ops.kernels.protocol import RefusalError

__all__ = ["on_cuda"]

_on_cuda = jax.extend.core.Primitive("on_cuda")
_on_cuda.multiple_results = True
_on_cuda.def_abstract_eval(lambda *_, program, elsewhere: program.out_avals)


def on_cuda(function: Callable[..., Any], elsewhere: str | None) -> Callable[..., Any]:
    """The same function from arrays to a list of arrays of floats, in programs for CUDA.

    Elsewhere RefusalError says `elsewhere` when it is lowered; None: it is in a branch that other
    platforms never take, and is NaN there.
    """

    def call(*arrays: Any) -> list[Any]:
        program = jax.make_jaxpr(function)(*arrays)
        return _on_cuda.bind(*arrays, program=program, elsewhere=elsewhere)

    return call


def _lower(ctx: Any, *arrays: Any, program: Any, elsewhere: str | None) -> Any:
    function = jax.extend.core.jaxpr_as_fun(program)
    ctx = ctx.replace(module_context=ctx.module_context.replace(platforms=("cuda",)))
    return mlir.lower_fun(function, multiple_results=True)(ctx, *arrays)


def _lower_elsewhere(ctx: Any, *arrays: Any, program: Any, elsewhere: str | None) -> Any:
    if elsewhere is not None:
        raise RefusalError(elsewhere)
    nothing = lambda *_: [jnp.full(x.shape, jnp.nan, x.dtype) for x in program.out_avals]
    return mlir.lower_fun(nothing, multiple_results=True)(ctx, *arrays)


mlir.register_lowering(_on_cuda, _lower, platform="cuda")
mlir.register_lowering(_on_cuda, _lower_elsewhere)
