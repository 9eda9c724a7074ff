"""A layer of two streams as a list of sublayers and of what fills their slots: plain values."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from flax.core import FrozenDict

from crossattn.nn.choices import check_fields
from crossattn.nn.layers.link import LinkKind
from crossattn.nn.slots import Join, check_placing

__all__ = ["TwoStreamDesign"]

BEFORE = Join()
Sublayer = Literal["link", "norm", "self", "cross", "forth", "back", "feed"]


@dataclasses.dataclass(frozen=True)
class TwoStreamDesign:
    """What a `TwoStreams` layer is made of.

    Attributes:
      order: its sublayers. "cross": each stream reads the other as it was before that read itself,
        if it has (under "one-product": as it is); "forth": x reads the context; "back": the context
        reads x; "self", "feed": each by itself;
        "norm": each is replaced by its norm; "link": each is joined by the state of a tower.
      join: how a sublayer is joined to its stream.
      self_join: the same for attention within a stream, where it differs.
      cross_join: the same for attention to the other stream, where it differs.
      exchange: weights of the two directions. "separate"; "shared": the same, with the same norm;
        "one-product": the logits of one direction are those of the other transposed.
      inner: H D of the exchange, in units of the stream's width.
      one_sided: the context has neither "self" nor "feed".
      link: how the state of a tower is joined to a stream, see `Link`.
      own: fields of the `CrossAttention` that a stream reads itself with.
      cross: fields of the one that reads the other stream.
      feed: fields of the `MLP` layers.
    """

    order: tuple[Sublayer, ...] = ("self", "cross", "feed")
    join: Join = BEFORE
    self_join: Join | None = None
    cross_join: Join | None = None
    exchange: Literal["separate", "shared", "one-product"] = "separate"
    inner: float = 1.0
    one_sided: bool = False
    link: LinkKind = "add"
    own: Mapping[str, Any] = FrozenDict()
    cross: Mapping[str, Any] = FrozenDict()
    feed: Mapping[str, Any] = FrozenDict()

    def __post_init__(self):
        check_fields(self)
        check_placing("TwoStreamDesign.own", self.own)
        check_placing("TwoStreamDesign.cross", self.cross)
