"""What kernels share that call private functions of jax."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import jax

from crossattn.ops.kernels.protocol import AttentionCall

__all__ = ["PrivateModule", "no_axis"]


def no_axis(call: AttentionCall) -> str | None:
    """The reason of kernels that take no empty arrays."""
    return "an axis of size 0" if 0 in (*call.q.shape, *call.k.shape, *call.v.shape) else None


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
