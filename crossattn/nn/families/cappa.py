"""Captions that are sometimes predicted word by word and sometimes all at once."""

import jax
import jax.numpy as jnp

from crossattn.ops import Mask
from crossattn.shapes import Array, Int

__all__ = ["parallel_or_causal"]


def parallel_or_causal(
    key: Array, tokens: Int[Array, "B T"], *, masked: int, share: float = 0.75
) -> tuple[Int[Array, "B T"], Mask]:
    """Inputs and self-attention mask of a batch (CapPa: Tschannen et al. 2023).

    An example is predicted in parallel with probability `share`: its inputs are the mask token, and
    every position sees every other, so that the image alone tells the words. The others are causal.

    Args:
      key: of the random choice.
      tokens: inputs (B, T) of a causal decoder.
      masked: the mask token.
      share: probability that an example is predicted in parallel.

    Raises:
      ValueError: a probability outside [0, 1].

    Example:
      >>> tokens = jnp.array([[1, 5, 6], [1, 7, 8]])
      >>> inputs, mask = parallel_or_causal(jax.random.key(1), tokens, masked=3, share=0.5)
      >>> inputs.tolist()
      [[3, 3, 3], [1, 7, 8]]
      >>> mask.dense_array(2, 3, 3)[:, 0].astype(int).tolist()
      [[[1, 1, 1], [1, 1, 1], [1, 1, 1]], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]]
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be a probability, 0 to 1, got {share}")
    B, T = tokens.shape
    parallel = jax.random.bernoulli(key, share, (B,))
    inputs = jnp.where(parallel[:, None], jnp.asarray(masked, tokens.dtype), tokens)
    # A past that reaches beyond the end is everything.
    return inputs, Mask.causal(jnp.where(parallel, T, 0))
