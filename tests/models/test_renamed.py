"""Names of the release before still work, and say what to write."""

import jax
import jax.numpy as jnp
import pytest

from crossattn.models.generate import Beam, generate
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import Stack


def count(cache, tokens, position):
    return 9.0 * jax.nn.one_hot(tokens + 1, 7), cache, None


def test_generate_takes_its_former_arguments():
    with pytest.warns(DeprecationWarning, match="is now"):
        texts = generate(count, (), [[1]], length=3, end=3, pad=6, how=Beam(2))
    assert texts.tokens.tolist() == [[1, 2, 3, 6]]
    with pytest.raises(TypeError, match="end is the former name of eos_id"):
        generate(count, (), [[1]], length=3, end=3, eos_id=3)


def test_decoders_take_a_step_by_its_former_name():
    stack = Stack(1, 8, 2)
    with pytest.warns(DeprecationWarning, match="vocab_size="):
        model = TextDecoder(stack, vocabulary=5, length=4)
    words, context = jnp.array([[1, 2]]), jnp.ones((1, 3, 8))
    params = jax.jit(model.init)(jax.random.key(0), words, context)
    apply = jax.jit(model.apply, static_argnames="method")
    projected = apply(params, context, method="project")
    cache = model.apply(params, 1, 4, method="init_cache")
    with pytest.warns(DeprecationWarning, match="init_cache"):
        former = model.apply(params, 1, 4, method="start")
    assert jax.tree.all(jax.tree.map(jnp.array_equal, cache, former))
    position = jnp.int32(0)
    wanted, _, _ = apply(params, words[:, 0], projected, cache, position, method="decode_step")
    with pytest.warns(DeprecationWarning, match="decode_step"):
        got, _, _ = apply(params, words[:, 0], position, projected, cache, method="step")
    assert jnp.array_equal(got, wanted)
    inner = params["params"]["stack"]
    with pytest.warns(DeprecationWarning, match="is now"):
        stack.apply({"params": inner}, 1, 4, method="start")
