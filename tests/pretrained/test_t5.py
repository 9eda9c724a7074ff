"""T5 and T5 1.1 against transformers, whole: logits, words, bytes, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.files import WeightsError
from crossattn.models.generate import Beam
from crossattn.ops import Mask
from crossattn.pretrained import load_model
from tests.support.drawing import same
from tests.support.text_fixtures import peer, stored

NAMES = ("t5", "t5_v1_1")
LAYOUT = "t5_encoder_decoder"


@pytest.fixture(scope="module", params=NAMES)
def found(request, tmp_path_factory):
    one = peer(request.param)
    folder = stored(tmp_path_factory.mktemp(request.param), one.state, one.config)
    return one, load_model(folder)


def lengths(one):
    return jnp.asarray(one.arrays["seen"].sum(1))


def test_logits_are_those_of_the_class(found):
    one, loaded = found
    source, tokens = (jnp.asarray(one.arrays[name]) for name in ("source", "tokens"))
    seen = Mask.lengths(key=lengths(one))
    whole = jax.jit(lambda source: loaded.model.apply(loaded.params, source, tokens, mask=seen)[0])
    logits = whole(source)
    np.testing.assert_allclose(logits, one.arrays["logits"], atol=1e-5)
    # Otherwise padded, but the same text.
    other = jnp.where(one.arrays["seen"], source, 7)
    np.testing.assert_array_equal(whole(other), logits)


def test_greedy_words_are_those_of_the_class(found):
    one, loaded = found
    source, wanted = one.arrays["source"], one.arrays["written"]
    texts = loaded.write(source, lengths(one), length=wanted.shape[1] - 1)
    np.testing.assert_array_equal(texts.tokens, wanted)


def test_no_texts(found):
    _, loaded = found
    assert loaded([]) == []
    with pytest.raises(ValueError, match=r"source holds rows of tokens, \(B, S\), got \(0, 5\)"):
        loaded.write(np.zeros((0, 5), np.int32))


@pytest.mark.slow
def test_a_beam_of_one_row_is_that_of_two(found):
    one, loaded = found
    source, count = one.arrays["source"], int(lengths(one)[1])
    both = loaded.write(source, lengths(one), length=6, strategy=Beam(3))
    alone = loaded.write(source[1:, :count], length=6, strategy=Beam(3))
    np.testing.assert_array_equal(both.tokens[1:], alone.tokens)
    np.testing.assert_allclose(both.score[1:], alone.score, rtol=1e-5)


def test_tensors_come_back_byte_for_byte(found):
    one, loaded = found
    params = jax.tree.map(np.asarray, loaded.params)
    same(one.state, huggingface.tensors(params, LAYOUT))


def test_other_sizes_and_missing_parts_are_refused(tmp_path):
    one = peer("t5_v1_1")
    table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    for change, message in (
        (
            {"num_heads": 5, "d_kv": 3},
            r"relative_attention_bias.weight +\(8, 3\) +\(R, H\) = \(8, 5\)",
        ),
        ({"num_layers": 4}, r"encoder/stack/blocks/.*3 layers +\(4, "),
        ({"num_decoder_layers": 1}, r"decoder/stack/blocks/.*2 layers +\(1, "),
        (
            {"feed_forward_proj": "relu"},
            r"unknown +encoder\.block\.\{i\}\.layer\.1\.DenseReluDense\.wi_1",
        ),
    ):
        with pytest.raises(ImportMismatchError, match=message):
            load_model(stored(tmp_path, one.state, one.config | change))
    for name in (
        "shared.weight",
        "lm_head.weight",
        table,
        "decoder.block.1.layer.1.layer_norm.weight",
    ):
        rest = {key: tensor for key, tensor in one.state.items() if key != name}
        with pytest.raises(ImportMismatchError, match=f"missing +{name}"):
            load_model(stored(tmp_path, rest, one.config))
    for change, message in (
        ({"feed_forward_proj": "gated-tanh"}, "feed_forward_proj 'gated-tanh': expected one of"),
        ({"relative_attention_max_distance": 4}, "max_distance 4: .* at least 5"),
        ({"relative_attention_num_buckets": "8"}, "num_buckets '8': expected a whole number"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon 0: expected a number above 0"),
        ({"d_kv": -1}, "d_kv -1: expected a whole number of at least 1"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_model(stored(tmp_path, one.state, one.config | change))
    config = {key: value for key, value in one.config.items() if key != "d_ff"}
    with pytest.raises(WeightsError, match=r"config\.json has no d_ff"):
        load_model(stored(tmp_path, one.state, config))


def test_words_under_other_names_are_those_of_the_class(tmp_path):
    one = peer("t5")
    words = one.state["shared.weight"]
    state = one.state | {"decoder.embed_tokens.weight": words, "lm_head.weight": words}
    del state["shared.weight"]
    loaded = load_model(stored(tmp_path, state, one.config))
    np.testing.assert_array_equal(loaded.params["params"]["decoder"]["words"]["embedding"], words)
    assert "output" not in loaded.params["params"]["decoder"]


def test_a_text_needs_a_tokenizer(found):
    with pytest.raises(WeightsError, match=r"tokenizer\.json|pip install tokenizers"):
        found[1](["a text"])
    assert dataclasses.is_dataclass(found[1])


def test_gated_layers_with_any_activation_in_any_dtype(tmp_path):
    one = peer("t5_v1_1")
    folder = stored(tmp_path, one.state, one.config | {"feed_forward_proj": "gated-relu"})
    loaded = load_model(folder, dtype=jnp.bfloat16)
    mlp = loaded.model.decoder.stack.config.mlp
    assert (mlp.activation, mlp.gated) == ("relu", True)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {jnp.dtype("bfloat16")}
