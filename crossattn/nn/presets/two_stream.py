"""The published designs of two streams by name, and those that are modules of their own.

>>> from crossattn.nn.design import differences
>>> differences(STREAMS["meter"], STREAMS["lxmert"])[0]
"order: ('self', 'cross', 'feed') -> ('cross', 'self', 'feed')"
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flax import linen as nn
from flax.core import FrozenDict

from crossattn.nn.design import Design
from crossattn.nn.families.bottleneck import Bottleneck
from crossattn.nn.families.coca import CocaDecoder
from crossattn.nn.families.ip_adapter import DecoupledAttention
from crossattn.nn.families.qformer import QFormer
from crossattn.nn.families.two_stream import TwoStreamDesign
from crossattn.nn.slots import Join

__all__ = ["MODULES", "PREFIX", "STREAMS", "bottleneck", "coca_decoder", "ip_adapter", "qformer"]

Fields = Mapping[str, Any]

AFTER = Join(site="after", epsilon=1e-12)
BEFORE = Join(epsilon=1e-5)
GELU: Fields = FrozenDict(activation="gelu")
PLACED: Fields = FrozenDict(placing="add")

VILBERT = TwoStreamDesign(order=("cross", "feed", "self", "feed"), join=AFTER, feed=GELU)
METER = replace(VILBERT, order=("self", "cross", "feed"), join=replace(AFTER, epsilon=1e-5))
SAM = TwoStreamDesign(
    order=("self", "forth", "feed", "back"),
    join=replace(AFTER, epsilon=1e-6),
    inner=0.5,
    one_sided=True,
    own=PLACED,
    cross=PLACED,
    feed=FrozenDict(activation="relu", expansion=8.0),
)

STREAMS: dict[str, TwoStreamDesign] = {
    "vilbert": VILBERT,
    "lxmert": replace(VILBERT, order=("cross", "self", "feed"), exchange="shared"),
    "meter": METER,
    "bridgetower": replace(METER, order=("link", "self", "cross", "feed")),
    "bidirectional": TwoStreamDesign(
        order=("norm", "cross"),
        join=Join(site="none", epsilon=1e-5, gate="layer-scale"),
        exchange="one-product",
        inner=4.0,
    ),
    "sam_two_way": SAM,
    "sam_two_way_first": replace(
        SAM, self_join=replace(SAM.join, residual=False), own=FrozenDict()
    ),
}
PREFIX: dict[str, Design] = {"prefix_lm": Design(order=("self", "feed"), join=AFTER, feed=GELU)}


def qformer(
    *, width: int, heads: int, layers: int = 12, queries: int = 32, **policy: Any
) -> QFormer:
    """Q-Former of BLIP-2: norms after, the context in every second layer."""
    design = Design(join=AFTER, feed=GELU)
    return QFormer(layers, width, heads, queries, design=design, **policy)


def bottleneck(
    *, width: int, heads: int, layers: int = 4, tokens: int = 4, **policy: Any
) -> Bottleneck:
    """MBT, of layers of the Vision Transformer; 4 tokens suffice in the paper."""
    design = TwoStreamDesign(order=("self", "feed"), join=Join(), feed=GELU)
    return Bottleneck(layers, width, heads, tokens, design, **policy)


def coca_decoder(*, width: int, heads: int, layers: int = 12, **policy: Any) -> CocaDecoder:
    """The decoder of CoCa: norms before, half of the layers without the image."""
    upper = Design(join=BEFORE, feed=GELU)
    lower = replace(upper, order=("self", "feed"))
    return CocaDecoder(layers, width, heads, lower, upper, **policy)


def ip_adapter(*, width: int, heads: int, pictures: int = 1) -> DecoupledAttention:
    """IP-Adapter, as in Stable Diffusion: only the output projection has a bias."""
    return DecoupledAttention(width, heads, pictures)


MODULES: dict[str, Callable[..., nn.Module]] = {
    "qformer": qformer,
    "coca_decoder": coca_decoder,
    "ip_adapter": ip_adapter,
    "bottleneck": bottleneck,
}
