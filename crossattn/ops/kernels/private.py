"""What kernels share that call private functions of jax."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.protocol import AttentionCall

__all__ = ["PrivateModule", "mapped_into_batch", "no_axis"]


def no_axis(call: AttentionCall) -> str | None:
    """The reason of kernels that take no empty arrays."""
    return "an axis of size 0" if 0 in (*call.q.shape, *call.k.shape, *call.v.shape) else None


def mapped_into_batch(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays (B, ...), where `jax.vmap` makes the batch larger.

    Rules of private primitives take some axes only, and expect all arrays to be mapped alike.

    >>> double = mapped_into_batch(lambda x, y: 2 * x + y)
    >>> jax.vmap(double, (1, None))(jnp.ones((3, 5)), jnp.ones(3)).shape
    (5, 3)
    """
    batched = jax.custom_batching.custom_vmap(function)

    @batched.def_vmap
    def rule(size: int, mapped: Any, *arrays: Any) -> Any:
        spread = lambda x, here: x if here else jnp.broadcast_to(x, (size, *x.shape))
        whole = jax.tree.map(spread, arrays, tuple(mapped))
        folded = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), whole)
        results = batched(*folded)
        apart = lambda x: x.reshape(size, -1, *x.shape[1:])
        return jax.tree.map(apart, results), jax.tree.map(lambda x: True, results)

    return batched


class PrivateModule:
    """A module of jax that is imported when it is first used: slow to import, and not promised."""

    def __init__(self, name: str) -> None:
        self.name = name

    @functools.cached_property
    def module(self) -> Any:
        """The module itself."""
        return importlib.import_module(self.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def lacks(self, *names: str) -> str | None:
        """The reason of kernels that call these, where this version of jax has other ones."""
        try:
            for name in names:
                getattr(self, name)
        except (ImportError, AttributeError) as error:
            return f"jax {jax.__version__} has other kernels than those known here ({error})"
        return None
