"""What attention and its joining to a stream can be made of: the slots that designs fill.

Plain values; a design differs from its neighbour by the fields that differ here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from crossattn.nn.choices import check_fields, known

__all__ = ["Join", "Logits", "Rotary", "Spare", "check_placing"]

NormKind = Literal["layer", "rms", "rms+1"]


@dataclasses.dataclass(frozen=True)
class Logits:
    """How a query meets a key.

    Attributes:
      scale: factor of the product; 1 / sqrt(D) when None, 1 in T5.
      softcap: bound of the logits (Gemma 2).
      norm: of each head's queries and keys, before any rotation (Llama 3.2, Gemma 3).
      epsilon: of that norm.
      competition: what the softmax runs over. "queries": slots compete for each key, and each then
        takes the mean of what it won (Locatello et al. 2020, "Slot Attention").
      talking: heads mix their logits and their weights (Shazeer et al. 2020, "Talking-Heads
        Attention"); H times the arithmetic.
    """

    scale: float | None = None
    softcap: float | None = None
    norm: NormKind | None = None
    epsilon: float = 1e-6
    competition: Literal["keys", "queries"] = "keys"
    talking: bool = False

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Spare:
    """Keys that are there whatever the context is, so that a head can look at nothing.

    Attributes:
      null: a learned key with a learned value (Imagen; `add_bias_kv` of torch).
      zero: a key and value of zeros (`add_zero_attn` of torch; softmax off by one).
      sink: a learned logit with value 0 (gpt-oss).
      registers: number of further learned keys with learned values, to keep things in (Darcet et
        al. 2024, "Vision Transformers Need Registers"; Sukhbaatar et al. 2019, who call them
        persistent memory).
    """

    null: bool = False
    zero: bool = False
    sink: bool = False
    registers: int = 0

    def __post_init__(self):
        check_fields(self)

    @property
    def read(self) -> bool:
        """Whether there is always something to read besides the context."""
        return self.null or self.registers > 0


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Rotations by coordinates, see `crossattn.ops.positions.rotate`.

    Attributes:
      longest: base of the wavelengths.
      neighbours: which features make a pair.
    """

    longest: float = 10_000.0
    neighbours: bool = False

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Join:
    """How a sublayer f is joined to its stream x.

    Attributes:
      site: where the norm N stands. "before": x + g f(N x); "after": N(x + g f(x)); "around":
        x + g N'(f(N x)); "none": x + g f(x).
      norm: its kind: of mean and variance, of the mean square, or that with scale 1 + w.
      epsilon: of the norm.
      gate: g. "tanh": of one learned number, "tanh-each": of one for each feature, both 0 at the
        start (Flamingo); "sigmoid": of one number; "layer-scale": a learned factor for each
        feature, 1e-4 at the start (CaiT); None: 1.
      residual: whether x is added at all.
    """

    site: Literal["before", "after", "around", "none"] = "before"
    norm: NormKind = "layer"
    epsilon: float = 1e-6
    gate: Literal["tanh", "tanh-each", "sigmoid", "layer-scale"] | None = None
    residual: bool = True

    def __post_init__(self):
        check_fields(self)


def check_placing(what: str, fields: Mapping[str, Any]) -> None:
    """Refuse fields of a `CrossAttention` with positions that nothing would be done with."""
    placing = fields.get("placing")
    if not isinstance(placing, Rotary):
        known(f"{what} placing", placing, (None, "add", Rotary()))
