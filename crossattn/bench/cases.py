"""What one measurement is of: a shape, a direction, a dtype, and who competes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from crossattn.spelling import nearest


@dataclasses.dataclass(frozen=True)
class Shape:
    """B examples of T queries and S keys, with H heads of size D, of which K are of keys."""

    name: str
    B: int
    T: int
    S: int
    H: int
    D: int
    K: int | None = None

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """(B, T, S, H, D)."""
        return self.B, self.T, self.S, self.H, self.D

    @property
    def key_heads(self) -> int:
        """K; H where each head has keys of its own."""
        return self.K or self.H

    def __str__(self) -> str:
        B, T, S, H, D = map(str, self.sizes)
        sizes = ",".join((B, T, S, f"{H}/{self.K}" if self.K else H, D))
        return sizes if self.name == sizes else f"{self.name} {sizes}"


@dataclasses.dataclass(frozen=True)
class DecoderShape(Shape):
    """A decoder of texts: T words about S frames, width H * D."""

    layers: int = 2
    vocab_size: int = 1000

    @property
    def width(self) -> int:
        """Of its stream."""
        return self.H * self.D

    def __str__(self) -> str:
        more = f"{self.layers},{self.vocab_size}"
        return super().__str__() if self.name.endswith(more) else f"{super().__str__()},{more}"


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
# Of published models that run on accelerators; all but "mask" are measured without a mask.
DEVICE_SHAPES = {
    shape.name: shape
    for shape in (
        Shape("latents-16k", 1, 64, 16384, 16, 128),
        Shape("wan-32", 1, 32, 62208, 9, 128),
        Shape("gqa-16k", 1, 64, 16384, 32, 128, 8),
        Shape("whisper", 16, 448, 1500, 16, 64),
        Shape("control-8k", 1, 8192, 8192, 16, 128),
        Shape("wan-text", 1, 32760, 512, 40, 128),
        Shape("resampler-2k", 32, 64, 2304, 16, 64),
        Shape("unet-77", 16, 4096, 77, 8, 64),
        Shape("odd-1000", 32, 100, 1000, 8, 64),
        Shape("qformer", 64, 32, 576, 12, 64),
        Shape("square-13k", 1, 13376, 13376, 32, 128),
        Shape("wan-985", 1, 985, 62208, 9, 128),
        Shape("wan-2", 1, 2, 62208, 9, 128),
        Shape("wan-64", 1, 64, 62208, 9, 128),
        Shape("mqa-131k", 1, 256, 131072, 8, 128, 1),
        Shape("ltx", 1, 126, 15360, 32, 64),
    )
}
DECODERS = {
    shape.name: shape
    for shape in (
        DecoderShape("decoder", 16, 448, 1500, 16, 64, layers=12, vocab_size=51866),
        DecoderShape("tiny.en", 1, 103, 1500, 6, 64, layers=4, vocab_size=51864),
        DecoderShape("blocks-512", 1, 64, 256, 8, 64, layers=6),
        DecoderShape("blocks-384", 5, 64, 1500, 6, 64, layers=4),
    )
}


def parse_shape(text: str) -> Shape:
    """A shape by its name, or from five numbers B,T,S,H,D; H/K where fewer heads are of keys.

    >>> parse_shape("decode").sizes, parse_shape("2,17,301,4,32").S
    ((16, 1, 576, 8, 64), 301)
    >>> parse_shape("1,64,16384,32/8,128").key_heads
    8
    """
    known = SHAPES | DEVICE_SHAPES
    if text in known:
        return known[text]
    B, T, S, heads, D = _numbers(text, known, "five positive numbers B,T,S,H,D")
    H, slash, K = heads.partition("/")
    wrong = [n for n in (B, T, S, H, D, *[K] * bool(slash)) if not n.isdecimal() or int(n) < 1]
    if wrong or (K and int(H) % int(K)):
        raise ValueError(
            f"{text!r} is no shape: write five positive numbers B,T,S,H,D (H/K: K heads of keys, "
            "of which H is a multiple)"
        )
    return Shape(text, int(B), int(T), int(S), int(H), int(D), int(K) if K else None)


def parse_decoder(text: str) -> DecoderShape:
    """A decoder by its name, or from seven numbers B,T,S,H,D,layers,words.

    >>> parse_decoder("tiny.en").width, parse_decoder("1,2,3,4,5,6,7").layers
    (384, 6)
    """
    if text in DECODERS:
        return DECODERS[text]
    numbers = _numbers(text, DECODERS, "seven positive numbers B,T,S,H,D,layers,words")
    if not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise ValueError(f"{text!r} is no decoder: write seven positive numbers")
    B, T, S, H, D, layers, words = map(int, numbers)
    return DecoderShape(text, B, T, S, H, D, layers=layers, vocab_size=words)


def _numbers(text: str, known: Mapping[str, Shape], wanted: str) -> list[str]:
    """What stands between the commas, as many as are wanted."""
    spelled = wanted.rpartition(" ")[2]
    if not text[:1].isdigit():
        hint = nearest(text, known)
        raise ValueError(f"there is no shape {text!r} (free ones are written {spelled}): {hint}")
    numbers = text.split(",")
    if len(numbers) != spelled.count(",") + 1:
        raise ValueError(f"{text!r} is no shape: write {wanted}")
    return numbers


def shape_of(fields: Mapping[str, Any]) -> Shape:
    """The inverse of `dataclasses.asdict`.

    >>> str(shape_of(dataclasses.asdict(parse_decoder("tiny.en"))))
    'tiny.en 1,103,1500,6,64,4,51864'
    """
    return (DecoderShape if "layers" in fields else Shape)(**fields)


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
        units = {"decode": "step", "generate": "word", "length": "key", "step": "step"}
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
    def from_json(cls, fields: dict) -> Any:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**fields, "shape": shape_of(fields["shape"])})
