"""Parameters that an optimizer leaves alone, chosen by their path."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from crossattn.nn.parameters import chosen

__all__ = [
    "ADAPTERS",
    "FrozenError",
    "TwoStages",
    "frozen",
    "is_frozen",
    "matched",
    "stop_frozen",
    "two_stages",
]

# Variables beside the parameters that are trained where parameters are frozen, and only there.
ADAPTERS = "adapters"


class FrozenError(ValueError):
    """A pattern of parameters that matches none, or is no pattern; of frozen ones, or all."""


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
      FrozenError: at `init`, where the pattern matches nothing, naming what is near, or everything.

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

    Adapters, whose paths have those of kernels in them, are not asked about.

    Raises:
      FrozenError: the pattern matches nothing, naming what is near, or leaves nothing to train.
    """
    stopped = matched(params, pattern, "frozen")
    if all(jax.tree.leaves(stopped)):
        raise FrozenError(f"frozen: {pattern!r} matches every parameter: nothing is left to train")
    return stopped


def matched(params: Any, pattern: str, option: str) -> Any:
    """Which parameters a pattern of their paths matches, as a tree of the same structure.

    Raises:
      FrozenError: it matches nothing; names the option, and what is near.
    """
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    paths = [name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    try:
        found = set(chosen(pattern, [path for path in paths if not _is_adapter(path)]))
    except ValueError as error:
        raise FrozenError(f"{option}: {error}") from None
    return jax.tree_util.tree_map_with_path(lambda path, _: name(path) in found, params)


def stop_frozen(params: Any, pattern: str, when: Any = None) -> Any:
    """Parameters of which those that are frozen have no gradient, and take no time for one.

    Args:
      params: of a model.
      pattern: of those that are frozen; "" stops nothing here.
      when: () bool, whether they are frozen now; always when None. Adapters are while they are not.

    Raises:
      FrozenError: see `is_frozen`.
    """
    if not pattern:
        return params
    stopped, free = jax.lax.stop_gradient(params), params
    if when is not None:
        stopped, free = _where(when, stopped, params), _where(when, params, stopped)
    still = is_frozen(params, pattern)
    if ADAPTERS in params:
        params = {**params, ADAPTERS: free[ADAPTERS]}
    choose = lambda leaf, stop, still: stop if still else leaf
    return jax.tree.map(choose, params, stopped, still)


class TwoStages(NamedTuple):
    """State of an optimizer that begins again.

    Attributes:
      count: () int32, finished steps.
      inner: state of the optimizer.
    """

    count: Any
    inner: Any


def two_stages(
    optimizer: optax.GradientTransformation, pattern: str, first: int
) -> optax.GradientTransformation:
    """An optimizer that begins again after the `first` steps, and freezes parameters from there on.

    What it has gathered of gradients is forgotten then: the moments of parameters that had none
    until then are 0 with a high count, and would make their first steps several times too large.
    Its schedule goes on.

    Args:
      optimizer: of all parameters.
      pattern: of those that stand still after these steps, as that of `frozen`; "" for none.
      first: number of steps.

    >>> params = {"words": jnp.ones(2), "gate": jnp.ones(2)}
    >>> optimizer = two_stages(optax.sgd(1.0), "words", first=1)
    >>> _, state = optimizer.update(params, optimizer.init(params), params)
    >>> updates, _ = optimizer.update(params, state, params)
    >>> updates["words"].tolist(), updates["gate"].tolist()
    ([0.0, 0.0], [-1.0, -1.0])
    """

    def init(params: Any) -> TwoStages:
        if pattern:
            is_frozen(params, pattern)  # refused before the first step
        return TwoStages(jnp.zeros((), jnp.int32), optimizer.init(params))

    def update(updates: Any, state: TwoStages, params: Any = None) -> tuple[Any, TwoStages]:
        begins, later = state.count == first, state.count >= first
        anew = lambda new, old: old if _is_schedule(old) else _where(begins, new, old)
        inner = jax.tree.map(anew, optimizer.init(params), state.inner, is_leaf=_is_schedule)
        updates, inner = optimizer.update(updates, inner, params)
        if pattern:
            still = lambda update, is_still: jnp.where(later & is_still, 0, update)
            updates = jax.tree.map(still, updates, is_frozen(params, pattern))
        return updates, TwoStages(state.count + 1, inner)

    return optax.GradientTransformation(init, update)


def _is_adapter(path: str) -> bool:
    return path.split("/")[0] == ADAPTERS


def _is_schedule(state: Any) -> bool:
    return isinstance(state, optax.ScaleByScheduleState)


def _where(chosen: Any, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), one, other)
