"""Which implementation takes a call: a table to read, by lowering platform and shape.

The platform is that for which the program is compiled (`jax.lax.platform_dependent`), not that of
the machine on which it is traced, so that a program compiled ahead of time for another gets what
suits it there. For each platform the first row that covers the call's shape, and whose
implementation does not refuse the call, is taken.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.kernels import any_size, chunked, dense, few_keys, split_kv
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.masks.mask import Mask
from crossattn.ops.sizes import all_known

__all__ = [
    "FUSED",
    "IMPLEMENTATIONS",
    "TABLE",
    "Choice",
    "Kernel",
    "RefusalError",
    "choose",
    "forced",
    "kernel",
    "refusal",
    "sizes_of",
]


class RefusalError(ValueError):
    """Raised where an implementation cannot take a call; its text is the reason."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the table reads of a call."""

    B: int
    T: int
    S: int
    H: int
    K: int
    D: int
    masked: bool = False
    local: bool = False

    @property
    def known(self) -> bool:
        """Whether the table can be read: no size is one of `jax.export.symbolic_shape`."""
        return all_known(self.B, self.T, self.S)

    @property
    def keys(self) -> int:
        """Numbers in the keys, which a dense implementation copies heads first."""
        return self.B * self.S * self.K * self.D

    @property
    def scores(self) -> int:
        """Entries of the matrix of scores that a dense implementation makes."""
        return self.B * self.H * self.T * self.S

    @property
    def tiles(self) -> int:
        """Processors kept busy when each takes 128 queries of one head."""
        return self.B * self.H * -(-self.T // 128)


class Row(NamedTuple):
    """One line of the table: `implementation` where `covers(sizes)`, which `when` says in words."""

    implementation: str
    when: str
    covers: Callable[[Sizes], bool]


class Kernel(NamedTuple):
    """The kernel contract, with everything that a platform chooses already given.

    forward(q, k, v, mask, bias, scale, softcap) -> (o, lse);
    backward(q, k, v, mask, bias, scale, softcap, o, lse, do, dlse) -> (dq, dk, dv, dbias), for the
    o and lse of all keys, of which k may hold only some (but for "xla" and "few_keys"); a dlse of
    None is zero.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    sums_onto: bool = False  # backward takes onto=(dq, dk), and sums onto what is there


def forward(kernel: Kernel, inputs: Any, scale: float, softcap: float | None, dropout: Any) -> Any:
    """(o, lse)."""
    extra = {} if dropout is None else {"dropout": dropout}
    return kernel.forward(*inputs, scale, softcap, **extra)


def backward(
    kernel: Kernel,
    inputs: Any,
    scale: float,
    softcap: float | None,
    dropout: Any,
    results: Any,
    onto: Any,
) -> Any:
    """(dq, dk, dv, dbias), with `onto`, each None or an array, added to dq and dk."""
    extra = {} if dropout is None else {"dropout": dropout}
    if kernel.sums_onto:
        return kernel.backward(*inputs, scale, softcap, *results, **extra, onto=onto)
    dq, dk, *rest = kernel.backward(*inputs, scale, softcap, *results, **extra)
    dq, dk = (g if x is None else g + x for g, x in zip((dq, dk), onto, strict=True))
    return dq, dk, *rest


IMPLEMENTATIONS = {
    "reference": "the definition, dense, differentiated by autodiff: for tests",
    "xla": "dense, plain XLA operations; any call; the one that can drop weights",
    "chunked": "blocks of queries and keys, online softmax: memory does not grow with T x S",
    "few_keys": "blocks of queries, each over all keys at once: many queries over few keys",
    "split_kv": "keys in parts along the batch, joined by lse: few queries over a long context",
    "cudnn": "cuDNN's fused attention on NVIDIA GPUs, through jax.nn",
    "splash": "splash attention's Pallas kernels on TPUs",
}
FUSED = {"cudnn", "splash"}
FORMER = {"rows": "few_keys", "merge": "split_kv"}  # names of the release before

# What is taken where sizes are not known, on every platform; a choice, but no name to write.
EITHER = "xla or chunked"
UNKNOWN = "B, T or S is symbolic: right for any size"
_ALWAYS = ("otherwise", lambda n: True)
TABLE: dict[str, tuple[Row, ...]] = {
    "cpu": (
        Row(
            "xla",
            "up to 2^18 scores and 2^18 keys x heads x size: they stay in the cache",
            lambda n: max(n.scores, n.keys) <= 2**18,
        ),
        Row(
            "xla",
            "up to 2^20 of each, where no block of keys can be skipped: S <= 256 or no mask",
            lambda n: max(n.scores, n.keys) <= 2**20 and (n.S <= 256 or not n.masked),
        ),
        Row("few_keys", "T > 128 and S <= 128", lambda n: n.T > 128 and n.S <= 128),
        Row("chunked", *_ALWAYS),
    ),
    "cuda": (
        Row(
            "split_kv",
            "S >= 4096 and B H ceil(T / 128) < 132: fewer tiles than processors",
            lambda n: n.S >= 4096 and n.tiles < 132,
        ),
        Row("cudnn", "S >= 512 and T >= 128", lambda n: n.S >= 512 and n.T >= 128),
        Row("xla", "up to 2^22 scores", lambda n: n.scores <= 2**22),
        Row("chunked", *_ALWAYS),
    ),
    "tpu": (
        Row("splash", "S >= 1024 and T >= 16", lambda n: n.S >= 1024 and n.T >= 16),
        Row("xla", "up to 2^20 scores", lambda n: n.scores <= 2**20),
        Row("chunked", *_ALWAYS),
    ),
    "default": (
        Row("xla", "up to 2^20 scores", lambda n: n.scores <= 2**20),
        Row("chunked", *_ALWAYS),
    ),
}


def sizes_of(q: Any, k: Any, mask: Mask) -> Sizes:
    """What the table reads, from arrays or their shapes."""
    (B, T, H, D), (_, S, K, _) = q.shape, k.shape
    return Sizes(B, T, S, H, K, D, masked=bool(mask.terms), local=mask.local)


def refusal(name: str, q, k, v, mask, bias, scale, softcap, dropout) -> str | None:
    """Why the implementation cannot take the call, or None."""
    if dropout is not None and name not in ("reference", "xla"):
        return "it keeps no weights to drop; 'xla' does"
    if name in (*FUSED, "split_kv", "few_keys") and not sizes_of(q, k, mask).known:
        return "it wants sizes that are known, and B, T or S is symbolic"
    if name not in FUSED:
        return None
    try:
        module = _fused(name)
    except (ImportError, AttributeError) as error:
        return f"jax {jax.__version__} has other kernels than those known here ({error})"
    return module.refuse(q, k, v, mask, bias, scale, softcap)


@functools.cache
def _fused(name: str) -> Any:
    """Imported when first asked for: the kernels are private to jax, and slow to import."""
    return importlib.import_module(f"crossattn.ops.kernels.{name}")


class Choice(NamedTuple):
    """What a platform takes; `inner` is what each part of "split_kv" takes."""

    platform: str
    implementation: str
    inner: str | None = None
    blocks: BlockSizes | None = None  # for "chunked", where they were given and not chosen

    @property
    def like(self) -> tuple[Any, ...]:
        """Equal for choices that run the same code: blocks differ between CPUs and accelerators."""
        sizes = "chunked" in (self.implementation, self.inner) and self.platform == "cpu"
        return self.implementation, self.inner, self.blocks or sizes


def choose(platform: str, *call: Any) -> tuple[Choice, str, list[tuple[Row, str]]]:
    """The implementation for a platform, when it is taken, and why each row above it was not."""
    q, k, _, mask, *_ = call
    sizes = sizes_of(q, k, mask)
    if not sizes.known:
        reason = refusal(EITHER, *call)
        return Choice(platform, EITHER if reason is None else "xla"), UNKNOWN, []
    passed: list[tuple[Row, str]] = []
    for row in TABLE[platform]:
        reason = refusal(row.implementation, *call) if row.covers(sizes) else "not its range"
        if reason is None:
            return _named(platform, row.implementation, *call), row.when, passed
        passed.append((row, reason))
    return Choice(platform, "xla"), "it refuses nothing", passed


def forced(platform: str, implementation: str | BlockSizes, *call: Any) -> Choice:
    """What the caller named; RefusalError with the reason where it cannot take the call."""
    name = "chunked" if isinstance(implementation, BlockSizes) else implementation
    if isinstance(name, str) and name in FORMER:
        warned = f"implementation {name!r} is now {FORMER[name]!r}"
        warnings.warn(warned, DeprecationWarning, stacklevel=2)
        name = FORMER[name]
    if not isinstance(name, str) or name not in IMPLEMENTATIONS:
        known = ", ".join(map(repr, IMPLEMENTATIONS))
        raise ValueError(
            f"unknown implementation {name!r}: write one of {known}, or None to choose"
        )
    reason = refusal(name, *call)
    if reason is not None:
        raise RefusalError(f"{name} cannot take this call: {reason}")
    if isinstance(implementation, BlockSizes):
        return Choice(platform, name, blocks=implementation)
    return _named(platform, name, *call)


def _named(platform: str, name: str, *call: Any) -> Choice:
    if name != "split_kv":
        return Choice(platform, name)
    q, k, v, mask, bias, scale, softcap, _ = call
    cut = partial(split_kv.split, parts=_parts(sizes_of(q, k, mask)))
    part: tuple[Any, ...] = jax.eval_shape(cut, q, k, v, mask, bias)
    fused = {"cuda": "cudnn", "tpu": "splash"}.get(platform)
    fits = fused and refusal(fused, *(*part, scale, softcap, None)) is None
    return Choice(platform, name, fused if fits else "chunked")


def kernel(chosen: Choice, sizes: Sizes, dtype: Any) -> Kernel:
    """The kernel contract of a choice for a call of these sizes and dtype."""
    platform, name, inner, given = chosen
    B, T, S, H, K = sizes.B, sizes.T, sizes.S, sizes.H, sizes.K
    if name == "xla":
        return Kernel(dense.forward, dense.backward)
    if name in FUSED:
        return Kernel(_fused(name).forward, _fused(name).backward)
    if name == EITHER:
        return Kernel(any_size.either_forward, any_size.either_backward)
    if not sizes.known:
        blocks = given.fitted(B, T, S, K) if given else BlockSizes.for_any_size(B, T, S, K)
        there = partial(any_size.forward, blocks=blocks)
        return Kernel(there, partial(any_size.backward, blocks=blocks))
    if name in ("chunked", "few_keys"):
        if given is not None:
            blocks = given.fitted(B, T, S, K)
        elif name == "few_keys":
            blocks = BlockSizes.for_few_keys(B, T, S, H, K)
        elif platform == "cpu":
            blocks = BlockSizes.for_cpu(B, T, S, H, K, sizes.local)
        else:
            # Halves are multiplied exactly, into sums in float32; a CPU may not know how.
            blocks = BlockSizes.for_accelerator(B, T, S, K, jnp.dtype(dtype).name)
        back = few_keys.backward if name == "few_keys" and S else chunked.backward
        return Kernel(partial(chunked.forward, blocks=blocks), partial(back, blocks=blocks), True)
    parts = _parts(sizes)
    part = dataclasses.replace(sizes, B=B * parts, S=-(-S // parts))
    one = kernel(Choice(platform, str(inner)), part, dtype)
    return Kernel(
        partial(split_kv.forward, parts=parts, kernel=one.forward),
        partial(split_kv.backward, parts=parts, kernel=one.backward),
    )


def _parts(sizes: Sizes) -> int:
    return split_kv.parts_for(sizes.B, sizes.T, sizes.S, sizes.H)
