"""Two dense layers that read a stream and what it has read."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.config import MLPConfig, NormKind
from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.mlp import ACTIVATIONS
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import PolicyModule
from crossattn.shapes import Array, Float

__all__ = ["JointMLP"]


class JointMLP(PolicyModule):
    """What a stream makes of what it has read (LightGlue: Lindenberger et al. 2023, equation 3).

    Attributes:
      config: expansion in units of M, activation, bias.
      norm_kind: of the norm of the hidden units, before the activation.
      epsilon: of that norm.
      others: as those of `PolicyModule`.

    Raises:
      ValueError: a gated MLP.

    Example:
      >>> import jax
      >>> x, read = jnp.ones((2, 5, 8)), jnp.ones((2, 5, 8))
      >>> y, params = JointMLP().init_with_output(jax.random.key(0), x, read)
      >>> y.shape, params["params"]["up"]["kernel"].shape
      ((2, 5, 8), (16, 32))
    """

    config: MLPConfig = MLPConfig()
    norm_kind: NormKind = "layer"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T M"], read: Float[Array, "B T M"]
    ) -> Float[Array, "B T M"]:
        """What is added to the stream."""
        if self.config.gated:
            raise ValueError("joint_mlp is not gated: its hidden units are normed")
        width = x.shape[-1]
        dense = partial(Dense, use_bias=self.config.use_bias, **self.dense_policy)
        both = jnp.concatenate([x, read.astype(x.dtype)], axis=-1)
        hidden = dense(features=round(self.config.expansion * width), name="up")(both)
        hidden = Norm(self.norm_kind, self.epsilon, self.param_dtype, name="norm")(hidden)
        hidden = ACTIVATIONS[self.config.activation](hidden)
        return dense(features=width, name="down")(self.dropped(hidden))
