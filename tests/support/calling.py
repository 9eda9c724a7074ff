"""One compiled call of ours for every test here; masks are data, so that contents share it."""

import contextlib
import functools

import jax
import numpy as np
import pytest

from crossattn import BlockSizes, attend
from crossattn.ops.api import IMPLEMENTATIONS, RefusalError
from tests.support.cases import assert_close
from tests.support.definition import judge, weights

# Every kernel that there is and that can be compiled here: a new one is among them by itself.
HERE = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
FOUND = (
    n for n, kernel in IMPLEMENTATIONS.items() if HERE in kernel.platforms or not kernel.platforms
)
# At sizes of a few, "chunked" is one block: in blocks so small that every case has several, ragged
# ones among them, it stands for itself.
EVERY = tuple(BlockSizes(1, 1, 2, 3) if name == "chunked" else name for name in FOUND)
NAMED = tuple(name for name in EVERY if isinstance(name, str))
NEVER_REFUSE = ("reference", "xla")
STATIC = ("implementation", "scale", "softcap", "rate", "mapped")
DIFFERENTIABLE = ("q", "k", "v", "bias", "sinks")


@contextlib.contextmanager
def refusals(implementation):
    """An implementation may refuse a case: its test is skipped with the reason."""
    try:
        yield
    except RefusalError as reason:
        if implementation in NEVER_REFUSE:
            raise
        pytest.skip(f"{implementation}: {reason}")


@functools.partial(jax.jit, static_argnames=STATIC[:-1])
def forward(arrays, mask, key=None, *, implementation, scale=None, softcap=None, rate=None):
    """(out, trace) of the arrays q, k, v and, where they are there, bias and sinks."""
    given = {name: arrays[name] for name in DIFFERENTIABLE if name in arrays}
    options = {"scale": scale, "softcap": softcap, "implementation": implementation}
    options |= {} if rate is None else {"dropout": (rate, key)}
    return attend(**given, mask=mask, **options)


@functools.partial(jax.jit, static_argnames=STATIC)
def evaluate(arrays, mask, key=None, *, mapped=False, **options):
    """{out, lse, dq, dk, dv, dbias, dsinks} for the cotangents `out` and, if it is there, `lse`.

    `mapped` calls us in a vmap over a leading axis of q, k and v that the others do not have.
    """
    given = {name: arrays[name] for name in DIFFERENTIABLE if name in arrays}

    def results(given):
        out, trace = forward(given, mask, key, **options)
        return out, trace.lse

    axes = ({name: 0 if name in "qkv" else None for name in given},)
    call = jax.vmap(results, axes) if mapped else results
    if "lse" in arrays:
        (out, lse), pull = jax.vjp(call, given)
        cotangents = (arrays["out"].astype(out.dtype), arrays["lse"].astype(lse.dtype))
    else:
        # The lse's cotangent is a symbolic zero then.
        out, pull, lse = jax.vjp(call, given, has_aux=True)
        cotangents = arrays["out"].astype(out.dtype)
    (gradients,) = pull(cotangents)
    return {"out": out, "lse": lse} | {f"d{name}": g for name, g in gradients.items()}


def run(arrays, mask, implementation, dtype=np.float32, key=None, **options):
    """`evaluate` from numpy to numpy, in `dtype`."""
    arrays = {name: np.asarray(x, dtype) for name, x in arrays.items()}
    found = evaluate(arrays, mask, key, implementation=implementation, **options)
    return {name: np.asarray(x) for name, x in found.items()}


def assert_judged(found, arrays, visible, dtype, *, scale=None, softcap=None, kept=1.0):
    """All of `found` is what the definition says, to the table of tolerances."""
    wanted = judge(arrays, visible, scale, softcap, kept)
    wanted = {name: wanted[name] for name in found}
    w = weights(arrays, visible, scale, softcap)
    largest = np.abs(w["scores"], where=w["scores"] != -np.inf, out=np.zeros_like(w["scores"]))
    assert_close(found, wanted, {"v": w["v"]}, dtype, largest.max(initial=0))
