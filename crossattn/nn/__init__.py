"""Flax (Linen) modules over the attention operation."""

from crossattn.nn.adapters import DecoupledAttention
from crossattn.nn.attention import CrossAttention, Projected, SelfAttention
from crossattn.nn.block import Block
from crossattn.nn.blocks import DecoderBlock, DecoderStack, FeedForward
from crossattn.nn.bottleneck import Bottleneck
from crossattn.nn.coca_decoder import CocaDecoder
from crossattn.nn.design import Design
from crossattn.nn.encoders import PatchEncoder
from crossattn.nn.interleaved import Interleaved
from crossattn.nn.latents import Latents
from crossattn.nn.linear import Dense
from crossattn.nn.prefix import Prefix
from crossattn.nn.qformer import QFormer
from crossattn.nn.resampler import Resampler
from crossattn.nn.slots import Join, Logits, Rotary, Spare
from crossattn.nn.stack import Stack
from crossattn.nn.stream_stack import StreamStack
from crossattn.nn.streams import (
    BidirectionalAttention,
    CoAttention,
    PrefixBlock,
    PrefixStack,
    TwoStreamBlock,
    TwoStreamStack,
)
from crossattn.nn.two_streams import TwoStreamDesign, TwoStreams

__all__ = [
    "BidirectionalAttention",
    "Block",
    "Bottleneck",
    "CoAttention",
    "CocaDecoder",
    "CrossAttention",
    "DecoderBlock",
    "DecoderStack",
    "DecoupledAttention",
    "Dense",
    "Design",
    "FeedForward",
    "Interleaved",
    "Join",
    "Latents",
    "Logits",
    "PatchEncoder",
    "Prefix",
    "PrefixBlock",
    "PrefixStack",
    "Projected",
    "QFormer",
    "Resampler",
    "Rotary",
    "SelfAttention",
    "Spare",
    "Stack",
    "StreamStack",
    "TwoStreamBlock",
    "TwoStreamDesign",
    "TwoStreamStack",
    "TwoStreams",
]
