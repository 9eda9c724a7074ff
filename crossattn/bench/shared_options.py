"""Options that the benchmarks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from crossattn.processes import available_cores
from crossattn.spelling import nearest

from .cases import SHAPES, Case, Shape, parse_shape

Direction = Annotated[Literal["forward", "backward", "both"], tyro.conf.arg(name="pass")]


DEFAULT = "default"  # in place of shapes: those of the device


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """Options of every benchmark.

    Attributes:
      ratio: what its ratios are, for table and figure.
      by_shape: whether it has the same contestants for every shape, so that a row can be a shape.
      grouped: whether it can be given fewer heads of keys than of queries.
    """

    ratio, by_shape, grouped = "time / crossattn's", False, False

    dtype: Literal["float32", "bfloat16", "both"] | None = None
    """Of the inputs; both on a CPU when not given, bfloat16 elsewhere."""
    threads: tuple[int, ...] = (1,)
    """Processor cores that the measuring process may use, of those this command may use; several
    numbers measure everything several times."""
    device: Literal["cpu", "gpu", "tpu"] = "cpu"
    """Where to measure."""
    seconds: float = 6.0
    """Timed calls of one case go on for so long, but for 5 rounds at least."""
    repeats: int = 50
    """Rounds at most; in a round each contestant makes one call."""
    seed: int = 0
    """Of the inputs."""
    out: Path | None = None
    """Folder of table.md, results.json and ratios.png; results/bench/BENCHMARK when not given."""

    def check(self) -> None:
        """Raise ValueError, in one line, for values that nothing can be measured with."""
        cores = len(available_cores())
        for n in self.threads:
            if not 1 <= n <= cores:
                raise ValueError(f"--threads must be 1 to {cores} (available cores), got {n}")
        if not self.threads:
            raise ValueError("--threads takes at least one number")
        if not self.seconds >= 0:
            raise ValueError(f"--seconds must not be negative, got {self.seconds}")
        check_positive("--repeats", self.repeats)

    def cases(self) -> list[Case]:
        """What is measured: a case for each number of threads, pass, dtype and shape."""
        raise NotImplementedError

    def clock(self) -> float | None:
        """Seconds for everything, where the benchmark keeps to a time."""
        return None

    def dtypes(self) -> tuple[str, ...]:
        """Those to measure."""
        both = self.dtype == "both" or (self.dtype is None and self.device == "cpu")
        return ("float32", "bfloat16") if both else (self.dtype or "bfloat16",)

    def settings(self, direction: str = "forward") -> Iterator[dict[str, Any]]:
        """The fields of a `Case` in which its groups differ."""
        for threads in dict.fromkeys(self.threads):
            for way in ("forward", "backward") if direction == "both" else (direction,):
                for dtype in self.dtypes():
                    setting = {"direction": way, "dtype": dtype, "threads": threads}
                    yield {**setting, "device": self.device, "seed": self.seed}


@dataclasses.dataclass(frozen=True)
class ShapeOptions(BenchOptions):
    """Options of benchmarks of several shapes, which measure the forward pass."""

    shapes: tuple[str, ...] = tuple(SHAPES)
    """Names, or free shapes as five numbers: --shapes long 2,17,301,4,32"""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        for shape in self.parsed():
            if shape.K and not self.grouped:
                raise ValueError(f"--shapes {shape}: here every head has keys of its own")

    def parsed(self) -> list[Shape]:
        """The shapes; ValueError for what is none."""
        if not self.shapes:
            raise ValueError("--shapes takes at least one shape")
        return [self.parse(text) for text in dict.fromkeys(self.shapes)]

    def parse(self, text: str) -> Shape:
        """One shape; ValueError for what is none."""
        return parse_shape(text)

    def cases(self) -> list[Case]:  # noqa: D102 - as above
        return [
            Case(shape=shape, **self.contestants(shape), **setting)
            for setting in self.settings()
            for shape in self.parsed()
        ]

    def contestants(self, shape: Shape) -> dict[str, Any]:
        """The fields of a `Case` that say what is measured and who competes."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class PassOptions(ShapeOptions):
    """Options of benchmarks of several shapes and both passes."""

    direction: Direction = "both"
    """"backward" is forward and backward together."""

    def settings(self, direction: str = "") -> Iterator[dict[str, Any]]:  # noqa: D102 - as above
        return super().settings(direction or self.direction)


def check_positive(option: str, value: int) -> None:
    """Raise ValueError for a number below 1."""
    if value < 1:
        raise ValueError(f"{option} must be at least 1, got {value}")


def check_choices(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ValueError for a name that is not known."""
    for name in given:
        if name not in known:
            raise ValueError(f"{option} {name!r} is unknown: {nearest(name, known)}")
