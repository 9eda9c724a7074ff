"""Flax (Linen) modules over the attention operation.

attention, block, stack: one stream that reads a context; config: what they are made of; layers: the
parts; families: designs of several streams; presets: the published designs by name.
"""

from typing import Any

from crossattn import renamed
from crossattn.nn.attention import CrossAttention
from crossattn.nn.block import Block
from crossattn.nn.config import (
    AttentionConfig,
    BlockConfig,
    ExtraKeys,
    Logits,
    MLPConfig,
    ResidualConfig,
    Rotary,
    TwoStreamConfig,
)
from crossattn.nn.context import ProjectedContext
from crossattn.nn.families.bidirectional import BidirectionalAttention
from crossattn.nn.families.bottleneck import Bottleneck
from crossattn.nn.families.coca import CocaDecoder
from crossattn.nn.families.interleaved import Interleaved
from crossattn.nn.families.ip_adapter import DecoupledAttention
from crossattn.nn.families.latents import Latents
from crossattn.nn.families.prefix import Prefix
from crossattn.nn.families.qformer import QFormer
from crossattn.nn.families.two_stream import TwoStreams
from crossattn.nn.families.two_stream_stack import StreamStack
from crossattn.nn.former import FORMER
from crossattn.nn.layers import low_rank
from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.patch_encoder import PatchEncoder
from crossattn.nn.stack import Stack

__all__ = [
    "MLP",
    "AttentionConfig",
    "BidirectionalAttention",
    "Block",
    "BlockConfig",
    "Bottleneck",
    "CocaDecoder",
    "CrossAttention",
    "DecoupledAttention",
    "Dense",
    "ExtraKeys",
    "Interleaved",
    "Latents",
    "Logits",
    "MLPConfig",
    "PatchEncoder",
    "Prefix",
    "ProjectedContext",
    "QFormer",
    "ResidualConfig",
    "Rotary",
    "Stack",
    "StreamStack",
    "TwoStreamConfig",
    "TwoStreams",
    "low_rank",
]

_present = renamed.former_names(__name__, FeedForward="MLP", Projected="ProjectedContext")


def __getattr__(name: str) -> Any:
    if name not in FORMER:
        return _present(name)
    present, made = FORMER[name]
    renamed.warn(f"{__name__}.{name}", f"{__name__}.{present}")
    return made
