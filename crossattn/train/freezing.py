"""Parameters that an optimizer leaves alone, chosen by their path."""

import jax
import optax

from crossattn.nn.parameters import chosen

__all__ = ["frozen"]


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
      ValueError: at `init`, where the pattern matches nothing; it names what is near.

    >>> import jax.numpy as jnp
    >>> params = {"words": jnp.ones(2), "gate": jnp.ones(2)}
    >>> optimizer = frozen(optax.sgd(1.0), "words")
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates["words"].tolist(), updates["gate"].tolist()
    ([0.0, 0.0], [-1.0, -1.0])
    """

    def labels(params):
        name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
        leaves, _ = jax.tree_util.tree_flatten_with_path(params)
        matching = set(chosen(pattern, [name(path) for path, _ in leaves]))
        label = lambda path, _: "frozen" if name(path) in matching else "trained"
        return jax.tree_util.tree_map_with_path(label, params)

    return optax.multi_transform({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)
