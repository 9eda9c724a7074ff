"""Context that is left out while training: as masks, so that what is dropped cannot leak."""

import jax

from crossattn.ops import Mask
from crossattn.shapes import Array

__all__ = ["context_dropout"]


def context_dropout(key: Array, B: int, S: int, *, tokens: float = 0.0, whole: float = 0.0) -> Mask:
    """What is left of S context tokens of B examples: a mask to be joined to others by `&`.

    Args:
      key: of the random choice.
      B: examples.
      S: tokens of each.
      tokens: probability that a token is dropped.
      whole: probability that an example sees no context at all, from which classifier-free guidance
        learns its unconditional half (Ho & Salimans 2022).

    Raises:
      ValueError: a probability outside [0, 1].

    >>> mask = context_dropout(jax.random.key(0), 4, 6, whole=0.5)
    >>> mask.dense_array(4, 1, 6)[:, 0, 0].sum(1).tolist()
    [0, 0, 6, 0]
    """
    for name, rate in (("tokens", tokens), ("whole", whole)):
        if not 0 <= rate <= 1:
            raise ValueError(f"{name} must be a probability, 0 to 1, got {rate}")
    one, other = jax.random.split(key)
    kept = ~jax.random.bernoulli(one, tokens, (B, S)) & ~jax.random.bernoulli(other, whole, (B, 1))
    return Mask.keys(kept)
