"""A published decoder, frozen, that is given something more to read."""

from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from crossattn.models.text_decoder import TextDecoder
from crossattn.nn.config import BlockConfig
from crossattn.nn.families.gated import GATED, GatedStack
from crossattn.nn.module import POLICY
from crossattn.nn.stack import Stack
from crossattn.shapes import Array

__all__ = ["PUBLISHED", "with_gated_attention"]

# What `crossattn.train.frozen` and `stop_frozen` take: all that is not new.
PUBLISHED = r"^(?!.*/gated/).*"


def with_gated_attention(
    decoder: TextDecoder,
    params: Any,
    key: Array,
    *,
    context_width: int,
    reading: BlockConfig = GATED,
) -> tuple[TextDecoder, Any]:
    """The decoder with gated attention to a second context in front of each of its layers.

    (Alayrac et al. 2022, "Flamingo".) Where it had a context it takes a pair, of which the second
    is new: (I, S, context_width), or None, which leaves the new layers out. The gates are closed
    at the start: its logits are those that it had. Only the new layers are to be trained:

        optimizer = frozen(optax.adam(1e-3), PUBLISHED)

    Args:
      decoder: of a model by `load_model`, such as `transcriber.model.decoder`.
      params: its variables {"params": ...}; not changed.
      key: of the initial values.
      context_width: of the tokens of the second context.
      reading: of the new layers, one like presets.config("flamingo").

    Returns:
      The new decoder and its variables; those that were there are the same arrays, at the same
      paths.

    Raises:
      TypeError: the decoder's stack is no `Stack`, or has such layers already.

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> stack = Stack(2, 8, 2, presets.config("whisper"))
      >>> decoder = TextDecoder(stack, vocab_size=11, length=6)
      >>> tokens, sound, image = jnp.ones((1, 5), int), jnp.ones((1, 7, 8)), jnp.ones((1, 3, 4))
      >>> params = jax.jit(decoder.init)(jax.random.key(0), tokens, sound)
      >>> more, all_params = with_gated_attention(
      ...     decoder, params, jax.random.key(1), context_width=4)
      >>> logits, _ = jax.jit(more.apply)(all_params, tokens, (sound, image))
      >>> bool((logits == jax.jit(decoder.apply)(params, tokens, sound)[0]).all())
      True
    """
    stack = decoder.stack
    if type(stack) is not Stack:
        kind = type(stack).__name__
        raise TypeError(f"gated layers are put into a Stack, this decoder has a {kind}")
    sizes = stack.layers, stack.width, stack.heads
    policy = {name: getattr(stack, name) for name in POLICY}
    x, other = jnp.ones((1, 1, stack.width)), jnp.ones((1, 1, context_width))
    new = Stack(*sizes, reading, **policy).init(key, x, other)["params"]["blocks"]
    more = decoder.clone(stack=GatedStack(*sizes, stack.config, stack.remat, reading, **policy))
    flat = flatten_dict(params, sep="/")
    new = {f"params/stack/blocks/gated/{name}": x for name, x in flatten_dict(new, sep="/").items()}
    return more, unflatten_dict(flat | new, sep="/")
