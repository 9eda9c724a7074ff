"""Parameters that an optimizer leaves alone, chosen by their path."""

from typing import Any

import jax
import optax

from crossattn.nn.parameters import chosen

__all__ = ["FrozenError", "frozen", "is_frozen", "stop_frozen"]


class FrozenError(ValueError):
    """A pattern of frozen parameters that matches none, or is no pattern."""


def frozen(optimizer: optax.GradientTransformation, pattern: str) -> optax.GradientTransformation:
    """The optimizer without the parameters whose path matches; it keeps no state for them.

    Args:
      optimizer: of the others.
      pattern: of whole parts of paths such as "stack/blocks/self_attention/query/kernel", see
        `crossattn.nn.parameters.chosen`. In an `Interleaved`, whose gated layers stand under
        "groups/reading" among those of a trained decoder under "groups/text0", "groups/text1" and
        so on, "groups/text" leaves the decoder alone; "feed_forward" would stop the gated layers'
        own as well. With embeddings of words
        beside it, "groups/text|words".

    Raises:
      FrozenError: at `init`, where the pattern matches nothing; it names what is near.

    >>> import jax.numpy as jnp
    >>> params = {"words": jnp.ones(2), "gate": jnp.ones(2)}
    >>> optimizer = frozen(optax.sgd(1.0), "words")
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates["words"].tolist(), updates["gate"].tolist()
    ([0.0, 0.0], [-1.0, -1.0])
    """

    labels = lambda params: jax.tree.map(
        lambda still: "frozen" if still else "trained", is_frozen(params, pattern)
    )
    return optax.multi_transform({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def is_frozen(params: Any, pattern: str) -> Any:
    """Which parameters a pattern of their paths stops, as a tree of the same structure.

    Raises:
      FrozenError: the pattern matches nothing; names what is near.
    """
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    try:
        stopped = set(chosen(pattern, [name(path) for path, _ in leaves]))
    except ValueError as error:
        raise FrozenError(f"frozen: {error}") from None
    return jax.tree_util.tree_map_with_path(lambda path, _: name(path) in stopped, params)


def stop_frozen(params: Any, pattern: str) -> Any:
    """Parameters of which those that are frozen have no gradient, and take no time for one.

    Raises:
      FrozenError: see `is_frozen`; the pattern "" stops nothing here.
    """
    if not pattern:
        return params
    stop = lambda leaf, still: jax.lax.stop_gradient(leaf) if still else leaf
    return jax.tree.map(stop, params, is_frozen(params, pattern))
