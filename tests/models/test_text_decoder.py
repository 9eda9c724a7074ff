"""Text decoders at the limits of their tables."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crossattn.models.generate import Beam, generate
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import AttentionConfig, Interleaved, Stack, presets
from crossattn.nn.head import Targets
from tests.support.formulas import filled

B, S, M, H, V, PLACES = 2, 3, 8, 2, 11, 7
SOUND = jnp.asarray(np.random.default_rng(0).normal(size=(B, S, M)), jnp.float32)


def decoder(**own):
    design = replace(presets.config("whisper"), self_attention=AttentionConfig(**own))
    return TextDecoder(Stack(1, M, H, design), vocab_size=V, length=PLACES)


MODEL = decoder()


@pytest.fixture(scope="module")
def params():
    tokens = jnp.ones((B, 2), int)
    shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), tokens, SOUND))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.5, p.shape), p.dtype), shapes)


def stepper(params):
    projected = MODEL.apply(params, SOUND, method="project")
    return lambda cache, tokens, position: MODEL.apply(
        params, tokens, projected, cache, position, method="decode_step"
    )


def test_more_tokens_than_positions_are_refused(params):
    with pytest.raises(ValueError, match="20 tokens, but this decoder has positions for 7"):
        jax.eval_shape(lambda p: MODEL.apply(p, jnp.ones((B, 20), int), SOUND), params)
    with pytest.raises(ValueError, match="8 words, but this decoder has positions for 7"):
        MODEL.apply(params, B, PLACES + 1, method="init_cache")
    cache, tokens = MODEL.stack.init_cache(B, PLACES + 1), jnp.ones(B, int)
    with pytest.raises(ValueError, match=r"a cache for 8 tokens, .* positions for 7"):
        jax.eval_shape(lambda p: stepper(p)(cache, tokens, jnp.int32(0)), params)
    cache, behind = MODEL.stack.init_cache(B, PLACES), jnp.int32(PLACES)
    with pytest.raises(ValueError, match="positions for 7 tokens, got 8"):
        jax.eval_shape(lambda p: stepper(p)(cache, tokens, behind), params)


def test_a_word_outside_of_the_vocabulary_spoils_nothing_before_it(params):
    whole = jax.jit(lambda tokens: MODEL.apply(params, tokens, SOUND)[0])

    @jax.jit
    def steps(tokens):
        def one(cache, given):
            logits, cache, _ = stepper(params)(cache, *given)
            return cache, logits

        cache = MODEL.apply(params, B, PLACES, method="init_cache")
        given = tokens.T, jnp.arange(tokens.shape[1])
        return jax.lax.scan(one, cache, given)[1].swapaxes(0, 1)

    tokens = jnp.array([[1, 2, 4, 3], [1, 2, 4, 3]])
    right = whole(tokens)
    for bad in (-100, -1, V, 2**31 - 1):
        given = tokens.at[0, 2].set(bad)
        wrong = whole(given)
        assert np.isnan(wrong[0, 2:]).all()
        np.testing.assert_array_equal(wrong[0, :2], right[0, :2])
        np.testing.assert_array_equal(wrong[1], right[1])
        np.testing.assert_allclose(steps(given), wrong, atol=1e-5)
        with pytest.raises(ValueError, match=f"token {bad} of a table of 11"):
            jax.eval_shape(lambda params, given=given: MODEL.apply(params, given, SOUND), params)


def test_a_loss_that_leaves_out_such_words_has_gradients(params):
    tokens = jnp.array([[1, 2, -100, 3], [1, 2, 4, 3]])
    counted = jnp.array([[True, True, False, False], [True] * 4])

    def loss(params, tokens):
        logits = MODEL.apply(params, tokens, SOUND)[0]
        return jnp.where(counted[..., None], jax.nn.log_softmax(logits), 0).sum()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params, tokens)):
        assert jnp.isfinite(leaf).all()


def test_a_past_shorter_than_the_text_is_refused(params):
    strategy = Beam(3)

    @jax.jit
    def written(room):
        cache = MODEL.apply(params, B * strategy.beams, room.shape[0], method="init_cache")
        # Wherever it lies in the cache, and whatever lies beside it.
        cache = {"mine": (cache, jnp.zeros((1, B * strategy.beams)))}

        def step(cache, tokens, position):
            cache, beside = cache["mine"]
            given = tokens, projected, cache, position
            logits, cache, _ = MODEL.apply(params, *given, method="decode_step")
            return logits, {"mine": (cache, beside)}, None

        projected = MODEL.apply(params, SOUND, method="project")
        return generate(step, cache, [[1, 3], [2, 4]], length=5, eos_id=None, strategy=strategy)

    # All is read but the last word.
    exact, more = written(jnp.zeros(6)), written(jnp.zeros(7))
    np.testing.assert_array_equal(exact.tokens, more.tokens)
    np.testing.assert_allclose(exact.score, more.score, rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"cache\['mine'\]\[0\]\[0\] is a cache for 5 tokens, but 6 are"
    ):
        written(jnp.zeros(5))


def test_texts_longer_than_the_positions_are_refused(params):
    call = {"length": PLACES, "eos_id": None}
    for rows, says in ((PLACES, "a cache for 7 tokens, but 8"), (PLACES + 1, "positions for 7")):
        with pytest.raises(ValueError, match=says):
            generate(stepper(params), MODEL.stack.init_cache(B, rows), [[1, 2], [3, 4]], **call)


def test_designs_that_add_positions_are_refused():
    placed = AttentionConfig(positions="add")
    added = {"self_attention": placed}, {"cross_attention": placed}
    stacks = [Stack(1, M, H, replace(presets.config("whisper"), **fields)) for fields in added]
    text = replace(presets.TEXT, self_attention=placed)
    stacks.append(Interleaved(1, 1, M, H, reading=presets.config("flamingo"), text=text))
    for stack in stacks:
        model = TextDecoder(stack, vocab_size=V, length=PLACES)
        with pytest.raises(ValueError, match="adds positions to its words"):
            jax.eval_shape(model.init, jax.random.key(0), jnp.ones((B, 2), int), SOUND)
    rotary = decoder(positions="rotary")
    jax.eval_shape(rotary.init, jax.random.key(0), jnp.ones((B, 2), int), SOUND)


@pytest.mark.parametrize("transformed", [False, True])
def test_cross_entropy_is_that_of_the_logits(transformed):
    """With the bias of the logits, and all gradients; NaN where a token is no word."""
    model = TextDecoder(MODEL.stack, vocab_size=V, length=PLACES, transformed=transformed)
    tokens, words = jnp.array([[1, 2, 4], [3, 1, 0]]), jnp.array([[2, 4, 10], [1, 0, -1]])
    weight = jnp.array([[0.5, 1, 2], [1, 3, 0]])
    params = filled(model, tokens, SOUND)

    def blockwise(params, tokens):
        targets = Targets(words, weight, 0.1)
        return model.apply(params, tokens, SOUND, targets, method="cross_entropy")[0]

    def plain(params, tokens):
        labels = optax.smooth_labels(jax.nn.one_hot(words, V), 0.1)
        logits, _ = model.apply(params, tokens, SOUND)
        return (optax.softmax_cross_entropy(logits, labels) * weight).sum()

    both = lambda params, tokens: [
        jax.value_and_grad(f)(params, tokens) for f in (blockwise, plain)
    ]
    got, want = jax.jit(both)(params, tokens)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)
    assert np.isnan(jax.jit(blockwise)(params, tokens.at[0, 1].set(V)))


def test_what_stands_before_the_logits_has_the_activation_of_the_blocks():
    design = presets.config("encoder_decoder_post")
    design = replace(design, mlp=replace(design.mlp, activation="relu"))
    model = TextDecoder(Stack(1, M, H, design), V, PLACES, final_norm=False, transformed=True)
    tokens = jnp.ones((B, 2), int)
    params = filled(model, tokens, SOUND)
    _, found = model.apply(params, tokens, SOUND, capture_intermediates=True)
    before, normed = (
        found["intermediates"][one]["__call__"][0] for one in ("transform", "transform_norm")
    )
    norm = model.bind(params).transform_norm
    np.testing.assert_allclose(normed, norm(jnp.maximum(before, 0)), atol=1e-6)
