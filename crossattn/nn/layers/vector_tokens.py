"""One vector as several tokens, for attention to read."""

from flax import linen as nn

from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import PolicyModule
from crossattn.shapes import Array, Float

__all__ = ["VectorTokens"]


class VectorTokens(PolicyModule):
    """A vector of a whole picture is mapped to a few tokens, each normed (IP-Adapter).

    (Ye et al. 2023, arXiv:2308.06721, section 3.2.1: of CLIP's vector.)

    Attributes:
      tokens: S, how many.
      width: N of each.
      epsilon: of the norm.
      others: as those of `PolicyModule`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> y, _ = VectorTokens(tokens=4, width=6).init_with_output(
      ...     jax.random.key(0), jnp.ones((2, 5)))
      >>> y.shape
      (2, 4, 6)
    """

    tokens: int
    width: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, vector: Float[Array, "B C"]) -> Float[Array, "B S N"]:
        """The tokens of each vector."""
        tokens = Dense(self.tokens * self.width, name="proj", **self.dense_policy)(vector)
        tokens = tokens.reshape(vector.shape[0], self.tokens, self.width)
        return Norm("layer", self.epsilon, self.param_dtype, name="norm")(tokens)
