"""What the command line of each benchmark takes, and the cases that follow from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from crossattn.ops.api import IMPLEMENTATIONS

from .benchmarks import decode, length, masks
from .benchmarks.attention import OURS
from .cases import DEVICE_SHAPES, SHAPES, Case, Shape, parse_shape
from .decoder_options import Generate, TrainingStep
from .shared_options import (
    DEFAULT,
    BenchOptions,
    Direction,
    PassOptions,
    ShapeOptions,
    check_choices,
    check_positive,
)
from .sweep.cases import DEVICE_PEERS, FORCED, device_cases
from .sweep.masks import HIDINGS

PEERS = ("jax.nn", "linen", "nnx", "tokamax", "torch")
MINUTES = 8.0


@dataclasses.dataclass(frozen=True)
class Attention(PassOptions):
    """The operation alone, beside those of other libraries.

    Shapes are (B, T, S, H, D): examples, queries, keys, heads, head size; H/K where fewer heads are
    of keys. On an accelerator all programs are compiled first, in threads, and timed by the clock:
    inside one program, and as plain calls; masks as well.
    """

    by_shape, grouped = True, True

    shapes: tuple[str, ...] = (DEFAULT,)
    """Names, or free shapes as five numbers: --shapes long 2,17,301,4,32; default: those
    of the device."""
    peers: tuple[str, ...] | None = None
    """On a CPU of jax.nn, linen, nnx, tokamax and torch, on a GPU of jax.nn, cudnn (jax.nn with
    cuDNN), tokamax, torch-flash, torch-cudnn, torch-efficient and torch-default, on a TPU of jax.nn
    and splash; all of them when not given."""
    implementation: tuple[str, ...] | None = None
    """Implementations of ours to measure in columns of their own, besides the one chosen; by the
    clock, those of the device when not given."""
    minutes: float | None = None
    """By the clock: ends in order after so many minutes and names what is missing; 8 on an
    accelerator when not given. On a CPU, a rehearsal of what an accelerator does."""
    masks: tuple[str, ...] = tuple(HIDINGS)
    """Masks to measure by the clock, at --mask-shape; none: no masks."""
    mask_shape: str = "8,1024,4096,16,64"
    """Of the masks."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        clocked = self.clock() is not None
        check_choices("--peers", self.peers or (), DEVICE_PEERS[self.device] if clocked else PEERS)
        check_choices("--implementation", self.implementation or (), IMPLEMENTATIONS)
        check_choices("--masks", self.named_masks(), HIDINGS)
        parse_shape(self.mask_shape)
        if not clocked and self.masks != tuple(HIDINGS):
            raise ValueError(
                "--masks are measured by the clock: give --minutes, or see bench masks"
            )
        if clocked and self.threads != (1,):
            raise ValueError(
                "--threads is for a CPU without --minutes: by the clock all cores work"
            )
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise ValueError(f"--minutes must be positive, got {self.minutes}")

    def clock(self) -> float | None:  # noqa: D102 - as above
        minutes = MINUTES if self.minutes is None and self.device != "cpu" else self.minutes
        return None if minutes is None else 60 * minutes

    def named_masks(self) -> tuple[str, ...]:
        """The masks; () for the word none."""
        return () if self.masks == ("none",) else self.masks

    def parsed(self) -> list[Shape]:  # noqa: D102 - as above
        if self.shapes != (DEFAULT,):
            return super().parsed()
        return list((SHAPES if self.clock() is None else DEVICE_SHAPES).values())

    def cases(self) -> list[Case]:  # noqa: D102 - as above
        if self.clock() is None:
            return super().cases()
        forced = FORCED[self.device] if self.implementation is None else self.implementation
        peers = DEVICE_PEERS[self.device] if self.peers is None else self.peers
        names = [OURS, *(f"{OURS}[{name}]" for name in forced), *peers]
        masked = self.named_masks(), parse_shape(self.mask_shape)
        return [*device_cases(self.parsed(), *masked, list(self.settings()), names)]

    def contestants(self, shape: Shape) -> dict[str, Any]:  # noqa: D102 - as above
        peers = PEERS if self.peers is None else self.peers
        names = [OURS, *(f"{OURS}[{name}]" for name in self.implementation or ()), *peers]
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
    "step": TrainingStep,
    "masks": Masks,
    "length": Length,
}
