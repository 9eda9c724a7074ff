"""Which implementation takes a call: a table to read, by lowering platform and shape.

The platform is that for which the program is compiled (`jax.lax.platform_dependent`), not that of
the machine on which it is traced, so that a program compiled ahead of time for another gets what
suits it there. For each platform the first row that covers the call, and whose implementation does
not refuse it, is taken.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable
from typing import NamedTuple

from crossattn.ops import kernels, reference
from crossattn.ops.kernels import dense, split_kv
from crossattn.ops.kernels.any_size import EITHER
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.chunked import ChunkedKernel
from crossattn.ops.kernels.protocol import AttentionCall, Kernel, RefusalError
from crossattn.ops.sizes import all_known

__all__ = [
    "IMPLEMENTATIONS",
    "TABLE",
    "RefusalError",
    "Row",
    "choose_kernel",
    "explained",
    "plan",
    "register",
]


IMPLEMENTATIONS: dict[str, Kernel] = {}  # by the names that users write


def register(kernel: Kernel) -> None:
    """Make a kernel known by its name; those in files of `kernels` are."""
    IMPLEMENTATIONS[kernel.name] = kernel


register(reference.KERNEL)
register(dense.KERNEL)  # which refuses nothing
for _file in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
    _module = importlib.import_module(_file.name)
    if hasattr(_module, "KERNEL"):
        register(_module.KERNEL)

FORMER = {"rows": "few_keys", "merge": "split_kv"}  # names of the release before


class Row(NamedTuple):
    """One line of the table: `kernel` where `covers(call)`, which `when` says in words."""

    kernel: str | Kernel
    when: str
    covers: Callable[[AttentionCall], bool]

    @property
    def found(self) -> Kernel:
        """The kernel by its name."""
        return IMPLEMENTATIONS[self.kernel] if isinstance(self.kernel, str) else self.kernel


_ALWAYS = ("otherwise", lambda n: True)
_UNKNOWN = ("B, T or S is symbolic: right for any size", lambda n: not n.known)
# On every platform before its own rows, but for fused kernels that read such keys without a copy.
FIRST = (
    Row(
        "xla",
        "T <= 8 and keys that lie heads first, as those of a cache: read once, without a copy",
        lambda n: n.heads_first and all_known(n.T) and n.T <= 8,
    ),
    Row(EITHER, *_UNKNOWN),
)
# Measured on an H200, bfloat16, ms forward, forward + backward (cuDNN in parts | whole):
#   (B, T, S, H, D) = (1, 64, 16384, 16, 128)   0.096, 0.228 | 0.201, 0.368
#   (1, 32, 62208, 9, 128)                      0.133, 0.383 | 0.727, 1.028
#   (1, 64, 16384, 32 over 8, 128)              0.100, 0.393 | 0.200, 0.578
# Between S = 2304, where 512 tiles took cuDNN whole 0.105, and 16384 nothing was measured.
LONG_CONTEXT = 4096
PROCESSORS = 132  # of an H100 or H200; cuDNN's forward kernel gives each a tile of 128 queries
_FEW_TILES = (
    f"S >= {LONG_CONTEXT} and B H ceil(T / 128) < {PROCESSORS}: fewer tiles than processors",
    lambda n: n.known and n.S >= LONG_CONTEXT and n.tiles < PROCESSORS,
)
# Queries that fill a row of a TPU's registers. Compiled for v5e, bfloat16, forward and gradient:
# MiB beside inputs and results; millions of instruction words of the kernels, forward, backward:
#   (B, T, S, H, D)            xla   chunked  few_keys  splash            resident_kv
#   (16, 4096, 77, 8, 64)       324      201       139  1164; 1.28, 1.50  0; 0.21, 0.40
#   (1, 32760, 512, 40, 128)   5129     1406      1305     -; 3.61, 9.01  0; 3.70, 8.37
# What is read and written keeps v5e's memory busy for 0.25 and 0.49 million words at S = 77; at
# S = 512 its matrix units are for 2.62 and 6.55. Splash's copies beside its kernels come on top.
MANY_QUERIES = 128
TABLE: dict[str, tuple[Row, ...]] = {
    "cpu": (
        *FIRST,
        Row(
            "few_keys",
            "T >= 32, S <= 8 and heads of up to 16: 0.7 to 0.9 of the time of xla",
            lambda n: n.T >= 32 and 0 < n.S <= 8 and n.q.shape[3] <= 16,
        ),
        Row(
            "xla",
            "up to 2^18 scores and 2^18 keys x heads x size: they stay in the cache",
            lambda n: max(n.scores, n.keys) <= 2**18,
        ),
        Row(
            "xla",
            "up to 2^20 of each, where no block of keys can be skipped: S <= 256 or no mask",
            lambda n: max(n.scores, n.keys) <= 2**20 and (n.S <= 256 or not n.mask.terms),
        ),
        Row("few_keys", "T > 128 and S <= 128", lambda n: n.T > 128 and n.S <= 128),
        Row("chunked", *_ALWAYS),
    ),
    "cuda": (
        Row(split_kv.AROUND_CUDNN, *_FEW_TILES),
        # It won at every size measured on an H200, T = 32 to 32,760 and S = 77 to 62,208: ms of
        # the best other row | cuDNN, forward, at (32, 64, 2304, 16, 64) 1.04 | 0.105, at
        # (16, 4096, 77, 8, 64) 0.571 | 0.098, at (64, 32, 576, 12, 64) 0.184 | 0.137.
        Row("cudnn", "half precision of any sizes", lambda n: n.known),
        *FIRST,
        Row("split_kv", *_FEW_TILES),
        Row("xla", "up to 2^22 scores", lambda n: n.scores <= 2**22),
        Row("chunked", *_ALWAYS),
    ),
    "tpu": (
        *FIRST,
        Row("splash", "S >= 1024 and T >= 16", lambda n: n.S >= 1024 and n.T >= 16),
        Row("xla", "up to 2^20 scores", lambda n: n.scores <= 2**20),
        Row(
            "resident_kv",
            f"T >= {MANY_QUERIES}: one pass over the queries, if all keys fit into VMEM",
            lambda n: n.T >= MANY_QUERIES,
        ),
        Row("chunked", *_ALWAYS),
    ),
    "default": (
        *FIRST,
        Row("xla", "up to 2^20 scores", lambda n: n.scores <= 2**20),
        Row("chunked", *_ALWAYS),
    ),
}


def plan(call: AttentionCall, implementation: str | BlockSizes | None) -> tuple[Kernel, ...]:
    """A kernel for each platform of the table: what the caller named, or what the table says.

    Raises:
      RefusalError: the implementation cannot take the call, with the reason.
      ValueError: there is none of this name.
    """
    if implementation is None:
        return tuple(choose_kernel(platform, call)[0] for platform in TABLE)
    kernel = _named(implementation)
    if (reason := kernel.unsupported(call)) is not None:
        raise RefusalError(f"{kernel.name} cannot take this call: {reason}")
    return tuple(kernel.fitted(platform, call) for platform in TABLE)


def choose_kernel(platform: str, call: AttentionCall) -> tuple[Kernel, str, list[tuple[Row, str]]]:
    """The kernel for a platform, when it is taken, and why each row above it was not."""
    passed: list[tuple[Row, str]] = []
    for row in TABLE[platform]:
        if row.covers(call):
            reason = row.found.unsupported(call)
            if reason is None:
                return row.found.fitted(platform, call), row.when, passed
            passed.append((row, reason))
        elif row not in FIRST and call.known:
            passed.append((row, "not its range"))
    return dense.KERNEL, "it refuses nothing", passed


def explained(call: AttentionCall) -> str:
    """The kernel for each platform, with why each row above it was not taken: a text to read."""
    lines = []
    for platform in TABLE:
        chosen, when, passed = choose_kernel(platform, call)
        lines.append(f"{platform}: {chosen.label} ({when})")
        lines += [f"  not {row.found.name}: {why} ({row.when})" for row, why in passed]
        lines += [f"  assumed: {what}" for what in [chosen.assumed()] if what]
    return "\n".join(lines)


def _named(implementation: str | BlockSizes) -> Kernel:
    if isinstance(implementation, BlockSizes):
        return ChunkedKernel(implementation)
    name = implementation
    if isinstance(name, str) and name in FORMER:
        now = FORMER[name]
        warnings.warn(f"implementation {name!r} is now {now!r}", DeprecationWarning, stacklevel=4)
        name = now
    if not isinstance(name, str) or name not in IMPLEMENTATIONS:
        known = ", ".join(map(repr, IMPLEMENTATIONS))
        raise ValueError(
            f"unknown implementation {name!r}: write one of {known}, or None to choose"
        )
    return IMPLEMENTATIONS[name]
