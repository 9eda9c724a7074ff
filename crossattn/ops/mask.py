"""Which query sees which key, said symbolically.

A mask is a conjunction of terms, each of which holds only what it needs (lengths, ids, an offset),
so that a T x S array need not exist and an implementation can ask for the part that it works on.
Queries are rows, keys are columns, both count from 0, 1 = visible:

    lengths(key=[2])   causal(0)   causal(1)   segments([[1, 1, 2]], [[1, 2, 2, 0]])
        1 1 0 0         1 0 0 0     1 1 0 0                 1 0 0 0
        1 1 0 0         1 1 0 0     1 1 1 0                 1 0 0 0
        1 1 0 0         1 1 1 0     1 1 1 1                 0 1 1 0
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.shapes import Array, Bool, Int

__all__ = ["Mask"]

# (argument as written, value, its axes as letters); "|1" axes of a dense mask may be 1.
Argument = tuple[str, Any, str]
Rows = Int[Array, "#B R"] | None


@dataclasses.dataclass(frozen=True)
class Mask:
    """A conjunction of visibility terms; `Mask()` hides nothing, `a & b` shows what both show.

    A pytree whose arrays and integers are leaves: it passes through `jit`, `scan` and `vmap`, and
    new lengths, ids or offsets recompile nothing.

    >>> mask = Mask.lengths(key=jnp.array([2, 3])) & Mask.causal(0)
    >>> mask.dense_array(2, 3, 4)[0, 0].astype(int).tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    """

    terms: tuple[Any, ...] = ()

    @classmethod
    def lengths(cls, query: Any = None, key: Any = None) -> Mask:
        """Only the first `query[b]` queries and the first `key[b]` keys are real.

        Integers (B,) of any dtype. Queries beyond their length see nothing: their output and their
        gradients are 0.
        """
        if query is None and key is None:
            raise ValueError(
                "Mask.lengths() hides nothing: write Mask.lengths(key=lengths) with integers (B,)"
            )
        query, key = (
            _integers(f"Mask.lengths({n}=...)", x, "B") for n, x in (("query", query), ("key", key))
        )
        return cls((_Lengths(query, key),))

    @classmethod
    def segments(cls, query: Any, key: Any) -> Mask:
        """A query sees the keys with its own id: integers `query` (B, T) and `key` (B, S).

        No id is special. Give padding an id that the other side does not use, or add lengths.
        """
        if query is None or key is None:
            raise ValueError("Mask.segments(query, key) needs both: integer ids (B, T) and (B, S)")
        return cls(
            (
                _Segments(
                    _integers("Mask.segments(query=...)", query, "B T"),
                    _integers("Mask.segments(key=...)", key, "B S"),
                ),
            )
        )

    @classmethod
    def causal(cls, offset: Any = None) -> Mask:
        """Query i sees key j where `i + offset >= j`; offset is an integer or integers (B,).

        The offset may be left out only where T == S (it is 0 there): libraries disagree on it for
        T != S. With `S - T` the last query sees the last key, with 0 the first sees the first.
        """
        if isinstance(offset, bool | np.bool_):
            raise TypeError(
                f"Mask.causal(offset) takes an integer, got {offset}: write Mask.causal(0)"
            )
        if not isinstance(offset, int):
            offset = _integers("Mask.causal(offset)", offset, "", "B")
        return cls((_Causal(offset),))

    @classmethod
    def keys(cls, visible: Any) -> Mask:
        """Key s of example b can be seen where `visible[b, s]`; booleans (B, S)."""
        return cls((_Keys(_booleans("Mask.keys(...)", visible, "B S")),))

    @classmethod
    def dense(cls, visible: Any) -> Mask:
        """Any visibility, written out: booleans (B|1, H|1, T|1, S|1), True = visible."""
        return cls((_Dense(_booleans("Mask.dense(...)", visible, "B|1 H|1 T|1 S|1")),))

    def __and__(self, other: Mask) -> Mask:
        if not isinstance(other, Mask):
            raise TypeError(f"Mask & {type(other).__name__}: write mask & Mask.dense(visible)")
        return Mask(self.terms + other.terms)

    __rand__ = __and__
    __array_ufunc__ = None  # numpy leaves `array & mask` to us

    def dense_array(self, B: int, T: int, S: int) -> Bool[Array, "B h T S"]:
        """Written out as booleans (B, 1|H, T, S), for tests, pictures and dense implementations."""
        visible = self.visible(B, T, S)
        return jnp.broadcast_to(visible, (B, visible.shape[1], T, S))

    def visible(self, B: int, T: int, S: int, rows: Rows = None) -> Bool[Array, "#B h t s"]:
        """Booleans (B|1, H|1, T|1, S|1) that broadcast; `rows` (B|1, R) chooses queries."""
        self.check(B, None, T, S)
        out = jnp.ones((1, 1, 1, 1), bool)
        for term in self.terms:
            out = out & term.visible(T, S, rows)
        return out

    def check(self, B: int, H: int | None, T: int, S: int) -> None:
        """Raise ValueError where a term does not fit; H = None leaves the heads unchecked."""
        sizes = {"B": B, "H": H, "T": T, "S": S}
        for term in self.terms:
            for name, value, axes in term.arguments():
                if value is not None:
                    _check_shape(name, jnp.shape(value), axes, sizes)
            if isinstance(term, _Causal) and term.offset is None and T != S:
                raise ValueError(
                    f"Mask.causal() is ambiguous for T={T} queries and S={S} keys: write "
                    f"Mask.causal({S - T}) if the last query sees the last key, Mask.causal(0) if "
                    "the first query sees the first key only"
                )


@dataclasses.dataclass(frozen=True)
class _Lengths:
    query: Any
    key: Any

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.lengths(query=...)", self.query, "B"
        yield "Mask.lengths(key=...)", self.key, "B"

    def visible(self, T: int, S: int, rows: Rows) -> Array:
        out = jnp.ones((1, 1, 1, 1), bool)
        if self.key is not None:
            out = (_range(S) < _small(self.key, 0, S)[:, None])[:, None, None, :]
        if self.query is not None:
            real = (_range(T) if rows is None else rows) < _small(self.query, 0, T)[:, None]
            out = out & real[:, None, :, None]
        return out


@dataclasses.dataclass(frozen=True)
class _Segments:
    query: Any
    key: Any

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.segments(query=...)", self.query, "B T"
        yield "Mask.segments(key=...)", self.key, "B S"

    def visible(self, T: int, S: int, rows: Rows) -> Array:
        # 64-bit ids are compared in 64 bits, since cut ones could collide; all others in 32.
        dtype = (
            jnp.int32 if max(self.query.dtype.itemsize, self.key.dtype.itemsize) < 8 else jnp.int64
        )
        query = _take_rows(self.query[:, :, None], rows).astype(dtype)
        return (query == self.key[:, None, :].astype(dtype))[:, None]


@dataclasses.dataclass(frozen=True)
class _Causal:
    offset: Any

    def arguments(self) -> Iterator[Argument]:
        per_example = self.offset is not None and jnp.ndim(self.offset) > 0
        yield "Mask.causal(offset)", self.offset, "B" if per_example else ""

    def visible(self, T: int, S: int, rows: Rows) -> Array:
        offset = jnp.zeros((), jnp.int32) if self.offset is None else jnp.asarray(self.offset)
        last = (_range(T) if rows is None else rows) + _small(offset, -T, S).reshape(-1, 1)
        return (last[:, :, None] >= _range(S)[None])[:, None]


@dataclasses.dataclass(frozen=True)
class _Keys:
    seen: Any

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.keys(...)", self.seen, "B S"

    def visible(self, T: int, S: int, rows: Rows) -> Array:
        return self.seen[:, None, None, :]


@dataclasses.dataclass(frozen=True)
class _Dense:
    seen: Any

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.dense(...)", self.seen, "B|1 H|1 T|1 S|1"

    def visible(self, T: int, S: int, rows: Rows) -> Array:
        if rows is None or self.seen.shape[2] == 1:
            return self.seen
        return jnp.moveaxis(_take_rows(jnp.moveaxis(self.seen, 2, 1), rows), 1, 2)


for _node in (Mask, _Lengths, _Segments, _Causal, _Keys, _Dense):
    _fields = [field.name for field in dataclasses.fields(_node)]
    jax.tree_util.register_dataclass(_node, data_fields=_fields, meta_fields=[])


def _range(n: int) -> Int[Array, "1 n"]:
    return jnp.arange(n, dtype=jnp.int32)[None]


def _small(x: Array, low: int, high: int) -> Array:
    """Any integer dtype to int32; the bounds keep huge values from wrapping around."""
    info = jnp.iinfo(x.dtype)
    return jnp.clip(x, max(low, int(info.min)), min(high, int(info.max))).astype(jnp.int32)


def _take_rows(x: Array, rows: Rows) -> Array:
    """x (B|1, T, ...) at the rows (B|1, R)."""
    if rows is None:
        return x
    if rows.shape[0] == 1:
        return jnp.take(x, rows[0], axis=1)
    return jax.vmap(lambda a, r: jnp.take(a, r, axis=0))(
        jnp.broadcast_to(x, (rows.shape[0], *x.shape[1:])), rows
    )


def _integers(name: str, x: Any, *axes: str) -> Any:
    if x is None:
        return None
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name} takes integers, got {x.dtype}: write x.astype(jnp.int32)")
    if x.ndim not in {len(a.split()) for a in axes}:
        wanted = " or ".join(f"({', '.join(a.split())})" for a in axes)
        raise ValueError(f"{name} takes integers of shape {wanted}, got shape {x.shape}")
    return x


# What a mask of too low a rank most often means, and how to say it.
_RESHAPE = {
    0: "mask[None, None, None, None]",
    1: "mask[None, None, None, :] for keys (S,)",
    2: "mask[:, None, None, :] for keys (B, S), mask[None, None] for pairs (T, S)",
    3: "mask[:, None] for (B, T, S), mask[None] for (H, T, S)",
}


def _booleans(name: str, x: Any, axes: str) -> Array:
    x = jnp.asarray(x)
    if x.dtype != jnp.bool_:
        raise TypeError(
            f"{name} takes booleans (True = visible), got {x.dtype}: write mask.astype(bool); "
            "numbers added to the scores are a bias"
        )
    letters = axes.split()
    if x.ndim != len(letters):
        hint = f"; write {_RESHAPE[x.ndim]}" if len(letters) == 4 and x.ndim in _RESHAPE else ""
        raise ValueError(
            f"{name} takes booleans of shape ({', '.join(letters)}), got shape {x.shape}{hint}"
        )
    return x


def _check_shape(
    name: str, shape: tuple[int, ...], axes: str, sizes: dict[str, int | None]
) -> None:
    letters = axes.split()
    wanted = [sizes[a[0]] for a in letters]
    fits = len(shape) == len(letters) and all(
        w is None or n == w or (n == 1 and a.endswith("|1"))
        for n, w, a in zip(shape, wanted, letters, strict=True)
    )
    if not fits:
        said = ", ".join(f"{a[0]}={sizes[a[0]]}" for a in letters if sizes[a[0]] is not None)
        raise ValueError(
            f"{name} has shape {shape} but this call wants ({', '.join(letters)}) with {said}"
        )
