"""Sound becomes the context of a text decoder: Whisper's front end, over a stack of any design."""

import jax

from crossattn.nn.layers.convolution import Convolution
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import Module
from crossattn.nn.stack import Stack
from crossattn.ops.positions import grid_coordinates, sinusoids
from crossattn.shapes import Array, Float

__all__ = ["AudioEncoder"]


class AudioEncoder(Module):
    """Two convolutions, of which the second halves the frames, positions, a stack and a norm.

    (Radford et al. 2022, "Whisper", section 2.2; with a stack of "self" and "mlp".)

    The positions are parameters that begin as sinusoids, since files have them; Whisper did not
    train them: `crossattn.train.freezing.frozen(optimizer, "places")`.

    Attributes:
      stack: of blocks without a context.
      length: positions there are, half as many as frames.
      epsilon: of the last norm.

    Raises:
      ValueError: blocks that read a context.

    Example:
      >>> import dataclasses
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> config = dataclasses.replace(presets.config("whisper"), order=("self", "mlp"))
      >>> encoder = AudioEncoder(Stack(layers=2, width=8, heads=2, config=config), length=10)
      >>> frames = jnp.ones((1, 20, 80))
      >>> y, params = jax.jit(encoder.init_with_output)(jax.random.key(0), frames)
      >>> y.shape
      (1, 10, 8)
    """

    stack: Stack
    length: int
    epsilon: float = 1e-5

    def setup(self):  # noqa: D102 - Linen calls it
        if self.stack.config.reads:
            raise ValueError(
                'an AudioEncoder reads no context: give its stack order ("self", "mlp")'
            )
        width, stack = self.stack.width, self.stack
        policy = {"dtype": stack.dtype, "param_dtype": stack.param_dtype}
        self.first = Convolution(width, **policy)
        self.second = Convolution(width, stride=2, **policy)
        start = lambda key, shape, dtype: whisper_sinusoids(*shape).astype(dtype)
        self.places = self.param("places", start, (self.length, width), stack.param_dtype)
        self.norm = Norm(epsilon=self.epsilon, param_dtype=stack.param_dtype)

    def __call__(self, frames: Float[Array, "B F N"]) -> Float[Array, "B S M"]:
        """Context tokens of spectrograms, one for two frames: S is F / 2, rounded up.

        Raises:
          ValueError: more frames than there are positions for.
        """
        x = jax.nn.gelu(self.first(frames), approximate=False)
        x = jax.nn.gelu(self.second(x), approximate=False)
        if x.shape[1] > self.length:
            raise ValueError(
                f"{frames.shape[1]} frames, but this encoder has positions for {2 * self.length}"
            )
        x = x + self.places[None, : x.shape[1]].astype(x.dtype)
        return self.norm(self.stack(x, None)[0])


def whisper_sinusoids(length: int, width: int) -> Float[Array, "S M"]:
    """Sines, then cosines, of wavelengths from 2 pi to 10,000 times that, the last one included.

    (openai/whisper, `model.py`; Vaswani et al. stop one step before.)

    >>> whisper_sinusoids(2, 4).round(4).tolist()[1]
    [0.8414999842643738, 9.999999747378752e-05, 0.5403000116348267, 1.0]
    """
    half = width // 2
    longest = 10_000.0 ** (half / max(half - 1, 1))
    return sinusoids(grid_coordinates(length), width, longest=longest)
