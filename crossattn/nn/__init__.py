"""Flax (Linen) modules over the attention operation."""

from crossattn.nn.attention import CrossAttention, Projected, SelfAttention
from crossattn.nn.blocks import DecoderBlock, DecoderStack, FeedForward
from crossattn.nn.encoders import PatchEncoder
from crossattn.nn.linear import Dense
from crossattn.nn.resampler import Resampler
from crossattn.nn.streams import (
    BidirectionalAttention,
    CoAttention,
    PrefixBlock,
    PrefixStack,
    TwoStreamBlock,
    TwoStreamStack,
)

__all__ = [
    "BidirectionalAttention",
    "CoAttention",
    "CrossAttention",
    "DecoderBlock",
    "DecoderStack",
    "Dense",
    "FeedForward",
    "PatchEncoder",
    "PrefixBlock",
    "PrefixStack",
    "Projected",
    "Resampler",
    "SelfAttention",
    "TwoStreamBlock",
    "TwoStreamStack",
]
