"""Which cells of a grid of parameters `make test` takes: each value of each axis once."""

import itertools

import pytest


def diagonal(*axes, always=lambda *values: False):
    """Every combination for `parametrize`; marked slow but for a diagonal and what is `always`.

    The longest axis is gone through once. The others begin one place later in every round, so that
    axes whose lengths divide each other do not always meet in the same pairs.
    """
    axes = [[*axis] for axis in axes]
    sizes = [len(axis) for axis in axes]
    quick = {tuple((i + i // n) % n for n in sizes) for i in range(max(sizes))}
    cells = []
    for places in itertools.product(*map(range, sizes)):
        values = [axis[place] for axis, place in zip(axes, places, strict=True)]
        marks = () if places in quick or always(*values) else pytest.mark.slow
        cells.append(pytest.param(*values, marks=marks))
    return cells
