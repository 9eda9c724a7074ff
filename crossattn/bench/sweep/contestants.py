"""Who takes part on an accelerator, as functions of arrays that JAX compiles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import crossattn

from ..benchmarks.attention import OURS, optional_module
from ..timing import UnavailableError
from .cases import VISIBLE, DeviceCase
from .masks import HIDINGS, hidden_arrays, written_out

BLOCK = 128  # of splash attention: T and S are multiples of it


class Contestant(NamedTuple):
    """A function of (q, k, v, *leaves), the leaves, and of how many keys it is (None: all)."""

    function: Callable[..., Any]
    leaves: tuple[np.ndarray, ...] = ()
    keys: int | None = None


def contestant_of(case: DeviceCase, name: str) -> Contestant:
    """A contestant that JAX compiles.

    Raises:
      UnavailableError: it is not installed, or cannot take the case.
    """
    arrays = hidden_arrays(case.mask, case.shape, case.seed)
    if name == VISIBLE:
        return Contestant(crossattn.attention, (), visible_keys(case))
    if name.startswith(OURS):
        return Contestant(_ours(case, name.removeprefix(OURS).strip("[]") or None), arrays)
    if name == "splash":
        return Contestant(_splash(case))
    function = _peer(name)
    if case.mask == "lengths" and name != "tokamax":
        given = {"key_value_seq_lengths": arrays[0]}
    else:
        given = written_out(case.mask, case.shape, arrays)
    names = tuple(given)

    def call(q: Any, k: Any, v: Any, *leaves: Any) -> Any:
        options = dict(zip(names, leaves, strict=True))
        if "bias" in options:
            options["bias"] = options["bias"].astype(q.dtype)
        return function(q, k, v, **options)

    return Contestant(call, tuple(given.values()))


def visible_keys(case: DeviceCase) -> int:
    """How many keys a query sees, on average."""
    if case.mask is None:
        return case.shape.S
    arrays = hidden_arrays(case.mask, case.shape, case.seed)
    return max(1, round(HIDINGS[case.mask].keys(case.shape, arrays)))


def _ours(case: DeviceCase, forced: str | None) -> Callable[..., Any]:
    def call(q: Any, k: Any, v: Any, *leaves: Any) -> Any:
        options = HIDINGS[case.mask].options(*leaves) if case.mask else {}
        if "bias" in options:
            options["bias"] = options["bias"].astype(q.dtype)
        return crossattn.attention(q, k, v, implementation=forced, **options)

    return call


def definition(case: DeviceCase) -> Contestant:
    """What results are compared with: plain blocks, which are given float32."""
    leaves = hidden_arrays(case.mask, case.shape, case.seed)
    return Contestant(_ours(case, "chunked"), leaves)


def chosen_kernel(case: DeviceCase) -> str:
    """Which implementation of ours takes a case on its device, as `explain` says."""
    q, k, v = (jax.ShapeDtypeStruct(x, case.dtype) for x in shapes_of(case)[:3])
    leaves = [jnp.asarray(x) for x in hidden_arrays(case.mask, case.shape, case.seed)]
    options = HIDINGS[case.mask].options(*leaves) if case.mask else {}
    if "bias" in options:
        options["bias"] = options["bias"].astype(case.dtype)
    platform = {"gpu": "cuda"}.get(case.device, case.device)
    for line in crossattn.explain(q, k, v, **options).splitlines():
        if line.startswith(f"{platform}: "):
            return line.removeprefix(f"{platform}: ").partition(" (")[0]
    return "unknown"


def shapes_of(case: DeviceCase, keys: int | None = None) -> list[tuple[int, ...]]:
    """Of q, k, v, and of the output's cotangent where there is a backward pass."""
    B, T, S, H, D = case.shape.sizes
    q, k = (B, T, H, D), (B, keys or S, case.shape.key_heads, D)
    return [q, k, k, *[q] * (case.direction == "backward")]


def _peer(name: str) -> Callable[..., Any]:
    if name == "tokamax":
        return optional_module("tokamax").dot_product_attention
    implementation = {"jax.nn": "xla", "cudnn": "cudnn"}[name]
    return functools.partial(jax.nn.dot_product_attention, implementation=implementation)  # type: ignore[arg-type]


def _splash(case: DeviceCase) -> Callable[..., Any]:
    """Splash attention as jax has it, with its own blocks."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    _, T, S, H, D = case.shape.sizes
    if case.mask or T % BLOCK or S % BLOCK:
        raise UnavailableError(f"takes no mask here, and multiples of {BLOCK} queries and keys")
    full = splash_attention_mask.FullMask((T, S))
    mask = splash_attention_mask.MultiHeadMask([full] * H)

    def call(q: Any, k: Any, v: Any) -> Any:
        make = splash_attention_kernel.make_splash_mha
        kernel = make(mask=mask, head_shards=1, q_seq_shards=1)
        heads_first = (x.swapaxes(1, 2) for x in (q * jnp.asarray(D**-0.5, q.dtype), k, v))
        return jax.vmap(kernel)(*heads_first).swapaxes(1, 2)

    return call
