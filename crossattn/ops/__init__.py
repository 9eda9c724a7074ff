"""Pure functions on arrays: the attention operation, its masks and its trace."""

from crossattn.ops.attention import attend, attention
from crossattn.ops.mask import Mask
from crossattn.ops.trace import Trace

__all__ = ["Mask", "Trace", "attend", "attention"]
