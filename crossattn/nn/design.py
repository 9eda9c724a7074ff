"""A block as a list of sublayers and of what fills their slots: plain values, compared by field."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from flax.core import FrozenDict

from crossattn.nn.choices import check_fields
from crossattn.nn.slots import Join, NormKind, check_placing

__all__ = ["Design", "differences"]

BEFORE = Join()
Sublayer = Literal["self", "cross", "merged", "feed"]


@dataclasses.dataclass(frozen=True)
class Design:
    """What a `Block` is made of.

    Attributes:
      order: its sublayers: attention among the queries, to the context, to both under one softmax
        and with the same weights, and the feed-forward layer.
      join: how a sublayer is joined to its stream.
      cross_join: the same for attention to the context, where it differs.
      own: fields of the `CrossAttention` that the queries read themselves with.
      cross: fields of the one that reads the context.
      feed: fields of the `MLP` layer.
      context_norm: kind of the norm of the context, with the epsilon of `join`.
      lifted: the context is mapped to width M first.
      latents: the queries, normed as the context is, stand beside the context.
      only_seeing: queries that see no context skip the feed-forward layer as well.
    """

    order: tuple[Sublayer, ...] = ("self", "cross", "feed")
    join: Join = BEFORE
    cross_join: Join | None = None
    own: Mapping[str, Any] = FrozenDict()
    cross: Mapping[str, Any] = FrozenDict()
    feed: Mapping[str, Any] = FrozenDict()
    context_norm: NormKind | None = None
    lifted: bool = False
    latents: bool = False
    only_seeing: bool = False

    def __post_init__(self):
        check_fields(self)
        check_placing("Design.own", self.own)
        check_placing("Design.cross", self.cross)


def differences(one: Any, other: Any, *, of: str = "") -> list[str]:
    """The fields in which two designs differ, one line each.

    >>> from crossattn.nn.slots import Join
    >>> differences(Design(), Design(join=Join(site="after"), latents=True))
    ["join.site: 'before' -> 'after'", 'latents: False -> True']
    """
    a, b = _fields(one), _fields(other)
    if one == other:
        return []
    if not (a and b):
        return [f"{of}: {one!r} -> {other!r}"]
    prefix = f"{of}." if of else ""
    names = dict.fromkeys([*a, *b])
    pairs = ((prefix + name, a.get(name), b.get(name)) for name in names)
    return [line for name, x, y in pairs for line in differences(x, y, of=name)]


def _fields(value: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(value) if isinstance(value, Mapping) else {}
