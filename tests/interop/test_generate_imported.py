"""Imported decoders write what transformers' `generate` wrote with the same weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import huggingface
from crossattn.models.generate import Beam, Greedy, generate
from crossattn.models.logits import NoRepeatNGrams, RepetitionPenalty, SuppressTokens
from tests.support.fixtures import FOLDER, SINGLE, decoder, read


@pytest.fixture(scope="module", params=["blip_decoder", "whisper_decoder"])
def peer(request):
    return read(request.param)


def written(peer, how, **change):
    """The texts, and the logits of all their words at once, without a cache."""
    settings = peer.settings["generate"]
    model = decoder(SINGLE[peer.name].preset, peer.settings)
    params = huggingface.load(peer.state, peer.name)
    context = jnp.asarray(peer.cases[""]["in/context"], jnp.float32)
    prompt = jnp.full((len(context), 1), settings["bos_token_id"], jnp.int32)
    call = {
        "length": settings["max_new_tokens"],
        "pad_id": settings["pad_token_id"],
        "strategy": how,
    }
    call |= {"eos_id": settings["eos_token_id"]} | change

    def write(params, context):
        projected = model.apply(params, context, method="project")
        rows, room = len(prompt) * how.beams, prompt.shape[1] + call["length"]
        cache = model.apply(params, rows, room, method="init_cache")

        def step(cache, tokens, position):
            given = (tokens, projected, cache, position)
            logits, cache, _ = model.apply(params, *given, method="decode_step")
            return logits, cache, logits

        texts = generate(step, cache, prompt, **call)
        return texts, model.apply(params, texts.tokens, context)[0]

    return jax.device_get(jax.jit(write)(params, context))


def counting(tokens, end):
    """Which tokens count: all up to the first end, and how many they are."""
    counts = np.cumsum(np.cumsum(np.isin(tokens, end), axis=1), axis=1) < 2
    return counts, counts.sum(axis=1)


def check_texts(peer, texts, whole, wanted, end=None):
    """The same tokens; what the steps said of them is what the whole says without a cache."""
    counts, lengths = counting(wanted, end or peer.settings["generate"]["eos_token_id"])
    assert 0 < (lengths < wanted.shape[1]).sum() < len(lengths)
    np.testing.assert_array_equal(texts.lengths, lengths)
    np.testing.assert_array_equal(texts.tokens[counts], wanted[counts])
    assert (texts.tokens[~counts] == peer.settings["generate"]["pad_token_id"]).all()
    read = counts[:, 1:]
    np.testing.assert_allclose(texts.observed[:, :-1][read], whole[:, :-1][read], atol=2e-5)


def test_greedy(peer):
    texts, whole = written(peer, Greedy())
    check_texts(peer, texts, whole, peer.cases[""]["generate/greedy"])


def test_beam(peer):
    settings = peer.settings["generate"]
    how = Beam(settings["num_beams"], length_penalty=settings["length_penalty"])
    texts, whole = written(peer, how)
    arrays = peer.cases[""]
    check_texts(peer, texts, whole, arrays["generate/beam"])
    np.testing.assert_allclose(texts.score, arrays["generate/beam_scores"], atol=1e-5)


def test_hooks_and_two_ends_under_beams():
    arrays = dict(np.load(FOLDER.parent / "generation.npz"))
    about = json.loads(str(arrays["about"]))
    options, length = about["cases"]["whisper"], about["length"]
    hooks = (
        RepetitionPenalty(options["repetition_penalty"]),
        NoRepeatNGrams(options["no_repeat_ngram_size"]),
        SuppressTokens(options["suppress_tokens"]),
        SuppressTokens(options["begin_suppress_tokens"], at=1),
    )
    peer, end = read("whisper_decoder"), options["eos_token_id"]
    change = {"length": length, "eos_id": end, "logits": hooks}
    texts, whole = written(peer, Beam(about["beam"]["num_beams"]), **change)
    wanted = arrays["whisper/beam/tokens"][:, : 1 + length]
    check_texts(peer, texts, whole, wanted, end)
    np.testing.assert_allclose(texts.score, arrays["whisper/beam/scores"], atol=1e-5)
