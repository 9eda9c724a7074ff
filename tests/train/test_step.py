"""The loss of a training step with a large vocabulary, and in half precision."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crossattn.nn import head
from crossattn.train import step as steps
from crossattn.train.source import batches_of


@pytest.fixture(scope="module")
def batch(run, examples):
    return jax.tree.map(jnp.asarray, batches_of(run, examples, 0).batch(0))


def gradient(run, words, batch):
    """The loss with its gradient, and shapes of the parameters."""
    model = steps.model_of(run, words)
    create = lambda: steps.initial_state(model, optax.identity(), 0, batch).params
    loss = lambda params: steps.objective(model, params, batch, 0.1)
    return jax.value_and_grad(loss, has_aux=True), jax.eval_shape(create)


def test_in_blocks_or_at_once_is_the_same(run, examples, batch, x64, monkeypatch):
    """In float64, where the order of sums does not show (tables of positions are float32)."""
    words = len(examples.vocabulary)
    wide = lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
    f, params = gradient(run, words, jax.tree.map(wide, batch))
    rng = np.random.default_rng(0)

    @jax.jit
    def both(params):
        want = f(params)
        monkeypatch.setattr(steps, "PLAIN_LOGITS", 0)
        monkeypatch.setattr(head, "LOGITS_AT_ONCE", batch.tokens.size * words // 3)
        return f(params), want

    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
    with jax.numpy_dtype_promotion("standard"):
        program = both.lower(params)
    assert f"tensor<10x5x{words}xf64>" in program.as_text()  # a third of the positions
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8 * max(1, np.abs(b).max()))
    jax.tree.map(close, *program.compile()(params))


def equations(program):
    """Of a program and of all that it calls."""
    for equation in program.eqns:
        yield equation
        for value in equation.params.values():
            for one in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner := getattr(one, "jaxpr", one), "eqns"):
                    yield from equations(inner)


def test_no_array_holds_all_logits(run, batch):
    """Neither of the forward pass nor of the gradient, however they are called."""
    words = 500_009
    f, params = gradient(run, words, batch)
    program = jax.make_jaxpr(f)(params).jaxpr
    largest = max(x.aval.size for equation in equations(program) for x in equation.outvars)
    B, T = batch.tokens.shape
    assert largest <= max(head.LOGITS_AT_ONCE, run.model.width * words) < B * (T - 1) * words


def test_half_precision_is_half_precision(run, examples, batch):
    """Streams and products; losses, norms, sums and parameters are float32."""
    half = dataclasses.replace(run, model=dataclasses.replace(run.model, dtype="bfloat16"))
    f, params = gradient(half, len(examples.vocabulary), batch)
    program = jax.make_jaxpr(f)(params).jaxpr
    products = [e.invars for e in equations(program) if e.primitive.name == "dot_general"]
    # Those of two matrices are of layers; kernels of attention have their own ways.
    layers = [pair for pair in products if {x.aval.ndim for x in pair} == {2}]
    assert len(layers) > 30
    assert {x.aval.dtype.name for pair in layers for x in pair} == {"bfloat16"}
    (loss, _), gradients = jax.eval_shape(f, params)
    assert {loss.dtype.name, *(g.dtype.name for g in jax.tree.leaves(gradients))} == {"float32"}
