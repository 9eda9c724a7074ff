"""Our modules inside Flax NNX."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from flax.nnx import bridge
from flax.traverse_util import flatten_dict

__all__ = ["to_nnx"]


def to_nnx(
    module: linen.Module,
    *inputs: Any,
    rngs: nnx.Rngs,
    params: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> bridge.ToNNX:
    """A module as an NNX module that holds its parameters.

    Calls, their results and gradients are exactly those of `module.apply`; methods are reached by
    their names, as in `model.project(context)`.

    Args:
      module: any module of `crossattn.nn`.
      inputs: what it is called with; only shapes and dtypes matter.
      rngs: randomness of the initial values, and of the calls.
      params: parameters to hold instead, as `module.init` or `huggingface.load` give them; arrays
        keep their dtype.
      keywords: further inputs.

    Raises:
      ValueError: the parameters are not those of the module.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from crossattn.interop.nnx import to_nnx
      >>> from crossattn.nn import CrossAttention
      >>> words, patches = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 4))
      >>> model = to_nnx(CrossAttention(width=8, heads=2), words, patches, rngs=nnx.Rngs(0))
      >>> y, trace = model(words, patches)
      >>> y.shape, model.key["kernel"].shape
      ((3, 5, 8), (4, 8))
    """
    if params is None:
        params = jax.jit(module.init)(rngs.params(), *inputs, **keywords)
    else:
        own = jax.eval_shape(module.init, jax.random.key(0), *inputs, **keywords)
        _check(flatten_dict(params["params"], sep="/"), flatten_dict(own["params"], sep="/"))
    model = bridge.ToNNX(module, rngs=rngs)
    for name, branch in params["params"].items():
        setattr(model, name, jax.tree.map(lambda leaf: nnx.Param(jnp.asarray(leaf)), branch))
    return model


def _check(given: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Names and shapes are the module's."""
    if given.keys() != own.keys():
        either = ", ".join(sorted(given.keys() ^ own.keys()))
        raise ValueError(f"these parameters are on one side only: {either}")
    bad = [name for name, leaf in given.items() if leaf.shape != own[name].shape]
    if bad:
        one = f"{bad[0]} is {given[bad[0]].shape}, the module's {own[bad[0]].shape}"
        raise ValueError(f"{len(bad)} parameters have other shapes: {one}")
