"""A two-way table between other people's tensors and our parameters, and what does not fit it."""

import dataclasses
import re
import string
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from crossattn.files import printable

__all__ = [
    "BUFFERS",
    "NUMBER",
    "Entry",
    "Fit",
    "ImportMismatchError",
    "Layout",
    "Line",
    "Place",
    "SelectionError",
    "Shape",
    "aligned",
    "misfits",
    "parsed",
    "size_of",
]

Shape = tuple[int, ...]
SHOWN = 30
Problem = Literal["", "missing", "unknown", "misshaped", "untied", "dtype", "config", "module"]
# Names of what is computed and not learned, or that published classes themselves do not read.
BUFFERS = (
    r"(.*\.)?position_ids",
    r"(.*\.)?token_type_ids",
    r"(.*\.)?rotary_emb\.inv_freq",
    r"(.*\.)?distance_embedding\.weight",
)
NUMBER = re.compile(r"\{(?:(\d+)\+)?([a-z])\}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of their tensors, and the parameters of ours that it holds.

    Attributes:
      theirs: its name; `{i}` is the number of a layer, `{1+i}` one from 1 on.
      ours: paths of parameters; several where the tensor is split evenly along its first axis. The
        layers' are stacked in front, unless the paths have the number as well.
      shape: a letter or a number for each of its axes. Equal letters are equal sizes, "3M" is three
        times M.
      becomes: the same for ours: the axes in another order are a transpose, anything else a
        reshape; as `shape` when None.
      zeros: paths of parameters with this shape that they do not have, which are all 0.
      interleaved: of several, each has every so manieth row of the tensor, instead of a part.

    >>> Entry("qkv.weight", ("a/q", "a/k", "a/v"), "3M M", "M M")
    Traceback (most recent call last):
    ValueError: qkv.weight: axes of '3M M' need letters of their own
    """

    theirs: str
    ours: tuple[str, ...]
    shape: str
    becomes: str | None = None
    zeros: tuple[str, ...] = ()
    interleaved: bool = False

    def __post_init__(self):
        named = [letter for letter in self.part if parsed(letter)[1]]
        if self.becomes is not None and len(set(named)) < len(named):
            raise ValueError(f"{self.theirs}: axes of {self.shape!r} need letters of their own")

    @property
    def part(self) -> list[str]:
        """Letters of one part of theirs, which is all of it unless it is split."""
        letters = self.shape.split()
        if len(self.ours) > 1:
            letters[0] = letters[0].removeprefix(str(len(self.ours)))
        return letters

    @property
    def target(self) -> list[str]:
        """Letters of ours."""
        return self.part if self.becomes is None else self.becomes.split()

    @property
    def stacked(self) -> bool:
        """Whether the parameters have a leading axis of layers."""
        return NUMBER.search(self.theirs) is not None and NUMBER.search(self.ours[0]) is None

    def read(self, tensor: np.ndarray, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Our parameters of one layer."""
        many = len(self.ours)
        parts = np.split(tensor, many) if many > 1 else [tensor]
        if self.interleaved:
            parts = [tensor[k::many] for k in range(many)]
        moved = [self._moved(part, self.part, self.target, sizes) for part in parts]
        found = dict(zip(self.ours, moved, strict=True))
        return found | {path: np.zeros_like(found[self.ours[0]]) for path in self.zeros}

    def write(self, params: Sequence[np.ndarray], sizes: Mapping[str, int]) -> np.ndarray:
        """Their tensor."""
        parts = [self._moved(p, self.target, self.part, sizes) for p in params]
        if self.interleaved:
            return np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])
        return np.asarray(np.concatenate(parts) if len(parts) > 1 else parts[0], order="C")

    def _moved(self, tensor, old, new, sizes):
        if old == new:
            return np.asarray(tensor, order="C")
        if sorted(old) == sorted(new):
            return np.asarray(tensor.transpose([old.index(letter) for letter in new]), order="C")
        shape = [size_of(letter, sizes) for letter in new]
        if shape.count(None) > 1:
            raise ValueError(f"{self.theirs}: give `like`, to say how large ({', '.join(new)}) is")
        return np.asarray(tensor.reshape([-1 if n is None else n for n in shape]), order="C")


