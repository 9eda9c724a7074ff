"""What the command line of each benchmark takes, and the cases that follow from it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from crossattn.ops.api import IMPLEMENTATIONS

from .benchmarks import decode, generate, length, masks
from .benchmarks.attention import OURS
from .cases import SHAPES, Case, Shape, parse_shape
from .process import available_cores

__all__ = ["Attention", "Common", "Decode", "Generate", "Length", "Masks", "Module"]

PEERS = ("jax.nn", "linen", "nnx", "tokamax", "torch")
GPU_PEERS = ("cudnn", *PEERS)
Direction = Literal["forward", "backward", "both"]
Dtype = Literal["float32", "bfloat16", "both"]


@dataclasses.dataclass(frozen=True)
class Common:
    """Options of every benchmark."""

    dtype: Dtype = "both"
    """Of the inputs."""
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
        if self.repeats < 1:
            raise ValueError(f"--repeats must be at least 1, got {self.repeats}")

    def settings(self, direction: Direction) -> Iterator[dict]:
        """The fields of a `Case` in which its groups differ."""
        for threads in dict.fromkeys(self.threads):
            for way in ("forward", "backward") if direction == "both" else (direction,):
                for dtype in ("float32", "bfloat16") if self.dtype == "both" else (self.dtype,):
                    yield {
                        "direction": way,
                        "dtype": dtype,
                        "device": self.device,
                        "threads": threads,
                        "seed": self.seed,
                    }


@dataclasses.dataclass(frozen=True)
class Attention(Common):
    """The operation alone, beside those of other libraries.

    Shapes are (B, T, S, H, D): examples, queries, keys, heads, head size.
    """

    shapes: tuple[str, ...] = tuple(SHAPES)
    """Names, or free shapes as five numbers: --shapes long 2,17,301,4,32"""
    direction: Annotated[Direction, tyro.conf.arg(name="pass")] = "both"
    """"backward" is forward and backward together."""
    peers: tuple[str, ...] | None = None
    """Of jax.nn, linen, nnx, tokamax, torch and cudnn (jax.nn with cuDNN); all that there are for
    the device when not given."""
    implementation: tuple[str, ...] = ()
    """Implementations of ours to measure in columns of their own, besides the one chosen."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        _known("--peers", self.peers or (), GPU_PEERS)
        _known("--implementation", self.implementation, tuple(IMPLEMENTATIONS))
        _shapes(self.shapes)

    def cases(self) -> list[Case]:
        """A case for each shape, pass, dtype and number of threads."""
        peers = self.peers
        if peers is None:
            peers = GPU_PEERS if self.device == "gpu" else PEERS
        names = [OURS, *(f"{OURS}[{name}]" for name in self.implementation), *peers]
        return [
            Case("attention", shape, contestants=list(dict.fromkeys(names)), **setting)
            for setting in self.settings(self.direction)
            for shape in _shapes(self.shapes)
        ]


@dataclasses.dataclass(frozen=True)
class Module(Common):
    """Cross-attention with its four projections, beside Flax Linen's module.

    The gradient is that of parameters, queries and context. Width = H * D.
    """

    shapes: tuple[str, ...] = tuple(SHAPES)
    """Names, or free shapes as five numbers: --shapes long 2,17,301,4,32"""
    direction: Annotated[Direction, tyro.conf.arg(name="pass")] = "both"
    """"backward" is forward and backward together."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        _shapes(self.shapes)

    def cases(self) -> list[Case]:
        """A case for each shape, pass, dtype and number of threads."""
        return [
            Case("module", shape, contestants=[OURS, "linen"], **setting)
            for setting in self.settings(self.direction)
            for shape in _shapes(self.shapes)
        ]


@dataclasses.dataclass(frozen=True)
class Decode(Common):
    """Tokens one after the other over the same context, beside Flax's modules.

    Each is measured as a loop of plain calls, a loop of compiled calls and one compiled scan.
    """

    shapes: tuple[str, ...] = ("decode",)
    """Names, or free shapes as five numbers; T is how many tokens a step has."""
    steps: int = 64
    """How many steps a loop has; times are those of one step."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        _shapes(self.shapes)
        if self.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {self.steps}")

    def cases(self) -> list[Case]:
        """A case for each shape, dtype and number of threads."""
        return [
            Case(
                "decode",
                shape,
                contestants=decode.CONTESTANTS,
                beside=decode.BESIDE,
                also=decode.SCANNED,
                steps=self.steps,
                **setting,
            )
            for setting in self.settings("forward")
            for shape in _shapes(self.shapes)
        ]


