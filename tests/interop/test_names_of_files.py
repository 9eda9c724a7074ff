"""Names as files have them: tied, shortened, ignored, in part, and with layers left out."""

import re

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.names import BLIP_TIED
from tests.support.drawing import drawn, under


def test_only_the_other_tensor_of_a_tied_pair_is_stored(tmp_path):
    for preset, pairs in (
        ("whisper_decoder", {"proj_out.weight": "model.decoder.embed_tokens.weight"}),
        ("blip_decoder", BLIP_TIED),
    ):
        tensors = drawn(preset)
        wanted = huggingface.load(tensors, preset)
        other = dict(tensors)
        for one, name in pairs.items():
            other[one] = other.pop(name)
        path = tmp_path / f"{preset}.safetensors"
        save_file(under("a.", other), path)
        params = huggingface.load(path, preset, prefix="a.")
        jax.tree.map(np.testing.assert_array_equal, params, wanted)
        # A part that has none of them does not miss them.
        del other[one]
        assert huggingface.load(other, preset, parts="stack")["params"].keys() == {"stack"}
        with pytest.raises(ImportMismatchError, match=f"missing +{name}"):
            huggingface.load(other, preset)


def test_a_model_without_its_head_is_read_as_well():
    """WhisperModel: names begin with "decoder.", there is no proj_out."""
    tensors = drawn("whisper_decoder")
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    wanted = huggingface.load(tensors, "whisper_decoder")
    encoder = {"encoder.conv1.weight": np.ones(3, np.float32)}
    params = huggingface.load(bare | encoder, "whisper_decoder")
    jax.tree.map(np.testing.assert_array_equal, params, wanted)
    with pytest.raises(ImportMismatchError, match=r"under the prefix 'speech\.'"):
        huggingface.load(under("speech.", bare), "whisper_decoder")
    bare["decoder.more"] = np.ones(2, np.float32)
    with pytest.raises(ImportMismatchError, match=r"unknown +decoder\.more"):
        huggingface.load(bare, "whisper_decoder")


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("t5", "EncDecAttention.relative_attention_bias.weight"),
        ("encoder_decoder_post", "attention.self.distance_embedding.weight"),
        ("encoder_decoder_post", "crossattention.self.distance_embedding.weight"),
        ("blip_decoder", "bert.embeddings.position_ids"),
        ("blip_decoder", "bert.embeddings.token_type_ids"),
        ("t5gemma", "self_attn.rotary_emb.inv_freq"),
    ],
)
def test_what_the_class_itself_ignores_is_ignored_and_said(preset, name):
    tensors = drawn(preset) | {name: np.ones((5, 3), np.float32)}
    assert huggingface.look(tensors, preset).ignored == (name,)
    wanted = huggingface.load(drawn(preset), preset)
    jax.tree.map(np.testing.assert_array_equal, huggingface.load(tensors, preset), wanted)
    for near in (f"{name}s", f"own.{name}"):
        if preset == "t5":
            with pytest.raises(ImportMismatchError, match=f"unknown +{near}"):
                huggingface.load(drawn(preset) | {near: tensors[name]}, preset)


def test_parts_that_there_are_not_are_named():
    tensors = drawn("whisper")
    for parts in (("cross_atention",), "cross", ("cross_attention", "words")):
        with pytest.raises(
            ValueError, match=r"whisper has no part .*: there are cross_attention, cross_residual"
        ):
            huggingface.load(tensors, "whisper", parts=parts)
    one = huggingface.load(tensors, "whisper", parts="cross_attention/key")
    assert one["params"]["cross_attention"].keys() == {"key"}
    numbered = huggingface.load(drawn("qformer", 2), "qformer", parts=["layer_1/mlp_residual"])
    assert numbered["params"].keys() == {"layer_1"}


def test_arrays_of_whole_numbers_are_no_weights():
    tensors = drawn("t5")
    name = "EncDecAttention.k.weight"
    for dtype in (np.int8, ml_dtypes.float8_e4m3fn, np.complex64):
        with pytest.raises(ImportMismatchError, match=f"dtype +{name} +{np.dtype(dtype)} +F64"):
            huggingface.load(tensors | {name: tensors[name].astype(dtype)}, "t5")


def test_a_layer_that_is_missing_among_others_is_missed():
    """Of a whole model, which numbers its layers itself; of one that does not, a prefix says it."""
    tensors = drawn("whisper_decoder")
    renamed = {name.replace("layers.1.", "layers.2."): tensor for name, tensor in tensors.items()}
    with pytest.raises(ImportMismatchError, match=r"missing +model\.decoder\.layers\.1\."):
        huggingface.load(renamed, "whisper_decoder")
    first = {name.replace("layers.0.", "layers.5."): tensor for name, tensor in tensors.items()}
    with pytest.raises(ImportMismatchError, match=r"missing +model\.decoder\.layers\.0\."):
        huggingface.load(first, "whisper_decoder")
    far = {name.replace("layers.1.", f"layers.{10**12}."): t for name, t in tensors.items()}
    with pytest.raises(ImportMismatchError, match=r"missing +model\.decoder\.layers\.1\."):
        huggingface.load(far, "whisper_decoder")
    chosen = huggingface.load(renamed, "whisper_decoder", layers=(0, 2))
    jax.tree.map(
        np.testing.assert_array_equal, chosen, huggingface.load(tensors, "whisper_decoder")
    )
    # Every second layer of a Q-Former reads.
    sparse = {n: t for n, t in drawn("qformer").items() if not re.search(r"r\.1\.cross", n)}
    more = {n.replace("r.1.", "r.2."): t for n, t in drawn("qformer").items() if "r.1." in n}
    assert "layer_2" in huggingface.load(sparse | more, "qformer")["params"]
