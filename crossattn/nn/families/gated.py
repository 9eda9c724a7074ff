"""Layers that read a second context, put between the layers of a stack that is there already."""

from typing import Any

from crossattn.nn.attention import ProjectedContext
from crossattn.nn.block import Block
from crossattn.nn.cache import KVCache
from crossattn.nn.config import BlockConfig, ResidualConfig
from crossattn.nn.stack import Stack
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float

__all__ = ["GATED", "GatedBlock", "GatedStack"]

GATED = BlockConfig(order=("cross", "mlp"), residual=ResidualConfig(gate="tanh"))


class GatedBlock(Block):
    """A block behind another one, `gated`, that reads a context of its own.

    Where a `Block` has a context, this one has a pair: its own, as if it were alone, and that of
    `gated`, or None, which leaves `gated` out. Its mask is that of its own context, or a pair. It
    returns a pair of traces.

    Attributes:
      reading: of the block in front.
      others: as those of `Block`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> block = GatedBlock(8, 2, presets.config("whisper"))
      >>> x, sound, image = jnp.ones((1, 5, 8)), jnp.ones((1, 6, 8)), jnp.ones((1, 3, 4))
      >>> start = jax.jit(block.init_with_output)
      >>> (y, traces), params = start(jax.random.key(0), x, (sound, image))
      >>> [trace.weights().shape for trace in traces]
      [(1, 2, 5, 6), (1, 2, 5, 3)]
      >>> alone, _ = jax.jit(block.apply)(params, x, (sound, None))
      >>> bool((alone == y).all())
      True
    """

    reading: BlockConfig = GATED

    def setup(self):  # noqa: D102 - Linen calls it
        if "cross" not in self.reading.order or {"self", "merged"} & {*self.reading.order}:
            raise ValueError(
                f"reading: blocks that read a context alone, got order={self.reading.order}: "
                'take one like presets.config("flamingo")'
            )
        super().setup()
        self.gated = Block(self.width, self.heads, self.reading, **self.policy)

    def project(self, context: Any, *, mask: Any = None, **where: Any) -> Any:
        """Keys and values of both contexts; what the masks hide stays hidden."""
        if not isinstance(context, tuple):  # `Block` projects what it is given as its own
            return super().project(context, mask=mask, **where)
        (own, other), (hidden, unread) = _pair("context", context), _masks(mask)
        read = None if other is None else self.gated.project(other, mask=unread)
        return super().project(own, mask=hidden, **where), read

    def __call__(
        self, x: Float[Array, "B T M"], context: Any, *, mask: Any = None, **where: Any
    ) -> tuple[Float[Array, "B T M"], Any]:
        """Run `gated`, then the sublayers, as in `Block`."""
        (own, other), (hidden, unread) = _pair("context", context), _masks(mask)
        x, read = self._gate(x, other, unread)
        x, trace = super().__call__(x, own, mask=hidden, **where)
        return x, (trace, read)

    def decode_step(
        self, x: Float[Array, "B T M"], context: Any, cache: KVCache, position: Any, *,
        mask: Any = None, **where: Any,
    ) -> tuple[Float[Array, "B T M"], KVCache, Any]:  # fmt: skip
        """As that of `Block`, of a pair that `project` has made."""
        (own, other), (hidden, unread) = _pair("context", context), _masks(mask)
        x, read = self._gate(x, other, unread)
        x, cache, trace = super().decode_step(x, own, cache, position, mask=hidden, **where)
        return x, cache, (trace, read)

    def _gate(
        self, x: Array, other: Array | ProjectedContext | None, mask: Mask | None
    ) -> tuple[Array, AttentionTrace | None]:
        return (x, None) if other is None else self.gated(x, other, mask=mask)


class GatedStack(Stack):
    """A `Stack` with gated attention to a second context in front of each of its layers.

    (Alayrac et al. 2022, "Flamingo".) It is called as a `Stack` is, with pairs (own context, second
    context) where that has a context, and pairs of traces where `observe` has a trace. Parameters
    of the stack keep their paths; the new ones are at "blocks/gated". As long as the gates are
    closed, as they are at the start, the stream is that of the stack alone.

    Attributes:
      reading: of the gated layers, one like presets.config("flamingo").
      others: as those of `Stack`.

    Raises:
      ValueError: `reading` has other sublayers than attention to a context and an MLP.
      TypeError: a context is no pair.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> stack = GatedStack(2, 8, 2, presets.config("whisper"))
      >>> x, sound, image = jnp.ones((1, 5, 8)), jnp.ones((1, 6, 8)), jnp.ones((1, 3, 4))
      >>> (y, _), params = jax.eval_shape(
      ...     lambda: stack.init_with_output(jax.random.key(0), x, (sound, image)))
      >>> y.shape, sorted(params["params"]["blocks"]["gated"])
      ((1, 5, 8), ['cross_attention', 'cross_residual', 'mlp', 'mlp_residual'])
    """

    reading: BlockConfig = GATED

    def setup(self):  # noqa: D102 - Linen calls it
        self.blocks = GatedBlock(self.width, self.heads, self.config, self.reading, **self.policy)

    def __call__(self, x: Float[Array, "B T M"], context: Any, **where: Any) -> Any:
        """As a `Stack`, of pairs."""
        if isinstance(_pair("context", context)[0], ProjectedContext):
            where["contexts"], context = context, None
        return super().__call__(x, context, **where)


def _pair(what: str, value: Any) -> Any:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{what} is a pair: (what the layers read, what the gated ones read)")
    return value


def _masks(mask: Any) -> Any:
    return (mask, None) if mask is None or isinstance(mask, Mask) else _pair("mask", mask)
