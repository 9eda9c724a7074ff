"""Low-rank adapters on any kernel of any module: functions of parameter trees.

Hu et al. 2021, "LoRA". The adapted tree has the shape of the old one, so that every module takes it
as it is; only the adapters are trained:

    loss(low_rank.merged(params, adapters), batch), differentiated by the adapters
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from crossattn import renamed
from crossattn.nn.parameters import chosen
from crossattn.shapes import Array

__all__ = ["adapted_paths", "create_adapters", "merged"]

__getattr__ = renamed.former_names(__name__, create="create_adapters")
ADAPTED = ("kernel", "embedding")


def create_adapters(key: Array, params: Any, pattern: str, *, rank: int) -> Any:
    """Adapters (down, up) for the kernels whose path matches; `up` is 0, so they change nothing.

    Args:
      key: of the initial values.
      params: a tree of nested dictionaries; kernels are (..., in, out), layers may stand before.
      pattern: of whole parts of paths such as "stack/blocks/cross_attention/query/kernel", see
        `crossattn.nn.parameters.chosen`; of what matches, leaves named kernel or embedding are
        adapted, but no biases, norms or gates.
      rank: columns of `down` (..., in, rank) and rows of `up` (..., rank, out).

    Raises:
      ValueError: nothing matches, none of what matches is a kernel, or the rank is below 1.

    >>> params = {"query": {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6)}}
    >>> adapters = create_adapters(jax.random.key(0), params, "query/kernel", rank=2)
    >>> jax.tree.map(jnp.shape, adapters)
    {'query': {'kernel': {'down': (4, 2), 'up': (2, 6)}}}
    >>> bool((merged(params, adapters)["query"]["kernel"] == 1).all())
    True
    """
    if rank < 1:
        raise ValueError(f"the rank of adapters is at least 1, got {rank}")
    flat = flatten_dict(params, sep="/")
    matching = chosen(pattern, flat)
    # Not by the number of axes: stacked biases have two, as kernels have.
    kernels = [path for path in matching if path.split("/")[-1] in ADAPTED]
    if not kernels:
        raise ValueError(
            f"what {pattern!r} matches is no kernel or embedding: {', '.join(sorted(matching))}"
        )
    adapters = {}
    for path, own in zip(kernels, jax.random.split(key, len(kernels)), strict=True):
        kernel = flat[path]
        *layers, wide, out = kernel.shape
        down = jax.random.normal(own, (*layers, wide, rank), kernel.dtype) * wide**-0.5
        adapters[f"{path}/down"] = down
        adapters[f"{path}/up"] = jnp.zeros((*layers, rank, out), kernel.dtype)
    return unflatten_dict(adapters, sep="/")


def merged(params: Any, adapters: Any, *, scale: float = 1.0) -> Any:
    """The parameters with `scale` down @ up added to the adapted kernels.

    Raises:
      ValueError: an adapter is of a kernel that is not there, or of another shape.
    """
    flat, low = flatten_dict(params, sep="/"), flatten_dict(adapters, sep="/")
    for path in adapted_paths(adapters):
        down, up = low[f"{path}/down"].shape, low[f"{path}/up"].shape
        if path not in flat or flat[path].shape != (*down[:-1], up[-1]):
            there = f"one of {flat[path].shape}" if path in flat else "none"
            raise ValueError(
                f"adapters of {path} are for a kernel of {(*down[:-1], up[-1])}, there is {there}"
            )
        flat[path] = flat[path] + scale * (low[f"{path}/down"] @ low[f"{path}/up"])
    return unflatten_dict(flat, sep="/")


def adapted_paths(adapters: Any) -> list[str]:
    """Paths of the kernels that adapters are of.

    >>> adapted_paths({"query": {"kernel": {"down": jnp.ones((4, 2)), "up": jnp.ones((2, 6))}}})
    ['query/kernel']
    """
    low = flatten_dict(adapters, sep="/")
    return [path.removesuffix("/down") for path in low if path.endswith("/down")]
