"""Flax's attention modules, Linen's and NNX's, with this package's attention inside.

Parameters, caches, arguments and outputs are those of Flax. What differs: a query that sees nothing
reads exactly 0 instead of the mean of what is hidden, what nobody sees cannot reach outputs or
gradients even as NaN, `mask` may be a `Mask`, and `return_trace=True` gives the attention's trace.
"""

from crossattn.interop.flax.attention import dot_product_attention
from crossattn.interop.flax.modules import MultiHeadAttention, MultiHeadDotProductAttention
from crossattn.interop.flax.parameters import from_cross_attention, to_cross_attention

__all__ = [
    "MultiHeadAttention",
    "MultiHeadDotProductAttention",
    "dot_product_attention",
    "from_cross_attention",
    "to_cross_attention",
]
