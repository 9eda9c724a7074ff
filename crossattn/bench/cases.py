"""What one measurement is of: a shape, a direction, a dtype, and who competes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from crossattn.spelling import nearest


@dataclasses.dataclass(frozen=True)
class Shape:
    """B examples of T queries and S keys, with H heads of size D."""

    name: str
    B: int
    T: int
    S: int
    H: int
    D: int

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """(B, T, S, H, D)."""
        return self.B, self.T, self.S, self.H, self.D

    def __str__(self) -> str:
        sizes = ",".join(map(str, self.sizes))
        return sizes if self.name == sizes else f"{self.name} {sizes}"


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("captioning", 16, 32, 196, 8, 64),
        Shape("question", 64, 16, 49, 4, 32),
        Shape("image-to-text", 2, 4096, 77, 8, 40),
        Shape("resampler", 8, 64, 4096, 8, 64),
        Shape("resampler-50k", 1, 64, 50000, 8, 64),
        Shape("long", 1, 4096, 4096, 8, 64),
        Shape("video", 1, 128, 65536, 8, 64),
        Shape("decode", 16, 1, 576, 8, 64),
    )
}


def parse_shape(text: str) -> Shape:
    """A shape by its name, or from five numbers B,T,S,H,D.

    >>> parse_shape("decode").sizes, parse_shape("2,17,301,4,32").S
    ((16, 1, 576, 8, 64), 301)
    """
    if text in SHAPES:
        return SHAPES[text]
    if not text[:1].isdigit():
        hint = nearest(text, SHAPES)
        raise ValueError(f"there is no shape {text!r} (free ones are written B,T,S,H,D): {hint}")
    numbers = text.split(",")
    if len(numbers) != 5 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise ValueError(f"{text!r} is no shape: write five positive numbers B,T,S,H,D")
    return Shape(text, *map(int, numbers))


@dataclasses.dataclass(frozen=True)
class Case:
    """Contestants that are timed in turns, in one process.

    Attributes:
      benchmark: the module of this package that builds the contestants.
      shape: of the inputs.
      direction: "forward", or "backward" for forward and backward together.
      dtype: of the inputs.
      contestants: names that the benchmark's module can build.
      beside: for each contestant, the one that its time is divided by; the first where none is
        named.
      also: a contestant that all times are divided by in a further column.
      device: "cpu", "gpu" or "tpu".
      threads: processor cores that the process may use.
      implementation: forces an implementation of ours where the contestants do not name one.
      steps: of decoding, words of generate.
      seed: of the inputs.
    """

    benchmark: str
    shape: Shape
    direction: str
    dtype: str
    contestants: Sequence[str]
    beside: Mapping[str, str] = dataclasses.field(default_factory=dict)
    also: str | None = None
    device: str = "cpu"
    threads: int = 1
    implementation: str | None = None
    steps: int = 1
    seed: int = 0

    @property
    def unit(self) -> str:
        """What a time is the time of."""
        units = {"decode": "step", "generate": "word", "length": "key"}
        return units.get(self.benchmark, "call")

    @property
    def title(self) -> str:
        """What distinguishes it from the other cases of one run, apart from the shape."""
        direction = {"backward": "forward + backward"}.get(self.direction, self.direction)
        cores = f"{self.threads} thread{'s' * (self.threads > 1)}"
        forced = f", {self.implementation}" if self.implementation else ""
        return f"{direction}, {self.dtype}, {cores}{forced}"

    def reference(self, contestant: str) -> str:
        """The contestant that another's time is divided by."""
        return self.beside.get(contestant, self.contestants[0])

    @classmethod
    def from_json(cls, fields: dict) -> Case:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**fields, "shape": Shape(**fields["shape"])})