@dataclasses.dataclass(frozen=True)
class Layout:
    """All tensors of a block or of a whole model.

    Attributes:
      entries: what each tensor becomes.
      tied: {another name: the name under which the same tensor is stored}; a file may have either,
        or both.
      scopes: how the names begin that are its own; the others of a file are somebody else's.
      buffers: regular expressions of names that the class itself ignores.
      outer: how all names begin that a file of the bare model has without it, as in "model.".
    """

    entries: tuple[Entry, ...]
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scopes: tuple[str, ...] = ("",)
    buffers: tuple[str, ...] = BUFFERS
    outer: str = ""

    @property
    def bare(self) -> "Layout":
        """The layout of a file of the bare model."""
        short = lambda name: name.removeprefix(self.outer)
        return dataclasses.replace(
            self,
            entries=tuple(dataclasses.replace(e, theirs=short(e.theirs)) for e in self.entries),
            tied={short(one): short(other) for one, other in self.tied.items()},
            scopes=tuple(map(short, self.scopes)),
            outer="",
        )


@dataclasses.dataclass(frozen=True)
class Line:
    """What became of one tensor: a row of the table that users see."""

    problem: Problem
    name: str
    found: str = "-"
    needed: str = "-"


@dataclasses.dataclass(frozen=True)
class Place:
    """A tensor that has its place: its name, its entry and the position of its layer."""

    name: str
    entry: Entry
    layer: int


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a set of tensors, or of parameters, fits a layout.

    Attributes:
      places: of all tensors that the layout asks for.
      lines: one for each tensor, those that do not fit first.
      sizes: of the letters.
      tied: names present of which another one holds the same.
      ignored: names present that the class itself ignores.
    """

    places: tuple[Place, ...]
    lines: tuple[Line, ...]
    sizes: Mapping[str, int]
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Line, ...]:
        """What does not fit."""
        return tuple(line for line in self.lines if line.problem)


class ImportMismatchError(ValueError):
    """Tensors that do not fit: the message is a table of them, `lines` are its rows."""

    def __init__(self, title: str, lines: Sequence[Line], hint: str = ""):
        self.lines = tuple(lines)
        super().__init__("\n".join([title, *misfits(lines), *([hint] if hint else [])]))


class SelectionError(ValueError):
    """A prefix, or parts, that a layout does not have: one line."""


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, all to the left; what is no letter is escaped.

    >>> aligned([("tensor", "found"), ("a.bias", "-")])
    ['tensor  found', 'a.bias  -']
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(n) for cell, n in zip(row, wide, strict=True)).rstrip() for row in rows
    ]


def misfits(lines: Sequence[Line]) -> list[str]:
    """The table of what does not fit; of a checkpoint of something else there are thousands."""
    rows = [("problem", "tensor", "found", "needed")]
    rows += [(line.problem, line.name, line.found, line.needed) for line in lines[:SHOWN]]
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return aligned(rows) + more


def size_of(token: str, sizes: Mapping[str, int]) -> int | None:
    """The size that a letter, a number or a multiple of a letter stands for.

    >>> size_of("3M", {"M": 4}), size_of("1", {}), size_of("Q", {})
    (12, 1, None)
    """
    factor, letter = parsed(token)
    if not letter:
        return factor
    return factor * sizes[letter] if letter in sizes else None


def parsed(token: str) -> tuple[int, str]:
    """The factor and the letter of an axis.

    >>> parsed("3M"), parsed("1")
    ((3, 'M'), (1, ''))
    """
    letters = token.lstrip(string.digits)
    return int(token.removesuffix(letters) or 1), letters
