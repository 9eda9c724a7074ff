"""What kernels share that call private functions of jax."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
from jax._src import config

from crossattn.ops.kernels.one_platform import on_tpu
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.varying import varying_like

__all__ = ["PrivateModule", "no_axis", "refuse_mesh", "tpu_kernel"]


def no_axis(call: AttentionCall) -> str | None:
    """The reason of kernels that take no empty arrays."""
    return "an axis of size 0" if 0 in (*call.q.shape, *call.k.shape, *call.v.shape) else None


def refuse_mesh() -> str | None:
    """JAX partitions no TPU kernel by itself: what `jax.set_mesh` tells of it is told here.

    A mesh that only the arguments of `jax.jit` know is not seen, and is JAX's error when it lowers.
    """
    mesh = jax.sharding.get_abstract_mesh()
    manual = jax.sharding.AxisType.Manual
    names = [n for n, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind != manual]
    if names and mesh.size > 1:
        return f"TPU kernels are not partitioned over {names}: jax.shard_map the call over all axes"
    return None


def tpu_kernel(
    kernel: Callable[..., Any], elsewhere: str | None, interpret: bool
) -> Callable[..., Any]:
    """A Pallas kernel, from pytrees of arrays to one, in programs for TPUs; see `on_tpu`.

    Kernels do not declare over which axes of a mesh their results vary: they are traced as if
    outside of `shard_map(check_vma=True)`, and what comes out is declared like what went in.
    """

    def call(*arrays: Any) -> Any:
        leaves, tree = jax.tree.flatten(arrays)
        results = None

        def flat(*leaves: Any) -> list[Any]:
            nonlocal results
            out, results = jax.tree.flatten(kernel(*jax.tree.unflatten(tree, leaves)))
            return out

        with config._check_vma(False):
            out = (flat if interpret else on_tpu(flat, elsewhere))(*leaves)
        return varying_like(jax.tree.unflatten(results, out), arrays)

    return call


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