@dataclasses.dataclass(frozen=True)
class Generate(Common):
    """A text decoder of two layers writes words about a context, beside one of Flax's modules.

    Width = H * D.
    """

    shapes: tuple[str, ...] = ("decode",)
    """Names, or free shapes as five numbers, of which T is not used."""
    steps: int = 64
    """How many words are written; times are those of one word."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        _shapes(self.shapes)
        if self.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {self.steps}")

    def cases(self) -> list[Case]:
        """A case for each shape and number of threads."""
        return [
            Case(
                "generate",
                shape,
                contestants=generate.CONTESTANTS,
                steps=self.steps,
                **setting,
            )
            for setting in dataclasses.replace(self, dtype="float32").settings("forward")
            for shape in _shapes(self.shapes)
        ]


@dataclasses.dataclass(frozen=True)
class Masks(Common):
    """Masked calls, beside calls on their visible keys only.

    Shapes with B = 1 are measured with every kind of mask; those with B > 1 with ragged lengths,
    beside the call without a mask.
    """

    shapes: tuple[str, ...] = ("resampler-50k", "long", "resampler")
    """Names, or free shapes as five numbers."""
    direction: Annotated[Direction, tyro.conf.arg(name="pass")] = "both"
    """"backward" is forward and backward together."""
    implementation: str | None = None
    """Forces an implementation of ours."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        _known("--implementation", filter(None, (self.implementation,)), tuple(IMPLEMENTATIONS))
        for shape in _shapes(self.shapes):
            if shape.S < masks.PARTS:
                raise ValueError(f"the shape {shape} has fewer than {masks.PARTS} keys to hide")

    def cases(self) -> list[Case]:
        """A case for each shape, pass, dtype and number of threads."""
        found = []
        for setting in self.settings(self.direction):
            for shape in _shapes(self.shapes):
                names, beside = masks.contestants(shape, self.seed)
                case = Case(
                    "masks",
                    shape,
                    contestants=names,
                    beside=beside,
                    also=masks.EVERYTHING,
                    implementation=self.implementation,
                    **setting,
                )
                found.append(case)
        return found


@dataclasses.dataclass(frozen=True)
class Length(Common):
    """What a key costs, from short contexts to long ones: the time of a call over its keys."""

    shape: str = "1,16,1,8,64"
    """All but the number of keys."""
    sizes: tuple[int, ...] = length.SIZES
    """Numbers of keys; ratios are to the first of them."""
    direction: Annotated[Direction, tyro.conf.arg(name="pass")] = "both"
    """"backward" is forward and backward together, up to 262144 keys."""
    implementation: str | None = None
    """Forces an implementation of ours."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        _known("--implementation", filter(None, (self.implementation,)), tuple(IMPLEMENTATIONS))
        parse_shape(self.shape)
        if not self.sizes or min(self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"--sizes takes different positive numbers, got {self.sizes}")

    def cases(self) -> list[Case]:
        """A case for each pass, dtype and number of threads."""
        found = []
        for setting in self.settings(self.direction):
            backward = setting["direction"] == "backward"
            sizes = [n for n in self.sizes if n <= length.LONGEST_BACKWARD or not backward]
            if sizes:
                shape = dataclasses.replace(parse_shape(self.shape), S=max(sizes))
                case = Case(
                    "length",
                    dataclasses.replace(shape, name=",".join(map(str, shape.sizes))),
                    contestants=[str(n) for n in sizes],
                    implementation=self.implementation,
                    **setting,
                )
                found.append(case)
        return found


def _shapes(texts: tuple[str, ...]) -> list[Shape]:
    if not texts:
        raise ValueError("--shapes takes at least one shape")
    return [parse_shape(text) for text in dict.fromkeys(texts)]


def _known(option: str, given, known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise ValueError(f"{option} {name!r} is unknown: {hint}")
