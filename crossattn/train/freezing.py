"""Parameters that an optimiser leaves alone, chosen by their path."""

import re

import jax
import optax

__all__ = ["frozen"]


def frozen(optimiser: optax.GradientTransformation, pattern: str) -> optax.GradientTransformation:
    """The optimiser without the parameters whose path matches; it keeps no state for them.

    Args:
      optimiser: of the others.
      pattern: searched in paths such as "stack/blocks/self_attention/query/kernel". In an
        `Interleaved`, whose gated layers stand under "groups/reading" among those of a trained
        decoder under "groups/text0", "groups/text1" and so on, "groups/text" leaves the decoder
        alone; "feed_forward" would stop the gated layers' own as well. With embeddings of words
        beside it, "groups/text|words".

    Raises:
      ValueError: at `init`, where the pattern matches nothing.

    >>> import jax.numpy as jnp
    >>> params = {"words": jnp.ones(2), "gate": jnp.ones(2)}
    >>> optimiser = frozen(optax.sgd(1.0), "words")
    >>> updates, _ = optimiser.update(params, optimiser.init(params), params)
    >>> updates["words"].tolist(), updates["gate"].tolist()
    ([0.0, 0.0], [-1.0, -1.0])
    """

    def labels(params):
        def label(path, leaf):
            name = "/".join(str(getattr(part, "key", part)) for part in path)
            return "frozen" if re.search(pattern, name) else "trained"

        found = jax.tree_util.tree_map_with_path(label, params)
        if "frozen" not in jax.tree.leaves(found):
            raise ValueError(f"no parameter's path matches {pattern!r}")
        return found

    return optax.multi_transform({"trained": optimiser, "frozen": optax.set_to_zero()}, labels)
