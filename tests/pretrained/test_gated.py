"""Gated attention in a frozen Whisper: at the start nothing changes, and only it is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crossattn.interop import huggingface
from crossattn.models.generate import Beam, generate
from crossattn.nn import presets
from crossattn.ops import Mask
from crossattn.pretrained.gated import PUBLISHED, with_gated_attention
from crossattn.pretrained.whisper import whisper_model
from crossattn.train.freezing import frozen, stop_frozen
from tests.support.whisper import peer


@pytest.fixture(scope="module")
def case():
    """A random Whisper, what it hears, what it writes, and pictures besides."""
    about, arrays, state = peer()
    decoder = whisper_model(about["config"]).decoder
    params = huggingface.load(state, "whisper_decoder", module=decoder)
    params = {"params": jax.tree.map(jnp.asarray, params["params"])}
    sound, tokens = jnp.asarray(arrays["context"]), jnp.asarray(arrays["tokens"], jnp.int32)
    pictures = jax.random.normal(jax.random.key(1), (len(tokens), 4, 5))
    more, all_params = with_gated_attention(decoder, params, jax.random.key(0), context_width=5)
    return decoder, params, more, all_params, tokens, sound, pictures


def test_equal_to_the_bit_at_the_start(case):
    decoder, params, more, all_params, tokens, sound, pictures = case
    observe = lambda trace: trace.weights()
    wanted, maps = jax.jit(lambda p: decoder.apply(p, tokens, sound, observe=observe))(params)
    observe = lambda traces: [trace.weights() for trace in traces if trace is not None]
    run = jax.jit(lambda p, c: more.apply(p, tokens, c, observe=observe))
    logits, (heard, seen) = run(all_params, (sound, pictures))
    np.testing.assert_array_equal(logits, wanted)
    np.testing.assert_array_equal(heard, maps)
    assert seen.shape == (*maps.shape[:-1], 4)
    np.testing.assert_array_equal(run(all_params, (sound, None))[0], wanted)


@pytest.mark.slow
def test_transcripts_are_the_same(case):
    decoder, params, more, all_params, tokens, sound, pictures = case

    def written(decoder, params, context):
        context = decoder.apply(params, context, method="project")
        cache = decoder.apply(params, 2 * len(tokens), 8, method="init_cache")
        step = lambda cache, read, position: decoder.apply(
            params, read, context, cache, position, method="decode_step"
        )
        how = {"length": 6, "eos_id": 20, "strategy": Beam(2), "prefill": step}
        return generate(step, cache, tokens[:, :2], **how)

    before = jax.jit(lambda p: written(decoder, p, sound))(params)
    after = jax.jit(lambda p: written(more, p, (sound, pictures)))(all_params)
    np.testing.assert_array_equal(after.tokens, before.tokens)
    np.testing.assert_array_equal(after.score, before.score)


def opened(params):
    """With gates of 1."""
    path = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    change = lambda at, x: x + 1 if path(at).endswith("gate") else x
    return jax.tree_util.tree_map_with_path(change, params)


def test_only_the_new_layers_are_trained(case):
    _, _, more, all_params, tokens, sound, pictures = case
    params = opened(all_params)

    def loss(params):
        logits, _ = more.apply(stop_frozen(params, PUBLISHED), tokens, (sound, pictures))
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean()

    gradients = jax.jit(jax.grad(loss))(params)
    optimizer = frozen(optax.sgd(0.1), PUBLISHED)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params))
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        new = "gated" in jax.tree_util.keystr(path)
        update = updates
        for one in path:
            update = update[one.key]
        assert bool(jnp.any(gradient != 0)) == new or "key']['bias" in str(path), path
        assert bool(jnp.any(update != 0)) == new, path


@pytest.mark.slow
def test_decoding_word_by_word_and_masks(case):
    """With open gates: as all words at once; hidden tokens of the pictures are not read."""
    _, _, more, all_params, tokens, sound, pictures = case
    params = opened(all_params)
    read = jax.jit(lambda c, mask=None: more.apply(params, tokens, c, mask=mask)[0])
    project = jax.jit(lambda c, mask: more.apply(params, c, mask=mask, method="project"))
    masks = None, Mask.lengths(key=jnp.full(len(tokens), 3))
    wanted = read((sound, pictures), masks)
    changed = pictures.at[:, 3].set(9.0)
    np.testing.assert_allclose(read((sound, changed), masks), wanted, atol=1e-6)
    assert np.abs(np.asarray(read((sound, changed)) - wanted)).max() > 0.01
    context = project((sound, pictures), masks)
    np.testing.assert_allclose(read(context), wanted, atol=1e-5)
    cache = more.apply(params, len(tokens), tokens.shape[1], method="init_cache")
    step = jax.jit(lambda *given: more.apply(params, *given, method="decode_step"))
    for position, column in enumerate(tokens.T[:3]):
        logits, cache, _ = step(column, context, cache, jnp.int32(position))
        np.testing.assert_allclose(logits, wanted[:, position], atol=1e-5)


def test_what_does_not_fit(case):
    decoder, params, more, all_params, tokens, sound, _ = case
    with pytest.raises(TypeError, match="context is a pair"):
        more.apply(all_params, tokens, sound)
    with pytest.raises(TypeError, match="this decoder has a GatedStack"):
        with_gated_attention(more, all_params, jax.random.key(0), context_width=5)
    text = {"context_width": 5, "reading": presets.TEXT}
    more, wrong = with_gated_attention(decoder, params, jax.random.key(0), **text)
    with pytest.raises(ValueError, match="read a context alone"):
        more.apply(wrong, tokens, (sound, sound))
