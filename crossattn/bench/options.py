"""What the command line of each benchmark takes, and the cases that follow from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from crossattn.ops.api import IMPLEMENTATIONS

from .benchmarks import decode, generate, length, masks
from .benchmarks.attention import OURS
from .cases import Case, Shape, parse_shape
from .shared_options import (
    BenchOptions,
    Direction,
    PassOptions,
    ShapeOptions,
    check_choices,
    check_positive,
)

PEERS = ("jax.nn", "linen", "nnx", "tokamax", "torch")
GPU_PEERS = ("cudnn", *PEERS)


@dataclasses.dataclass(frozen=True)
class Attention(PassOptions):
    """The operation alone, beside those of other libraries.

    Shapes are (B, T, S, H, D): examples, queries, keys, heads, head size.
    """

    by_shape = True

    peers: tuple[str, ...] | None = None
    """Of jax.nn, linen, nnx, tokamax, torch and cudnn (jax.nn with cuDNN); all that there are for
    the device when not given."""
    implementation: tuple[str, ...] = ()
    """Implementations of ours to measure in columns of their own, besides the one chosen."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        check_choices("--peers", self.peers or (), GPU_PEERS)
        check_choices("--implementation", self.implementation, IMPLEMENTATIONS)

    def contestants(self, shape: Shape) -> dict[str, Any]:  # noqa: D102 - as above
        peers = self.peers
        if peers is None:
            peers = GPU_PEERS if self.device == "gpu" else PEERS
        names = [OURS, *(f"{OURS}[{name}]" for name in self.implementation), *peers]
        return {"benchmark": "attention", "contestants": list(dict.fromkeys(names))}


@dataclasses.dataclass(frozen=True)
class Projections(PassOptions):
    """Cross-attention with its four projections, beside Flax Linen's module.

    The gradient is that of parameters, queries and context. Width = H * D.
    """

    by_shape = True

    def contestants(self, shape: Shape) -> dict[str, Any]:  # noqa: D102 - as above
        return {"benchmark": "module", "contestants": [OURS, "linen"]}


@dataclasses.dataclass(frozen=True)
class Decode(ShapeOptions):
    """Tokens one after the other over the same context, beside Flax's modules.

    Each is measured as a loop of plain calls, a loop of compiled calls and one compiled scan.
    """

    ratio = "time of a step / crossattn's"

    shapes: tuple[str, ...] = ("decode",)
    """Names, or free shapes as five numbers; T is how many tokens a step has."""
    steps: int = 64
    """How many steps a loop has; times are those of one step."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        check_positive("--steps", self.steps)

    def contestants(self, shape: Shape) -> dict[str, Any]:  # noqa: D102 - as above
        compared = {"beside": decode.BESIDE, "also": decode.SCANNED, "steps": self.steps}
        return {"benchmark": "decode", "contestants": decode.CONTESTANTS, **compared}


@dataclasses.dataclass(frozen=True)
class Generate(ShapeOptions):
    """A text decoder of two layers writes words about a context, beside one of Flax's modules.

    Width = H * D. Always in float32.
    """

    ratio = "time of a word / crossattn's"

    shapes: tuple[str, ...] = ("decode",)
    """Names, or free shapes as five numbers, of which T is not used."""
    steps: int = 64
    """How many words are written; times are those of one word."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        check_positive("--steps", self.steps)

    def cases(self) -> list[Case]:  # noqa: D102 - as above
        return super(Generate, dataclasses.replace(self, dtype="float32")).cases()

    def contestants(self, shape: Shape) -> dict[str, Any]:  # noqa: D102 - as above
        names = generate.CONTESTANTS
        return {"benchmark": "generate", "contestants": names, "steps": self.steps}


@dataclasses.dataclass(frozen=True)
class Masks(PassOptions):
    """Masked calls, beside calls on their visible keys only.

    Shapes with B = 1 are measured with every kind of mask; those with B > 1 with ragged lengths,
    beside the call without a mask.
    """

    ratio = "time / that of the visible keys alone"

    shapes: tuple[str, ...] = ("resampler-50k", "long", "resampler")
    """Names, or free shapes as five numbers."""
    implementation: str | None = None
    """Forces an implementation of ours."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        check_choices("--implementation", filter(None, (self.implementation,)), IMPLEMENTATIONS)
        for shape in self.parsed():
            if shape.S < masks.PARTS:
                raise ValueError(f"the shape {shape} has fewer than {masks.PARTS} keys to hide")

    def contestants(self, shape: Shape) -> dict[str, Any]:  # noqa: D102 - as above
        names, beside = masks.contestants(shape, self.seed)
        compared = {"beside": beside, "also": masks.EVERYTHING}
        forced = {"implementation": self.implementation}
        return {"benchmark": "masks", "contestants": names, **compared, **forced}


@dataclasses.dataclass(frozen=True)
class Length(BenchOptions):
    """What a key costs, from short contexts to long ones: the time of a call over its keys."""

    ratio = "time of a key / that in the shortest context"

    shape: str = "1,16,1,8,64"
    """All but the number of keys."""
    sizes: tuple[int, ...] = length.SIZES
    """Numbers of keys; ratios are to the first of them."""
    direction: Direction = "both"
    """"backward" is forward and backward together, up to 262144 keys."""
    implementation: str | None = None
    """Forces an implementation of ours."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        check_choices("--implementation", filter(None, (self.implementation,)), IMPLEMENTATIONS)
        parse_shape(self.shape)
        if not self.sizes or min(self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"--sizes takes different positive numbers, got {self.sizes}")

    def cases(self) -> list[Case]:  # noqa: D102 - as above
        found = []
        for setting in self.settings(self.direction):
            backward = setting["direction"] == "backward"
            sizes = [n for n in self.sizes if n <= length.LONGEST_BACKWARD or not backward]
            if sizes:
                shape = dataclasses.replace(parse_shape(self.shape), S=max(sizes))
                shape = dataclasses.replace(shape, name=",".join(map(str, shape.sizes)))
                forced = {"implementation": self.implementation, **setting}
                found.append(Case("length", shape, contestants=[*map(str, sizes)], **forced))
        return found


BENCHMARKS: dict[str, type[BenchOptions]] = {
    "attention": Attention,
    "module": Projections,
    "decode": Decode,
    "generate": Generate,
    "masks": Masks,
    "length": Length,
}
