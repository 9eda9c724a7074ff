"""What the backward pass computes again: kernels counted in programs for CUDA, memory and values
in programs for CPUs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import BlockConfig, Stack

B, T, S, M, H, L = 2, 24, 40, 32, 2, 4
WORDS, SOUND = (jax.ShapeDtypeStruct((B, n, M), jnp.bfloat16) for n in (T, S))
KINDS = (None, "all but attention", "everything")


def gradient(remat, order, **policy):
    """The gradient of all parameters of a stack, and shapes of its arguments."""
    stack = Stack(L, M, H, BlockConfig(order=order), remat=remat, **policy)
    causal = Mask.causal(0)
    init = lambda x, c: stack.init(jax.random.key(0), x, c, self_mask=causal)
    run = lambda params, x, c: stack.apply(params, x, c, self_mask=causal)[0]
    loss = lambda *given: jnp.square(run(*given).astype(jnp.float32)).mean()
    return jax.jit(jax.grad(loss)), (jax.eval_shape(init, WORDS, SOUND), WORDS, SOUND)


def test_attention_runs_once_where_its_results_are_kept():
    """And a stack's causal attention takes a fused kernel: its offset is no array in the loop."""
    found = {}
    for remat in KINDS:
        f, given = gradient(remat, ("self", "cross"), implementation="cudnn")
        text = f.trace(*given).lower(lowering_platforms=("cuda",)).as_text()
        names = re.findall(r"custom_call @__cudnn\$fmhaSoftmax(\w*)", text)
        found[remat] = names.count(""), names.count("Backward")
    # Two attentions in a layer. A turn of a loop is two layers (`unroll` in nn/scan.py), which jax
    # before 0.12 writes once, as a function that is called twice.
    n = 4 if jax.__version_info__ >= (0, 12) else 2
    assert found == {None: (n, n), "all but attention": (n, n), "everything": (2 * n, n)}


@pytest.fixture(scope="module")
def compiled():
    found = {}
    for remat in KINDS:
        f, given = gradient(remat, ("cross",), dtype=jnp.float32)
        found[remat] = f.lower(*given).compile(), given
    return found


def test_kept_results_take_the_memory_that_they_are_said_to(compiled):
    size = {n: f.memory_analysis().temp_size_in_bytes for n, (f, _) in compiled.items()}
    o, lse = B * T * M, B * H * T
    kept = 4 * L * (o + lse)
    assert size["everything"] < size["all but attention"] < size[None]
    assert kept / 2 < size["all but attention"] - size["everything"] < 2 * kept


def test_gradients_are_the_same(compiled):
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.normal(0, 0.1, leaf.shape), leaf.dtype)
    arrays = jax.tree.map(draw, compiled[None][1])
    want, *others = (f(*arrays) for f, _ in compiled.values())
    for got in others:
        close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
        jax.tree.map(close, got, want)
