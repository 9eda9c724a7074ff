"""Pure functions on arrays: the attention operation, its masks and its trace."""

from crossattn.ops.api import attend, attention, explain
from crossattn.ops.blocks import Blocks
from crossattn.ops.mask import Mask
from crossattn.ops.split_kv import merge
from crossattn.ops.trace import Trace

__all__ = ["Blocks", "Mask", "Trace", "attend", "attention", "explain", "merge"]
