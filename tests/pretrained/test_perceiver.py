"""Perceiver IO of texts against transformers, whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError
from crossattn.interop.files import WeightsError
from crossattn.pretrained import load_model
from tests.support.text_fixtures import peer, stored


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    one = peer("perceiver")
    return one, load_model(stored(tmp_path_factory.mktemp("perceiver"), one.state, one.config))


def rows(one):
    return [
        row[seen].tolist() for row, seen in zip(one.arrays["tokens"], seen_of(one), strict=True)
    ]


def seen_of(one):
    return one.arrays["seen"].astype(bool)


def test_logits_and_tokens_are_those_of_the_class(found):
    one, model = found
    assert [model.tokens(text) for text in ("a b[MASK][MASK]e", "\u00e4!")] == rows(one)
    for logits, wanted, seen in zip(
        model.logits(rows(one)), one.arrays["logits"], seen_of(one), strict=True
    ):
        np.testing.assert_allclose(logits, wanted[seen], atol=1e-5)


def test_no_rows_are_no_logits(found):
    _, model = found
    assert model.logits([]) == []
    assert [one.shape for one in model.logits([[4], []])] == [(1, 262), (0, 262)]


@pytest.mark.parametrize("token", [262, -1])
def test_tokens_of_another_model_are_refused(token, found):
    with pytest.raises(ValueError, match=f"token {token} of a table of 262: numbers are 0 to 261"):
        found[1].logits([[4, token], [4]])


def test_masked_bytes_are_filled_in(found):
    one, model = found
    text = model.fill("a b[MASK][MASK]e")
    best = one.arrays["logits"][0, 4:6, 6:].argmax(-1)
    assert text == (b"a b" + bytes(best.tolist()) + b"e").decode(errors="replace")


def test_traces(found):
    one, model = found
    observe = lambda trace: trace.weights()
    tokens = jnp.asarray(one.arrays["tokens"][:1], jnp.int32)
    run = jax.jit(lambda params: model.model.apply(params, tokens, observe=observe)[1])
    read, written = run(model.params)
    assert read.shape == (1, 2, 4, 8)
    assert written.shape == (1, 8, 8, 4)
    np.testing.assert_allclose(written.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "tanh"}, "hidden_act 'tanh'"),
        ({"qk_channels": 7}, "channels of 2 heads"),
        ({"cross_attention_shape_for_attention": "k"}, "expected q or kv"),
        ({"num_latents": 0}, "num_latents 0"),
    ],
)
def test_configs_that_are_refused(found, tmp_path, change, said):
    one, _ = found
    with pytest.raises(WeightsError, match=said):
        load_model(stored(tmp_path, one.state, one.config | change))


def test_files_that_are_refused(found, tmp_path):
    one, _ = found
    state = dict(one.state)
    with pytest.raises(ImportMismatchError, match="num_self_attends_per_block"):
        load_model(stored(tmp_path, state, one.config | {"num_self_attends_per_block": 3}))
    del state["perceiver.decoder.decoding_cross_attention.mlp.dense1.bias"]
    with pytest.raises(ImportMismatchError, match=r"mlp\.dense1\.bias"):
        load_model(stored(tmp_path, state, one.config))
    del state["embedding_decoder.bias"]
    with pytest.raises(WeightsError, match="PerceiverForMaskedLM is loaded"):
        load_model(stored(tmp_path, state, one.config))
