"""Tensors under their names become parameters and come back byte for byte; nothing half fits."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.names import CLASSES, LAYOUTS
from crossattn.interop.table import Entry
from crossattn.nn import CrossAttention, presets
from crossattn.nn.config import ExtraKeys
from tests.support.drawing import drawn, same, under

# How many heads there are is not in the tensors of null_key.
EVERY = [(name, k) for name in LAYOUTS if name != "null_key" for k in range(len(LAYOUTS[name]))]


def test_every_layout_says_whose_it_is():
    assert CLASSES.keys() == LAYOUTS.keys() == set(huggingface.importable())


@pytest.mark.parametrize(("name", "k"), EVERY)
def test_round_trip(name, k, tmp_path):
    tensors = drawn(name, k)
    params = huggingface.load(tensors, name)
    path = tmp_path / "model.safetensors"
    huggingface.save(params, name, path)
    same(tensors, load_file(path))
    again = huggingface.load(path, name, like=params)
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        assert one.tobytes() == other.tobytes()
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_what_is_imported_is_what_the_module_has():
    """Names, shapes and layouts are those of `init`; the numbers stand where they should."""
    block = presets.build("mllama", width=12, heads=2)
    like = jax.eval_shape(block.init, jax.random.key(0), jnp.ones((1, 2, 12)), jnp.ones((1, 3, 5)))
    ours = jax.tree.map(lambda p: np.random.default_rng(1).normal(0, 1, p.shape), like)
    tensors = huggingface.tensors(ours, "mllama")
    key = ours["params"]["cross_attention"]["key"]["kernel"]
    assert tensors["cross_attn.k_proj.weight"].shape == (12, 5)
    np.testing.assert_array_equal(tensors["cross_attn.k_proj.weight"], key.T)
    again = huggingface.load(tensors, "mllama", like=like)
    assert jax.tree.map(np.shape, again) == jax.tree.map(lambda p: p.shape, like)


def test_layers_are_stacked_in_the_order_of_their_numbers(tmp_path):
    """Of layers 3, 8 and 13 that read images; the others read text only and are not ours."""
    one, prefix = drawn("mllama"), "language_model.model.layers.{i}."
    tensors = {"language_model.lm_head.weight": np.ones((3, 4), np.float32)}
    for layer in (13, 3, 8, 4):
        own = {name: (tensor + layer).astype(tensor.dtype) for name, tensor in one.items()}
        own = {n.replace("cross_attn", "self_attn") if layer == 4 else n: t for n, t in own.items()}
        tensors |= under(prefix.replace("{i}", str(layer)), own)
    params = huggingface.load(tensors, "mllama", prefix=prefix)
    gates = params["params"]["cross_residual"]["gate"][:, 0]
    expected = [
        tensors[f"{prefix.replace('{i}', str(i))}cross_attn_attn_gate"][0] for i in (3, 8, 13)
    ]
    np.testing.assert_array_equal(gates, expected)
    back = huggingface.tensors(params, "mllama", prefix=prefix, layers=(3, 8, 13))
    same(back, {name: tensors[name] for name in back})
    assert len(back) == 3 * len(one)
    chosen = huggingface.load(tensors, "mllama", prefix=prefix, layers=(8,))
    np.testing.assert_array_equal(chosen["params"]["cross_residual"]["gate"][:, 0], expected[1:2])
    with pytest.raises(
        ImportMismatchError, match=r"missing +language_model.model.layers.4.cross_att"
    ):
        huggingface.load(tensors, "mllama", prefix=prefix, layers=(3, 4))


def test_a_part(tmp_path):
    tensors = drawn("whisper")
    del tensors["fc1.weight"]
    parts = ("cross_attention", "cross_residual")
    params = huggingface.load(tensors, "whisper", parts=parts)
    assert params["params"].keys() == set(parts)
    back = huggingface.tensors(params, "whisper", parts=parts)
    same(back, {name: t for name, t in tensors.items() if name.startswith("encoder_attn")})


def test_what_does_not_fit_is_a_table():
    tensors = drawn("blip_decoder")
    name = "bert.encoder.layer.1.crossattention.self.key.weight"
    tensors[name] = tensors[name][:-1]
    del tensors["cls.predictions.bias"]
    tensors["bert.pooler.dense.weight"] = np.ones((3, 2), np.float32)
    tensors["vision_model.post_layernorm.weight"] = np.ones(3, np.float32)
    tensors["bert.embeddings.position_ids"] = np.ones((1, 5), np.int64)
    with pytest.raises(ImportMismatchError) as error:
        huggingface.load(tensors, "blip_decoder")
    assert [(line.problem, line.name) for line in error.value.lines] == [
        ("unknown", "bert.pooler.dense.weight"),
        ("missing", "cls.predictions.bias"),
        ("misshaped", name),
    ]
    title, header, *rows = str(error.value).splitlines()
    assert title == "3 tensors do not fit blip_decoder"
    assert header.split() == ["problem", "tensor", "found", "needed"]
    shape = drawn("blip_decoder")[name].shape
    assert f"({shape[0] - 1}, {shape[1]})" in rows[2]
    assert f"(K.cross, N) = {shape}" in rows[2]


def test_nothing_is_read_when_something_does_not_fit(monkeypatch):
    read = []
    monkeypatch.setattr(Entry, "read", lambda self, *_: read.append(self.theirs) or {})
    tensors = drawn("t5")
    huggingface.load(tensors, "t5")
    assert len(read) == 5
    del tensors["layer_norm.weight"]
    with pytest.raises(ImportMismatchError, match=r"missing +layer_norm.weight"):
        huggingface.load(tensors, "t5")
    assert len(read) == 5


def test_tied_tensors_may_be_there_twice_but_are_the_same():
    tensors = drawn("whisper_decoder")
    one, other = "proj_out.weight", "model.decoder.embed_tokens.weight"
    params = huggingface.load(tensors | {one: tensors[other]}, "whisper_decoder")
    same(huggingface.tensors(params, "whisper_decoder"), tensors)
    with pytest.raises(ImportMismatchError, match=f"untied +{one} +- +the same as {other}"):
        huggingface.load(tensors | {one: tensors[other] + 1}, "whisper_decoder")


def test_a_hint_where_the_tensors_are():
    with pytest.raises(ImportMismatchError, match=r"under the prefix 'text_decoder\.'"):
        huggingface.load(under("text_decoder.", drawn("blip_decoder")), "blip_decoder")
    with pytest.raises(ImportMismatchError, match=r"'model\.layers\.3\.', 'model\.layers\.{i}\.'"):
        huggingface.load(under("model.layers.3.", drawn("mllama")), "mllama")


def test_sizes_of_our_module_are_met():
    tensors = drawn("t5")
    params = huggingface.load(tensors, "t5")
    like = jax.tree.map(lambda leaf: np.empty((leaf.shape[0] + 1, *leaf.shape[1:])), params)
    with pytest.raises(ImportMismatchError, match="5 tensors do not fit"):
        huggingface.load(tensors, "t5", like=like)
    params["params"]["mlp_residual"] = {"norm": {"scale": np.ones(3)}}
    with pytest.raises(ImportMismatchError, match=r"missing +mlp_residual/norm/scale +- +\(3\)"):
        huggingface.load(tensors, "t5", like=params)


def test_heads_that_only_our_module_knows():
    module = CrossAttention(width=6, heads=2, extra_keys=ExtraKeys(bias_kv=True, zero_attn=True))
    like = jax.eval_shape(module.init, jax.random.key(0), jnp.ones((1, 2, 6)), jnp.ones((1, 2, 5)))
    like = {"params": {"cross_attention": like["params"]}}
    params = jax.tree.map(lambda p: np.random.default_rng(1).normal(0, 1, p.shape), like)
    tensors = huggingface.tensors(params, "null_key")
    assert tensors["bias_k"].shape == (1, 1, 6)
    again = huggingface.load(tensors, "null_key", like=like)
    assert jax.tree.map(np.array_equal, params, again) == jax.tree.map(lambda _: True, params)
    with pytest.raises(ValueError, match="bias_k: give `like`"):
        huggingface.load(tensors, "null_key")


def test_export_refuses_what_has_no_place():
    params = huggingface.load(drawn("cappa"), "cappa")
    params["params"]["self_residual"]["norm"]["bias"][0] = 1
    with pytest.raises(ImportMismatchError, match=r"self_residual/norm/bias +not 0"):
        huggingface.tensors(params, "cappa")
    params = huggingface.load(drawn("t5"), "t5")
    del params["params"]["cross_attention"]["key"]
    params["params"]["extra"] = np.ones(3)
    with pytest.raises(
        ImportMismatchError, match=r"(?s)unknown +extra.*missing +cross_att.*/key/k"
    ):
        huggingface.tensors(params, "t5")
    params = huggingface.load(drawn("meter"), "meter")
    leaf = params["params"]["x"]["cross_residual"]["norm"]
    leaf["scale"] = leaf["scale"][:1]
    with pytest.raises(ImportMismatchError, match=r"x/cross_residual/norm/scale .*2 layers"):
        huggingface.tensors(params, "meter")


def test_files(tmp_path):
    tensors = drawn("resampler")
    halves = dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2])
    index = {}
    for k, half in enumerate(halves):
        save_file(half, tmp_path / f"part-{k}.safetensors")
        index |= dict.fromkeys(half, f"part-{k}.safetensors")
    expected = huggingface.load(tensors, "resampler")
    for _ in range(2):  # without an index, and with one
        params = huggingface.load(tmp_path, "resampler")
        assert jax.tree.map(np.array_equal, params, expected) == jax.tree.map(
            lambda _: True, params
        )
        content = json.dumps({"weight_map": index})
        (tmp_path / "model.safetensors.index.json").write_text(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no safetensors file"),
        ({"a.safetensors": b"no"}, "a.safetensors cannot be read"),
        ({"model.safetensors.index.json": b"{"}, "index.json is damaged"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "b.safetensors"}}'},
            "is not there",
        ),
    ],
)
def test_files_that_are_none(tmp_path, content, said):
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(huggingface.WeightsError, match=said):
        huggingface.load(tmp_path, "t5")


def test_other_errors(tmp_path):
    with pytest.raises(huggingface.WeightsError, match="no file or folder"):
        huggingface.load(tmp_path / "nowhere", "t5")
    with pytest.raises(ValueError, match="unknown preset 'nobody': one of 'encoder_decoder_pre'"):
        huggingface.load({}, "nobody")
    with pytest.raises(ValueError, match="this layout has its own"):
        huggingface.load({}, "resampler", prefix="layers.{i}.")
    twice = drawn("t5")
    for name in "ab":
        save_file(twice, tmp_path / f"{name}.safetensors")
    with pytest.raises(huggingface.WeightsError, match=r"has EncDec.*, as has a.safetensors"):
        huggingface.load(tmp_path, "t5")


def test_a_square_kernel_is_not_mistaken_for_its_transpose():
    with pytest.raises(ValueError, match="letters of their own"):
        Entry("weight", ("kernel",), "M M", "M M")
    for name, several in LAYOUTS.items():
        for layout in several:
            for entry in layout.entries:
                if re.search("/kernel$", entry.ours[0]):
                    assert entry.becomes is not None, name
                    # Of a convolution (out, in, y, x) the axes of its window go first.
                    assert entry.target == entry.part[2:] + entry.part[1::-1], name
