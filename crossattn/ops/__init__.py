"""Pure functions on arrays: the attention operation, its masks and its trace.

Behind the doors: `api` (what is public), `checks`, `reference` (the definition), `dispatch` (which
kernel takes a call); `kernels` (one file each), `masks` (what is visible, and how kernels are told)
and `trace` (weights and statistics, computed afterwards).
"""

from crossattn.ops.api import attend, attention, explain
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.masks.mask import Mask
from crossattn.ops.partials import merge_partials
from crossattn.ops.trace.trace import AttentionTrace
from crossattn.renamed import former_names

__all__ = [
    "AttentionTrace",
    "BlockSizes",
    "Mask",
    "attend",
    "attention",
    "explain",
    "merge_partials",
]

FORMER = {"Trace": "AttentionTrace", "Blocks": "BlockSizes", "merge": "merge_partials"}
__getattr__ = former_names(__name__, **FORMER)
