"""Low-rank adapters as a part of what a run trains: beside its parameters, in the same state.

Hu et al. 2021, "LoRA". Variables are {"params": ..., "adapters": ...} where a run has adapters: at
the path of each adapted kernel its `down` and `up`, see `crossattn.nn.layers.low_rank`.
"""

from typing import Any

from flax.traverse_util import flatten_dict

from crossattn.nn.layers import low_rank
from crossattn.shapes import Array
from crossattn.train.freezing import ADAPTERS, FrozenError, is_frozen, stop_frozen
from crossattn.train.run import Optimizer

__all__ = ["adapters_merged", "learning", "with_adapters"]


def with_adapters(key: Array, variables: Any, settings: Optimizer) -> Any:
    """Variables with the adapters that settings ask for; they change nothing at first.

    Raises:
      FrozenError: the pattern matches no kernel, or one that is trained.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = {"params": {"query": {"kernel": jnp.ones((4, 6))}, "gate": jnp.ones(3)}}
      >>> settings = Optimizer(frozen="query", adapted="query", adapter_rank=2)
      >>> variables = with_adapters(jax.random.key(0), params, settings)
      >>> jax.tree.map(jnp.shape, variables["adapters"])
      {'query': {'kernel': {'down': (4, 2), 'up': (2, 6)}}}
      >>> bool((adapters_merged(variables)["params"]["query"]["kernel"] == 1).all())
      True
    """
    if not settings.adapted:
        return variables
    params = variables["params"]
    try:
        found = low_rank.create_adapters(key, params, settings.adapted, rank=settings.adapter_rank)
    except ValueError as error:
        raise FrozenError(f"optimizer.adapted: {error}") from None
    whole = {**variables, ADAPTERS: found}
    still = flatten_dict(is_frozen(whole, settings.frozen)["params"], sep="/")
    for path in low_rank.adapted_paths(found):
        if not still[path]:
            raise FrozenError(
                f"optimizer.adapted matches {path}, which is trained: adapters are for what "
                "optimizer.frozen matches"
            )
    return whole


def adapters_merged(variables: Any) -> Any:
    """Variables as a model takes them: with the adapters, where there are some, in the kernels."""
    if ADAPTERS not in variables:
        return variables
    return {"params": low_rank.merged(variables["params"], variables[ADAPTERS])}


def learning(variables: Any, settings: Optimizer, when: Any = None) -> Any:
    """Variables as a model takes them in training: no gradient comes to what stands still.

    Args:
      variables: that are trained.
      settings: which are frozen.
      when: () bool, whether they are now: until then the adapters are; always when None.

    Raises:
      FrozenError: see `is_frozen`.
    """
    return adapters_merged(stop_frozen(variables, settings.frozen, when))
