"""What a mask says of itself: a line of text, and a grid of who sees whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from crossattn.ops.masks.matching import Media
from crossattn.ops.masks.terms import Band, Lengths
from crossattn.ops.numbers import array_repr, unreadable

__all__ = ["DrawnMask"]

# What is drawn: tokens of a side, each a cell; blocks of a side that has more; pictures.
MOST_CELLS, MOST_PICTURES = 64, 8
# Numbers that are looked at for it, and the side of a mask that has no size of its own.
MOST_WORK, SIDE = 2**22, 8
# How each kind of term is written.
WRITTEN = {
    "Lengths": ("lengths", "query", "key"),
    "Causal": ("causal", "offset"),
    "Window": ("window", "left", "right", "offset"),
    "Segments": ("segments", "query", "key"),
    "Media": ("media", "query", "key"),
    "Keys": ("keys", "seen"),
    "DensePairs": ("dense", "seen"),
}


class DrawnMask:
    """What a `Mask` shows of itself."""

    def __repr__(self) -> str:
        return _mask_repr(self)

    def _repr_html_(self) -> str:
        from crossattn.viewer.markup import figure

        reason = unreadable(self)
        if not reason:
            try:
                return self.grid()._repr_html_()
            except ValueError as error:
                reason = str(error)
        return figure(repr(self), note=f"not drawn: {reason}")

    def grid(
        self, T: int | None = None, S: int | None = None, *, rows: Sequence[int] | None = None
    ) -> Any:
        """Who sees whom: a picture in a notebook, 0 and 1 in a terminal (of the first row).

        Args:
          T, S: queries and keys, where the mask fits any number; None: as many as it says, or 8.
          rows: of the batch, those to draw; None: the first ones.

        Raises:
          ValueError: the mask is of another size, or too large to be drawn.

        >>> from crossattn import Mask
        >>> Mask.causal(1).grid(3, 4)
        1 1 0 0
        1 1 1 0
        1 1 1 1
        """
        return _draw(self, T, S, rows)


def _mask_repr(mask: Any) -> str:
    """How a mask is written, an array by its dtype and shape; no array is read."""
    # While JAX looks at a tree, anything may stand in the place of an array.
    terms = mask.terms if isinstance(mask.terms, tuple) else (mask.terms,)
    return " & ".join(map(_term_repr, terms)) or "Mask()"


def _term_repr(term: Any) -> str:
    if type(term).__name__ not in WRITTEN:
        return f"Mask(({array_repr(term)},))"
    method, *fields = WRITTEN[type(term).__name__]
    given = {field: getattr(term, field) for field in fields}
    if isinstance(term, Band) and given["offset"] is None:
        del given["offset"]
    if isinstance(term, Lengths):
        said = [f"{side}={array_repr(n)}" for side, n in given.items() if n is not None]
    else:
        said = [array_repr(value) for value in given.values()]
    if isinstance(term, Media) and not term.latest_only:
        said.append("latest_only=False")
    return f"Mask.{method}({', '.join(said)})"


def _draw(mask: Any, T: int | None, S: int | None, rows: Sequence[int] | None) -> Any:
    # The viewer's room is entered when something is drawn, so that `import crossattn` is light.
    from crossattn.viewer.markup import Display, blues, figure, picture

    B, own_T, own_S = _sizes(mask)
    T, S, assumed = _filled(T or own_T, S or own_S)
    if B * (T + S) + sum(map(np.size, jax.tree.leaves(mask))) > MOST_WORK:
        raise ValueError(f"a mask of B={B}, T={T}, S={S} is too large: draw that of one example")
    sizes, levels = _levels(mask, B, T, S)
    chosen = rows if rows is not None else range(levels.shape[0])
    pictures = [(b, h) for b in chosen for h in range(levels.shape[1])]
    if any(not 0 <= b < max(B, levels.shape[0]) for b, _ in pictures):
        raise ValueError(f"rows are of the batch, 0 to {B - 1}, got {tuple(chosen)}")
    of = lambda b: min(b, levels.shape[0] - 1)
    parts = [
        picture(levels[of(b), h], blues(3), caption=_caption(levels.shape, b, h))
        for b, h in pictures[:MOST_PICTURES]
    ]
    left = len(pictures) - len(parts)
    note = f"{T} queries down, {S} keys across{assumed}; dark: the query sees the key"
    if sizes != (1, 1):
        note += f"; a cell is {sizes[0]} x {sizes[1]} of them, half dark where some are seen"
    note += f"; {left} more are not drawn" if left else ""
    text = repr(mask)
    if sizes == (1, 1) and parts:
        first = levels[of(pictures[0][0]), pictures[0][1]] // 2
        text = "\n".join(" ".join(map(str, line)) for line in first)
    return Display(text, figure(repr(mask), "<div>", *parts, "</div>", note=note))


def _sizes(mask: Any) -> tuple[int, int | None, int | None]:
    """B, and T and S where the mask has them, or has lengths, of which the largest."""
    found: dict[str, int] = {}
    longest: dict[str, int] = {}
    for term in mask.terms:
        for _, value, axes in term.arguments():
            for axis, size in zip(axes.split(), np.shape(value), strict=False):
                if size != 1 or "|" not in axis:
                    found[axis[0]] = size
        if isinstance(term, Lengths):
            for side, counts in (("T", term.query), ("S", term.key)):
                if counts is not None and np.size(counts):
                    longest[side] = max(1, int(np.max(counts)))
    known = longest | found
    return found.get("B", 1), known.get("T"), known.get("S")


def _filled(T: int | None, S: int | None) -> tuple[int, int, str]:
    """T and S, with what is assumed of them in words."""
    if T is None and S is None:
        return SIDE, SIDE, " (it fits any number of both)"
    if T is None or S is None:
        known = T or S or 0
        side = "queries" if T is None else "keys"
        return T or known, S or known, f" (it fits any number of {side})"
    return T, S, ""


def _levels(mask: Any, B: int, T: int, S: int) -> tuple[tuple[int, int], np.ndarray]:
    """Sizes of a cell, and of each cell (B|1, H|1, rows, columns) 0: hidden, 2: seen, 1: partly."""
    if max(T, S) <= MOST_CELLS:
        return (1, 1), 2 * np.asarray(mask.dense_array(B, T, S)[: _distinct(mask, B)], np.int8)
    blocks = -(-T // MOST_CELLS), -(-S // MOST_CELLS)
    some, full = mask.blocks(B, T, S, *blocks)
    # `full` leaves out the ragged end, of which `some` alone is known.
    return blocks, (np.asarray(some, np.int8) + np.asarray(full, np.int8))[:, None]


def _distinct(mask: Any, B: int) -> int:
    """How many rows of the batch differ: 1 where no term has any."""
    leaves = [np.shape(leaf) for leaf in jax.tree.leaves(mask)]
    return B if any(shape and shape[0] == B for shape in leaves) else 1


def _caption(shape: tuple[int, ...], b: int, h: int) -> str:
    row = "" if shape[0] == 1 else f"example {b}"
    head = "" if shape[1] == 1 else f"head {h}"
    return ", ".join(filter(None, (row, head)))
