"""How the tokens of a call lie over the devices, and which part of its mask a device needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from crossattn.ops.masks.arrays import clip_to, total
from crossattn.ops.masks.mask import Mask
from crossattn.ops.masks.terms import Band, Causal, Lengths, Window
from crossattn.ops.reference import precision
from crossattn.shapes import Array

__all__ = ["ContextParallel", "Side", "local", "padded"]


@dataclasses.dataclass(frozen=True)
class ContextParallel:
    """Queries lie along T and keys along S over `axis` of the mesh, examples and heads over others.

    Attributes:
      mesh: a `jax.sharding.Mesh` or `AbstractMesh`.
      axis: over which the tokens lie.
      batch: axes over which the examples lie, as far as they are known here; those that are not
        stay with the compiler, which also splits the work.
      heads: the same for the heads, of the queries as of the keys.
    """

    mesh: Any
    axis: str = "context"
    batch: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    def __post_init__(self):
        for name in (self.axis, *self.batch, *self.heads):
            if name not in self.mesh.shape:
                known = ", ".join(map(repr, self.mesh.axis_names))
                raise ValueError(f"the mesh has no axis {name!r}: write one of {known}")
        names = (self.axis, *self.batch, *self.heads)
        if len(set(names)) < len(names):
            raise ValueError(f"one axis of the mesh is named twice among {names}")
        for name in set(self._explicit) - set(names):
            if self.mesh.shape[name] > 1:
                raise ValueError(
                    f"axis {name!r} of the mesh is Explicit, which leaves the compiler nothing to "
                    "split: name it in ContextParallel(batch=...) or ContextParallel(heads=...)"
                )

    @property
    def _explicit(self) -> tuple[str, ...]:
        kinds = zip(self.mesh.axis_names, self.mesh.axis_types, strict=True)
        return tuple(name for name, kind in kinds if kind == AxisType.Explicit)

    @property
    def n(self) -> int:
        """How many devices share the tokens."""
        return self.mesh.shape[self.axis]

    def over(self, names: tuple[str, ...]) -> int:
        """How many devices these axes have together."""
        out = 1
        for name in names:
            out *= self.mesh.shape[name]
        return out

    def spec(self, axes: str, shape: tuple[int, ...], along: str = "TS") -> PartitionSpec:
        """Of an array with these letters as axes, `B|1` being B or 1, cut `along` some of them."""
        names: dict[str, tuple[str, ...]] = {
            "B": self.batch,
            "H": self.heads,
            "K": self.heads,
        }
        for letter in along:
            names[letter] = (*names.get(letter, ()), self.axis)
        found = []
        for letter, n in zip(axes.split(), shape, strict=True):
            whole = n == 1 and letter.endswith("|1")
            found.append(None if whole else names.get(letter[0]) or None)
        return PartitionSpec(*found)

    def of_mask(self, mask: Mask, along: str) -> list[PartitionSpec]:
        """One for each leaf of the mask."""
        return [
            self.spec(axes, jnp.shape(value), along)
            for term in mask.terms
            for _, value, axes in term.arguments()
            if value is not None
        ]

    def of_bias(self, bias: Array | None, along: str) -> tuple[PartitionSpec | None, Array | None]:
        """Of a bias, with the bias: in float32 where several devices share an entry.

        Its gradient is summed over them: in float32 nothing is lost, and XLA's CPU compiler aborts
        on such sums in bfloat16 while it still has axes of the mesh to split.
        """
        if bias is None:
            return None, None
        spec = self.spec("B|1 H|1 T|1 S|1", bias.shape, along)
        own = {name for names in spec if names is not None for name in names}
        shared = {self.axis, *self.batch, *self.heads} - own
        return spec, bias.astype(precision(bias.dtype)) if shared else bias

    def map(self, body: Callable[..., Any], given: Any, specs: Any, out: Any) -> Any:
        """`body(index, *given)` on every device, where `index` says which part of the axis it has.

        Manual over the axes named here, and over those of one device: kernels for TPUs refuse a
        mesh of which the compiler still has axes to split.
        """
        names = {self.axis, *self.batch, *self.heads}
        names |= {name for name, n in self.mesh.shape.items() if n == 1}
        given = (jnp.arange(self.n, dtype=jnp.int32), *given)
        specs = (PartitionSpec(self.axis), *specs)
        if self._explicit:
            place = lambda x, spec: jax.sharding.reshard(x, NamedSharding(self.mesh, spec))
            given = jax.tree.map(place, given, specs)
        mapped = jax.shard_map(
            lambda index, *rest: body(index[0], *rest),
            mesh=self.mesh,
            axis_names=names,
            in_specs=specs,
            out_specs=out,
            check_vma=True,
        )
        return mapped(*given)


@dataclasses.dataclass(frozen=True)
class Side:
    """`size` neighbours from `start` (which may be traced) of `n` queries or keys."""

    n: int
    size: int
    start: Any = 0

    @classmethod
    def whole(cls, n: int) -> Side:
        """All of them."""
        return cls(n, n)

    @classmethod
    def part(cls, size: int, of: int, index: Any) -> Side:
        """The stretch of a device, of `of` that have `size` each."""
        return cls(size * of, size, index * jnp.int32(size))


def local(mask: Mask, B: int, queries: Side, keys: Side) -> Mask:
    """The mask of a device's own queries and keys, from one whose ids and booleans are cut already.

    What is left to do is what is said by position: lengths and bands.
    """
    if queries.size == queries.n and keys.size == keys.n:
        return mask
    return Mask(tuple(_local(term, B, queries, keys) for term in mask.terms))


def _local(term: Any, B: int, queries: Side, keys: Side) -> Any:
    if isinstance(term, Lengths):
        return Lengths(_rest(term.query, queries), _rest(term.key, keys))
    if not isinstance(term, Band):
        return term
    # Cut to what changes nothing, so that no sum with a position can wrap.
    offset = 0 if term.offset is None else term.offset
    low, high = (
        None
        if by is None
        else jnp.broadcast_to(clip_to(total(offset, by, sign), -queries.n, keys.n), (B,))
        for by, sign in ((term.left, -1), (term.right, 1))
    )
    shift = queries.start - keys.start
    if isinstance(term, Causal):
        return Causal(high + shift)
    return Window(None if low is None else -low, high, shift)


def _rest(length: Any, side: Side) -> Any:
    if length is None:
        return None
    return jnp.clip(clip_to(length, 0, side.n) - side.start, 0, side.size)


def padded(
    layout: ContextParallel, q: Array, k: Array, v: Array | None, mask: Mask, bias: Array | None
):
    """The call with as many queries and keys as divide over the devices; nobody sees the others."""
    (B, T, _, _), S = q.shape, k.shape[1]
    to = {n: max(-(-n // layout.n), 1) * layout.n for n in (T, S)}
    if to[T] == T and to[S] == S:
        return q, k, v, mask, bias
    q, k = _grown(q, 1, to[T]), _grown(k, 1, to[S])
    v = None if v is None else _grown(v, 1, to[S])
    if bias is not None:
        for axis in (2, 3):
            if bias.shape[axis] > 1:
                bias = _grown(bias, axis, to[bias.shape[axis]])
    return q, k, v, mask.padded(B, T, S, to[T], to[S]), bias


def _grown(x: Array, axis: int, n: int) -> Array:
    return jnp.pad(x, [(0, n - x.shape[i] if i == axis else 0) for i in range(x.ndim)])
