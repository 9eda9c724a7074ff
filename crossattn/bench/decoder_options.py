"""Options of benchmarks of whole text decoders: how fast they write, and are trained."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from crossattn.nn.scan import POLICIES

from .benchmarks import generate, transformers_whisper
from .benchmarks.attention import OURS
from .cases import DECODERS, SHAPES, Shape, parse_decoder, parse_shape
from .shared_options import DEFAULT, ShapeOptions, check_choices, check_positive


@dataclasses.dataclass(frozen=True)
class DecoderOptions(ShapeOptions):
    """Options of benchmarks of whole text decoders."""

    peers: tuple[str, ...] | None = None
    """Who takes part beside ours; all that there are when not given."""
    dtype: Literal["float32", "bfloat16", "both"] | None = None
    """In which is computed; float32 on a CPU when not given, bfloat16 elsewhere."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        check_choices("--peers", self.peers or (), self.known_peers())

    def known_peers(self) -> tuple[str, ...]:
        """Names of those that there are."""
        raise NotImplementedError

    def dtypes(self) -> tuple[str, ...]:  # noqa: D102 - as above
        return ("float32",) if self.dtype is None and self.device == "cpu" else super().dtypes()

    def parse(self, text: str) -> Shape:  # noqa: D102 - as above
        if text in SHAPES or text.count(",") == 4:
            return parse_shape(text)
        return parse_decoder(text)


@dataclasses.dataclass(frozen=True)
class Generate(DecoderOptions):
    """A text decoder writes words about a context, beside others of the same sizes.

    blocks: ours without a stack; linen: of Flax's modules; transformers: Whisper of transformers,
    also compiled. Width = H * D. A word's share of the ceiling is that of reading all weights and
    what attention has cached.
    """

    ratio = "time of a word / crossattn's"

    shapes: tuple[str, ...] = ("decode",)
    """decoder, tiny.en, blocks-512, blocks-384, free ones as seven numbers B,T,S,H,D,layers,words,
    or other shapes (of two layers and 1000 words); T is not used."""
    steps: int = 64
    """How many words are written; times are those of one word."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        check_positive("--steps", self.steps)

    def known_peers(self) -> tuple[str, ...]:  # noqa: D102 - as above
        return generate.WRITERS

    def contestants(self, shape: Shape) -> dict[str, Any]:  # noqa: D102 - as above
        names = [OURS, *(generate.WRITERS if self.peers is None else self.peers)]
        return {"benchmark": "generate", "contestants": names, "steps": self.steps}


@dataclasses.dataclass(frozen=True)
class TrainingStep(DecoderOptions):
    """One update of a text decoder by AdamW, with each kind of remat, beside transformers' Whisper.

    Width = H * D. The share of the ceiling is that of a large product in the same run.
    """

    ratio = "time of a step / crossattn's"

    shapes: tuple[str, ...] = (DEFAULT,)
    """decoder, tiny.en, or free ones as seven numbers B,T,S,H,D,layers,words; default: decoder, on
    a CPU tiny.en."""
    remat: tuple[str, ...] = tuple(POLICIES)
    """What the backward pass computes again, in columns of their own besides nothing; none: only
    that."""

    def check(self) -> None:  # noqa: D102 - as above
        super().check()
        check_choices("--remat", self.remat, (*POLICIES, "none"))

    def known_peers(self) -> tuple[str, ...]:  # noqa: D102 - as above
        return transformers_whisper.NAMES

    def parsed(self) -> list[Shape]:  # noqa: D102 - as above
        if self.shapes != (DEFAULT,):
            return super().parsed()
        return [DECODERS["tiny.en" if self.device == "cpu" else "decoder"]]

    def contestants(self, shape: Shape) -> dict[str, Any]:  # noqa: D102 - as above
        peers = transformers_whisper.NAMES if self.peers is None else self.peers
        again = (f"{OURS}[{name}]" for name in self.remat if name != "none")
        return {"benchmark": "step", "contestants": [OURS, *again, *peers]}
