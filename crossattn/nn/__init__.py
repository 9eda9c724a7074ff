"""Flax (Linen) modules over the attention operation."""

from crossattn.nn.attention import CrossAttention, Projected, SelfAttention
from crossattn.nn.blocks import DecoderBlock, DecoderStack, FeedForward
from crossattn.nn.encoders import PatchEncoder
from crossattn.nn.linear import Dense

__all__ = [
    "CrossAttention",
    "DecoderBlock",
    "DecoderStack",
    "Dense",
    "FeedForward",
    "PatchEncoder",
    "Projected",
    "SelfAttention",
]
