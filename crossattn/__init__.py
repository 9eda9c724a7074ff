"""crossattn: the JAX laboratory for cross-attention between modalities.

>>> import jax, jax.numpy as jnp
>>> from crossattn import Mask, attend
>>> words = jax.random.normal(jax.random.key(0), (2, 5, 4, 16))  # batch, words, heads, size
>>> regions = jax.random.normal(jax.random.key(1), (2, 9, 4, 16))
>>> out, trace = attend(words, regions, regions, mask=Mask.lengths(key=jnp.array([9, 6])))
>>> out.shape, trace.entropy().shape
((2, 5, 4, 16), (2, 4, 5))
>>> trace.expect(jnp.ones((2, 9, 1))).round(5).min().item()  # all the weight is on the regions
1.0
"""

from crossattn.ops import (
    FORMER,
    AttentionTrace,
    BlockSizes,
    Mask,
    attend,
    attention,
    explain,
    merge_partials,
)
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

__getattr__ = former_names(__name__, **FORMER)

# The one place that says it: the build reads it here, so that a bare source folder knows it, too.
__version__ = "0.1.0"
