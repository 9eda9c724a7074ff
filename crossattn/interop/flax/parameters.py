"""Parameters of Flax's attention modules as those of `CrossAttention`, and back."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

__all__ = ["from_cross_attention", "to_cross_attention"]

PROJECTIONS = ("query", "key", "value", "out")
NORMS = {"query_ln": "query_norm", "key_ln": "key_norm"}


def to_cross_attention(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of `CrossAttention` from those of a Flax module.

    Args:
      params: what stands under the module's name: query, key, value and out, with kernels
        (N, H, D) and (H, D, M), of Linen's `variables["params"]` or of
        `nnx.to_pure_dict(nnx.state(module, nnx.Param))`.

    Returns:
      The same with kernels (N, H D) and (H D, M), for `CrossAttention(width=M, heads=H)`. Where
      queries and keys are normed (`normalize_qk`), for `logits=Logits(norm="layer")`, whose norms
      have a bias, 0 here.

    Raises:
      ValueError: other parameters.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> theirs = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=6, out_features=4)
      >>> params = theirs.init(jax.random.key(0), jnp.ones((1, 3, 4)))["params"]
      >>> to_cross_attention(params)["query"]["kernel"].shape
      (4, 6)
    """
    _check(params, {*PROJECTIONS, *NORMS}, "Flax's attention")
    found: dict[str, Any] = {}
    for name, leaves in params.items():
        if name in NORMS:
            scale = leaves["scale"]
            found[NORMS[name]] = {"scale": scale, "bias": jnp.zeros_like(scale)}
            continue
        kernel = leaves["kernel"]
        _check_axes(name, kernel, 3, "three axes, those of heads apart")
        flat = (-1, kernel.shape[2]) if name == "out" else (kernel.shape[0], -1)
        found[name] = {"kernel": kernel.reshape(flat)}
        if "bias" in leaves:
            found[name]["bias"] = leaves["bias"].reshape(-1)
    return found


def from_cross_attention(params: Mapping[str, Any], num_heads: int) -> dict[str, Any]:
    """Parameters of a Flax module from those of `CrossAttention`.

    Args:
      params: what stands under the module's name, as `module.init(...)["params"]`.
      num_heads: H of the queries; keys may have fewer (NNX).

    Returns:
      The same with an axis of heads, for `nn.MultiHeadDotProductAttention(num_heads=H,
      qkv_features=H D, out_features=M)`. Where only some projections have a bias, that of the
      others is 0: Flax's have one all together.

    Raises:
      ValueError: parameters for which Flax's module has no place: sinks, registers, gates, a bias
        of the norms, values of another head size than queries.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import CrossAttention
      >>> x = jnp.ones((1, 3, 4))
      >>> params = CrossAttention(width=4, heads=2).init(jax.random.key(0), x, x)["params"]
      >>> from_cross_attention(params, 2)["out"]["kernel"].shape
      (2, 2, 4)
    """
    _check(params, {*PROJECTIONS, *NORMS.values()}, "CrossAttention that Flax's has a place for")
    for name in PROJECTIONS:
        _check_axes(name, params[name]["kernel"], 2, "two axes, all heads in one")
    if (features := params["query"]["kernel"].shape[1]) % num_heads:
        raise ValueError(f"query/kernel makes {features} features, not a multiple of {num_heads}")
    if (read := params["out"]["kernel"].shape[0]) != features:
        raise ValueError(
            f"out/kernel reads {read} features, and query/kernel makes {features}: Flax's heads of "
            "queries and of values are of one size"
        )
    D, found = features // num_heads, {}
    biased = any("bias" in params[name] for name in PROJECTIONS)
    theirs = {ours: name for name, ours in NORMS.items()}
    for name, leaves in params.items():
        if name in theirs:
            if "bias" not in leaves or np.any(leaves["bias"]):
                raise ValueError(
                    f"{name}: Flax's norm of queries and keys is one of mean and variance without "
                    "a bias: this one has a bias, or is one of the mean square"
                )
            found[theirs[name]] = {"scale": leaves["scale"]}
            continue
        kernel = leaves["kernel"]
        heads = (-1, D, kernel.shape[1]) if name == "out" else (kernel.shape[0], -1, D)
        found[name] = {"kernel": kernel.reshape(heads)}
        if biased:
            bias = leaves.get("bias", jnp.zeros_like(kernel[0]))
            found[name]["bias"] = bias.reshape((-1,) if name == "out" else (-1, D))
    return found


def _check(params: Mapping[str, Any], known: set[str], whose: str) -> None:
    """The parameters of one module, and no others."""
    strange = sorted(set(params) - known)
    lacking = [name for name in PROJECTIONS if name not in params]
    if strange or lacking:
        hint = ': write variables["params"]' if "params" in params else ""
        of = f"unknown {', '.join(strange)}" if strange else f"without {', '.join(lacking)}"
        raise ValueError(f"these are not parameters of {whose}: {of}{hint}")


def _check_axes(name: str, kernel: Any, axes: int, wanted: str) -> None:
    if kernel.ndim != axes:
        raise ValueError(f"{name}/kernel has {wanted}, got shape {kernel.shape}")
