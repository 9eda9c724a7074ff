"""What names and shapes do not tell of tensors: whether they are weights, and the same."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossattn.interop.files import FLOATS, Files
from crossattn.interop.table import Fit, Layout, Line, SelectionError

__all__ = ["check_parts", "untied", "without_integers"]


def check_parts(preset: str, layouts: Sequence[Layout], parts: Sequence[str], fit: Fit) -> None:
    """Each is a part of the parameters of a preset with these layouts, of a layer that there is.

    Raises:
      SelectionError: one is not.
    """
    paths = {path for place in fit.places for path in (*place.entry.ours, *place.entry.zeros)}
    for part in parts:
        if not any(f"{path}/".startswith(f"{part}/") for path in paths):
            every = {path for one in layouts for e in one.entries for path in e.ours}
            there = ", ".join(sorted({path.split("/")[0] for path in every}))
            raise SelectionError(f"{preset} has no part {part!r}: there are {there}")


def without_integers(fit: Fit, source: Mapping[str, Any]) -> Fit:
    """Tensors that are no weights as they are: quantised ones have a scale elsewhere."""
    dtypes = source.dtypes if isinstance(source, Files) else {}
    bad = {}
    for place in fit.places:
        if place.name in source:
            found = dtypes.get(place.name) or str(getattr(source[place.name], "dtype", "no array"))
            if found.removeprefix("torch.") not in (*FLOATS, *FLOATS.values()):
                bad[place.name] = Line("dtype", place.name, found, ", ".join(FLOATS))
    lines = [bad.pop(line.name, line) if not line.problem else line for line in fit.lines]
    return dataclasses.replace(fit, lines=tuple(sorted(lines, key=lambda line: not line.problem)))


def untied(fit: Fit, source: Mapping[str, Any]) -> list[Line]:
    """Tensors that ought to be the same and are not; their arrays are read."""
    return [
        Line("untied", one, needed=f"the same as {other}")
        for one, other in fit.tied.items()
        if np.asarray(source[one]).tobytes() != np.asarray(source[other]).tobytes()
    ]
