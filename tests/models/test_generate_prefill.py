"""Prompts that are read in one pass: as if they were read token by token."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.models.generate import Beam, Greedy, Sample, generate
from crossattn.models.logits import NoRepeatNGrams, RepetitionPenalty
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import Interleaved, presets
from tests.support.toys import M, toy

B, P, V, LENGTH = 3, 5, 7, 4
EVEN, RAGGED = (P, P, P), (2, 5, 3)
HOOKS = (RepetitionPenalty(3.0), NoRepeatNGrams(2))


def empty(rows, room):
    return jnp.full((1, rows, room), 3, jnp.int32)


def rows_of(table):
    """`toy`, what it makes of several tokens at once, and the shapes that this was called with."""
    one, called = toy(table), []

    def prefill(cache, tokens, position):
        called.append(tokens.shape)
        seen = []
        for place in range(tokens.shape[1]):
            _, cache, observed = one(cache, tokens[:, place], position + place)
            seen.append(observed)
        return None, cache, jax.tree.map(lambda *leaves: jnp.stack(leaves, 1), *seen)

    return one, prefill, called


@pytest.mark.parametrize("strategy", [Greedy(), Sample(top_k=4), Beam(3)], ids=str)
def test_equals_prompts_read_token_by_token(strategy):
    rng = np.random.default_rng(5)
    table = jnp.asarray(rng.normal(0, 2, (M, V)), jnp.float32)
    prompt = rng.integers(0, V, (B, P))
    step, prefill, called = rows_of(table)
    cache = empty(B * strategy.beams, P + LENGTH)

    @jax.jit
    def both(lengths):
        # Behind a prompt anything may stand.
        filled = jnp.where(jnp.arange(P)[None] < lengths[:, None], prompt, -99)
        call = {"length": LENGTH, "eos_id": 1, "strategy": strategy, "logits": HOOKS}
        call |= {"lengths": lengths, "key": jax.random.key(0)}
        write = functools.partial(generate, step, cache, filled, **call)
        return write(), write(prefill=prefill)

    for lengths in (EVEN, RAGGED):
        one, other = both(jnp.array(lengths))
        jax.tree.map(np.testing.assert_array_equal, one, other)
        assert np.isfinite(one.score).all()
    assert called == [(B, P - 1)]


def test_a_prompt_of_one_token_needs_no_other_pass():
    step, prefill, called = rows_of(jnp.zeros((M, V)))
    call = {"length": 2, "eos_id": None, "prefill": prefill}
    jax.eval_shape(lambda cache: generate(step, cache, [[1]] * B, **call), empty(B, 3))
    assert not called


def test_another_cache_or_observation_is_refused():
    step, prefill, _ = rows_of(jnp.zeros((M, V)))
    write = lambda prefill: jax.eval_shape(
        lambda cache: generate(step, cache, [[1, 2]] * B, length=2, eos_id=None, prefill=prefill),
        empty(B, 9),
    )
    with pytest.raises(ValueError, match=r"given a cache int32\[1, 3, 9\] .* int32\[1, 3, 8\]"):
        write(lambda *given: (None, given[0][..., 1:], None))
    with pytest.raises(ValueError, match=r"prefill observed None, wanted {.*for 1 tokens of 3"):
        write(lambda *given: (*prefill(*given)[:2], None))


def decoder(name):
    """A decoder, and what its words are told that stand at some places, `times` beams of each."""
    if name != "interleaved":
        return presets.build(name, width=8, heads=2, layers=2), lambda place, T, times: {}
    reading = presets.config("mllama")
    begun, image = jnp.array([[0, 1, 1, 1, 2, 2, 2, 2, 2]] * B), jnp.array([[1, 1, 2]] * B)

    def told(place, T, times):
        here = jax.lax.dynamic_slice_in_dim(begun, place, T, axis=1)
        return {"mask": Mask.media(jnp.tile(here, (1, times)), image)}

    return Interleaved(2, 1, 8, 2, reading=reading, text=presets.TEXT), told


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("whisper", Beam(2)),
        pytest.param("t5gemma", Greedy(), marks=pytest.mark.slow),
        pytest.param("interleaved", Beam(2), marks=pytest.mark.slow),
    ],
)
def test_decoders_read_prompts_at_once(name, strategy):
    stack, told = decoder(name)
    model = TextDecoder(stack, vocab_size=11, length=P + LENGTH)
    rng = np.random.default_rng(2)
    sound = jnp.asarray(rng.normal(size=(B, 3, 8)), jnp.float32)
    prompt = rng.integers(0, 11, (B, P))
    given = jnp.asarray(prompt), sound
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *given, **told(0, P, 1)))
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.5, p.shape), p.dtype), shapes)

    @jax.jit
    def both(params, lengths):
        projected = model.apply(params, sound, method="project")
        cache = model.apply(params, B * strategy.beams, P + LENGTH, method="init_cache")

        def step(cache, tokens, position):
            (N, *several), given = tokens.shape, (tokens, projected, cache, position)
            where = told(position, *(several or [1]), N // B) | {"observe": lambda t: t.lse}
            logits, cache, kept = model.apply(params, *given, **where, method="decode_step")
            kept = kept.reshape(*kept.shape[:3], N // B, -1).transpose(1, 3, 4, 0, 2)
            return logits, cache, kept.reshape(N, *several, *kept.shape[3:])

        write = functools.partial(generate, step, cache, prompt, length=LENGTH, eos_id=1)
        write = functools.partial(write, strategy=strategy, lengths=lengths)
        return write(), write(prefill=step)

    for lengths in (EVEN, RAGGED):
        one, other = both(params, jnp.array(lengths))
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.score, other.score, rtol=1e-5)
        np.testing.assert_allclose(one.observed, other.observed, atol=1e-5)
