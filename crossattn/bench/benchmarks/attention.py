"""Benchmark `attention`: the operation alone, ours and other libraries'."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np

import crossattn
from crossattn.ops.api import explain

from ..cases import Case
from ..timing import Program, UnavailableError, jax_program
from ..truth import Truth

OURS = "crossattn"


def prepare(case: Case) -> Callable[[str], Program]:
    """A function that builds a contestant by its name."""
    arrays = inputs(case)
    truth = Truth.of(*arrays)

    def build(name: str) -> Program:
        if name == "torch":
            return _torch(case, arrays, truth)
        function = _jax_function(name)
        if case.direction == "backward":
            function = with_gradients(function)
        program = jax_program(lambda *a: jax.tree.leaves(function(*a)), *arrays, error=truth.error)
        if name != OURS:
            return program
        return dataclasses.replace(program, chosen=_chosen(case, *arrays[:3]))

    return build


def _chosen(case: Case, *arrays: Any) -> str:
    """Which implementation of ours takes a call, for the device of the case.

    Its name stands at the beginning of a platform's line of `explain`, before the reason.
    """
    platform = {"gpu": "cuda"}.get(case.device, case.device)
    (line,) = (x for x in explain(*arrays).splitlines() if x.startswith(f"{platform}: "))
    return line.removeprefix(f"{platform}: ").partition(" (")[0]


def inputs(case: Case) -> list[jax.Array]:
    """[q, k, v], and the cotangent of the output where there is a backward pass."""
    B, T, S, H, D = case.shape.sizes
    keys = (B, S, case.shape.key_heads, D)
    shapes = [(B, T, H, D), keys, keys]
    if case.direction == "backward":
        shapes.append((B, T, H, D))
    return [normal(case, i, shape) for i, shape in enumerate(shapes)]


def first_keys(arrays: list[jax.Array], keys: int) -> list[jax.Array]:
    """`inputs` with fewer keys and values."""
    q, k, v, *cotangent = arrays
    if keys < k.shape[1]:
        k, v = k[:, :keys], v[:, :keys]
    return [q, k, v, *cotangent]


def normal(case: Case, index: int, shape: tuple[int, ...]) -> jax.Array:
    """The index-th array of a case."""
    rng = np.random.default_rng([case.seed, index])
    return jnp.asarray(rng.standard_normal(shape, np.float32)).astype(case.dtype)


def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """(q, k, v, cotangent) -> (out, dq, dk, dv)."""

    def both(*arguments):
        *arrays, cotangent = arguments
        out, pull = jax.vjp(function, *arrays)
        return out, *pull(cotangent)

    return both


def _jax_function(name: str) -> Callable[..., jax.Array]:
    """(q, k, v) -> out; "crossattn[chunked]" forces an implementation of ours."""
    if name.startswith(OURS):
        forced = name.removeprefix(OURS).strip("[]") or None
        return functools.partial(crossattn.attention, implementation=forced)
    if name == "tokamax":
        return optional_module("tokamax").dot_product_attention
    functions: dict[str, Callable[..., jax.Array]] = {
        "jax.nn": functools.partial(jax.nn.dot_product_attention, implementation="xla"),
        "linen": flax.linen.dot_product_attention,
        "nnx": flax.nnx.dot_product_attention,
    }
    return functions[name]


def optional_module(name: str) -> Any:
    """A module that need not be installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UnavailableError("not installed") from None


def _torch(case: Case, arrays: list[jax.Array], truth: Truth) -> Program:
    torch = optional_module("torch")
    torch.set_num_threads(case.threads)
    dtype = getattr(torch, case.dtype)
    tensors = [torch.from_numpy(np.array(x, np.float32)).to(dtype=dtype) for x in arrays]
    backward, grouped = case.direction == "backward", case.shape.K is not None
    for x in tensors[:3]:
        x.requires_grad_(backward)

    def call():
        q, k, v = (x.transpose(1, 2) for x in tensors[:3])
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
        out = out.transpose(1, 2)
        gradients = torch.autograd.grad(out, tensors[:3], tensors[3]) if backward else ()
        return out, *gradients

    def run():
        with torch.set_grad_enabled(backward):
            return call()

    def error(result):
        return truth.error([x.detach().float().cpu().numpy() for x in result])

    return Program(run, error)
