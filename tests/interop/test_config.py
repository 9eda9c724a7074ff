"""A config.json beside tensors: what it says of them, and of the module, is compared."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.config import Config
from crossattn.interop.huggingface import Files, WeightsError
from crossattn.nn import Block, CrossAttention, presets
from experiments import import_weights
from tests.support.fixtures import decoder, read


def written(folder, tensors, config):
    save_file(dict(tensors), folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def whisper(settings, **change):
    """The class's own words, with those of its encoder, which are others."""
    config = {
        "decoder_attention_heads": settings["heads"],
        "decoder_layers": settings["layers"],
        "decoder_ffn_dim": settings["hidden"],
        "d_model": settings["width"],
        "vocab_size": settings["vocabulary"],
        "max_target_positions": settings["places"],
        "activation_function": "gelu",
        "num_hidden_layers": 99,
    }
    config |= {"encoder_attention_heads": 97, "encoder_layers": 98, "model_type": "whisper"}
    return config | change


WHISPER_WORDS = ("decoder_attention_heads", "decoder_layers", "d_model")


def blip(settings, **change):
    text = {
        "num_attention_heads": settings["heads"],
        "num_hidden_layers": settings["layers"],
        "intermediate_size": settings["hidden"],
        "hidden_size": settings["width"],
        "vocab_size": settings["vocabulary"],
        "max_position_embeddings": settings["places"],
        "layer_norm_eps": settings["epsilon"],
        "hidden_act": "gelu",
    }
    return {"text_config": text | change, "vision_config": {"num_attention_heads": 97}}


@pytest.fixture(scope="module", params=["whisper_decoder", "blip_decoder"])
def peer(request):
    return read(request.param)


def config_of(peer, **change):
    return {"whisper_decoder": whisper, "blip_decoder": blip}[peer.name](peer.settings, **change)


def built(peer):
    preset = {"whisper_decoder": "whisper", "blip_decoder": "encoder_decoder_post"}[peer.name]
    return decoder(preset, peer.settings)


def same(peer, params):
    wanted = huggingface.load(peer.state, peer.name)
    jax.tree.map(np.testing.assert_array_equal, params, wanted)


def test_a_module_of_other_heads_is_refused_with_both_numbers(peer, tmp_path):
    folder, module = written(tmp_path, peer.state, config_of(peer)), built(peer)
    same(peer, huggingface.load(folder, peer.name))
    same(peer, huggingface.load(folder, peer.name, module=module))
    heads = peer.settings["heads"]
    other = module.clone(stack=module.stack.clone(heads=2 * heads))
    key = "decoder_attention_heads" if "whisper" in peer.name else "num_attention_heads"
    said = rf"module +heads +{2 * heads} +{heads}, as config.json has {key}"
    with pytest.raises(ImportMismatchError, match=said):
        huggingface.load(folder, peer.name, module=other)
    with pytest.raises(ImportMismatchError, match=said):
        huggingface.load(folder / "model.safetensors", peer.name, module=other)


def test_other_fields_of_a_module_are_compared(peer, tmp_path):
    folder, module = written(tmp_path, peer.state, config_of(peer)), built(peer)
    stack, width = module.stack, peer.settings["width"]
    relu = replace(stack.config, mlp=replace(stack.config.mlp, activation="relu"))
    wrong = {
        f"layers +{stack.layers + 1} +{stack.layers}": stack.clone(layers=stack.layers + 1),
        f"width +{2 * width} +{width}": stack.clone(width=2 * width),
        "mlp.activation +relu +gelu": stack.clone(config=relu),
    }
    modules = {said: module.clone(stack=one) for said, one in wrong.items()}
    modules["vocab_size +7 "] = module.clone(vocab_size=7)
    modules["length +5 "] = module.clone(length=5)
    if peer.name == "blip_decoder":
        modules["epsilon +0.5 +1e-12"] = module.clone(epsilon=0.5)
        design = replace(stack.config, residual=replace(stack.config.residual, epsilon=1e-3))
        modules["residual.epsilon +0.001 +1e-12"] = module.clone(stack=stack.clone(config=design))
    for said, one in modules.items():
        with pytest.raises(ImportMismatchError, match=f"module +(config.)?{said}"):
            huggingface.load(folder, peer.name, module=one)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"HEADS": 5}, r"HEADS +5 +a divisor of \d+"),
        ({"HEADS": "4"}, "HEADS +'4' +a whole number"),
        ({"HEADS": 4.0}, r"HEADS +4\.0 +a whole number"),
        ({"HEADS": True}, "HEADS +True +a whole number"),
        ({"HEADS": 0}, "HEADS +0 +a whole number"),
        ({"HEADS": -4}, "HEADS +-4 +a whole number"),
        ({"vocab_size": 12}, r"vocab_size +12 +\d+, as the tensors have it"),
        ({"LAYERS": 3}, r"LAYERS +3 +2, as the tensors have it"),
        ({"ACTIVATION": "laplace"}, "ACTIVATION +'laplace' +one of gelu, gelu_new"),
        ({"layer_norm_eps": "1e-5"}, "layer_norm_eps +'1e-5' +a number above 0"),
        ({"layer_norm_eps": 0}, "layer_norm_eps +0 +a number above 0"),
        ({"head_dim": 999}, r"head_dim +999 +\d+: the tensors have"),
        ({"num_key_value_heads": 1}, r"num_key_value_heads +1 +\d+: the tensors have"),
        ({"WIDTH": 7}, r"WIDTH +7 +\d+, as the tensors have it"),
    ],
)
def test_a_config_of_something_else_is_refused(peer, change, said, tmp_path):
    words = {
        "whisper_decoder": (*WHISPER_WORDS, "activation_function"),
        "blip_decoder": ("num_attention_heads", "num_hidden_layers", "hidden_size", "hidden_act"),
    }[peer.name]
    for word, key in zip(("HEADS", "LAYERS", "WIDTH", "ACTIVATION"), words, strict=True):
        change = {key if name == word else name: value for name, value in change.items()}
        said = said.replace(word, key)
    folder = written(tmp_path, peer.state, config_of(peer, **change))
    with pytest.raises(ImportMismatchError, match=f"config +{said}") as error:
        huggingface.load(folder, peer.name)
    assert str(error.value).startswith("1 setting does not fit")
    assert str(error.value).endswith("dict(Files(...))")
    same(peer, huggingface.load(dict(Files(folder)), peer.name))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Expecting value"),
        (b"{", "is damaged"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b"\xff\xfe", "is damaged"),
        (b'{"a":' + b"[" * 200_000, "nested too deeply"),
    ],
)
def test_a_damaged_config_is_said_in_one_line(content, said, tmp_path):
    tensors = {"layer_norm.weight": np.ones(4, np.float32)}
    (written(tmp_path, tensors, None) / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=said) as error:
        huggingface.load(tmp_path, "t5")
    assert "\n" not in str(error.value)


def test_a_module_is_compared_with_tensors_where_there_is_no_config():
    peer = read("mllama")
    sizes = peer.settings["width"], peer.settings["heads"]
    module = Block(*sizes, presets.config("mllama"))
    huggingface.load(peer.state, "mllama", module=module)
    with pytest.raises(ImportMismatchError, match=r"module +width +24 +\d+, as the tensors"):
        huggingface.load(peer.state, "mllama", module=module.clone(width=24))


def test_shared_keys_are_compared(tmp_path):
    peer = read("mllama")
    heads, shared = peer.settings["heads"], peer.settings["key_value_heads"]
    config = {"num_attention_heads": heads, "num_key_value_heads": shared, "rms_norm_eps": 1e-5}
    folder = written(tmp_path, peer.state, {"text_config": config})
    design = presets.config("mllama")
    fitting = replace(
        design, cross_attention=replace(design.cross_attention, key_value_heads=shared)
    )
    module = Block(peer.settings["width"], heads, fitting)
    huggingface.load(folder, "mllama", module=module)
    part = CrossAttention(module.width, heads, key_value_heads=shared)
    huggingface.load(folder, "mllama", parts="cross_attention", module=part)
    for other in (module.clone(config=design), part.clone(key_value_heads=None)):
        with pytest.raises(ImportMismatchError, match=f"key_value_heads +{heads} +{shared}"):
            huggingface.load(folder, "mllama", module=other)
    config["num_attention_heads"] = heads // 2
    (folder / "config.json").write_text(json.dumps({"text_config": config}))
    with pytest.raises(ImportMismatchError, match=f"heads +{heads // 2} +{heads}, as the tensors"):
        huggingface.load(folder, "mllama")


def test_relative_positions_are_not_ignored_where_the_config_has_them(tmp_path):
    peer = read("blip_decoder")
    name = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    tensors = dict(peer.state) | {name: np.ones((3, 4), np.float32)}
    same(peer, huggingface.load(written(tmp_path, tensors, config_of(peer)), peer.name))
    config = config_of(peer, position_embedding_type="relative_key")
    with pytest.raises(ImportMismatchError, match=r"position_embedding_type +relative"):
        huggingface.load(written(tmp_path, tensors, config), peer.name)


@pytest.mark.parametrize(
    ("preset", "content", "found"),
    [
        ("t5", {"num_heads": 8, "d_kv": 64, "num_layers": 6}, 8),
        (
            "t5gemma",
            {"encoder": {"num_attention_heads": 4}, "decoder": {"num_attention_heads": 8}},
            8,
        ),
        ("qformer", {"num_attention_heads": 1, "qformer_config": {"num_attention_heads": 12}}, 12),
        (
            "resampler",
            {"num_attention_heads": 32, "perceiver_config": {"resampler_n_heads": 16}},
            16,
        ),
        ("perceiver_encode", {"num_self_attention_heads": 4, "num_cross_attention_heads": 8}, 8),
        ("sam_two_way", {"mask_decoder_config": {"num_attention_heads": 8}}, 8),
        ("map_head", {"vision_config": {"num_attention_heads": 12}, "text_config": {}}, 12),
        ("latent_projector", {"text_config": {"attention_heads": 32}}, 32),
        ("axial_rope", {"memory_attention_num_attention_heads": 1}, 1),
        ("prefix_lm", {"n_head": 3}, 3),
        ("whisper", {}, None),
        ("whisper", {"decoder": [], "text_config": 3}, None),
    ],
)
def test_heads_are_found_in_the_words_of_each_class(preset, content, found):
    assert Config(content, preset).heads == found


def test_the_side_of_the_prefix_is_read():
    content = {"encoder_attention_heads": 3, "decoder_attention_heads": 5}
    assert Config(content, "whisper", "model.encoder.layers.{i}.").heads == 3
    assert Config(content, "whisper", "model.decoder.layers.{i}.").heads == 5


def test_the_command_says_how_many_heads_and_prints_them(peer, tmp_path, capsys):
    folder = written(tmp_path, peer.state, config_of(peer))
    import_weights.main([str(folder), "--preset", peer.name])
    said = capsys.readouterr().out
    heads = peer.settings["heads"]
    assert f"\nheads: {heads}, as " in said
    assert f", {heads}, " in next(line for line in said.splitlines() if "module = " in line)
    found = {}
    lines = [
        line for line in said.splitlines() if line.startswith(("from ", "design =", "module ="))
    ]
    exec("\n".join(lines), found)
    assert said.splitlines()[-1].endswith(", module=module)")
    exec(said.splitlines()[-1], found)
    same(peer, found["params"])
    (folder / "config.json").unlink()
    import_weights.main([str(folder), "--preset", peer.name])
    assert "heads could not be checked: there is no config.json in" in capsys.readouterr().out
    written(folder, peer.state, config_of(peer, vocab_size=3))
    with pytest.raises(SystemExit) as end:
        import_weights.main([str(folder), "--preset", peer.name])
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "config   vocab_size  3 " in said
    assert "0 misshaped, 1 config; " in said


def test_the_printed_module_has_what_only_the_config_tells(tmp_path, capsys):
    peer = read("encoder_decoder_post")
    text = {"num_attention_heads": peer.settings["heads"], "layer_norm_eps": 1e-5}
    config = {"text_config": text | {"hidden_act": "relu"}}
    folder = written(tmp_path, peer.state, config)
    import_weights.main([str(folder), "--preset", "encoder_decoder_post"])
    said, found = capsys.readouterr().out, {}
    lines = [
        line for line in said.splitlines() if line.startswith(("from ", "design =", "module ="))
    ]
    exec("\n".join(lines), found)
    module = found["module"]
    assert module.heads == peer.settings["heads"]
    assert module.config.residual.epsilon == 1e-5
    assert module.config.mlp.activation == "relu"
    huggingface.load(folder, "encoder_decoder_post", module=module)
    other = Block(module.width, module.heads, presets.config("encoder_decoder_post"))
    with pytest.raises(ImportMismatchError, match="2 settings do not fit"):
        huggingface.load(folder, "encoder_decoder_post", module=other)


def test_norms_of_queries_and_keys_have_the_epsilon_of_the_config(tmp_path, capsys):
    peer, found = read("mllama"), {}
    config = {"num_attention_heads": peer.settings["heads"], "rms_norm_eps": 1e-3}
    folder = written(tmp_path, peer.state, config)
    import_weights.main([str(folder), "--preset", "mllama"])
    lines = capsys.readouterr().out.splitlines()
    code = [line for line in lines if line.startswith(("from ", "design =", "module ="))]
    exec("\n".join(code), found)
    module = found["module"]
    assert module.config.cross_attention.logits.epsilon == 1e-3
    huggingface.load(folder, "mllama", module=module)
    attention = module.config.cross_attention
    attention = replace(attention, logits=replace(attention.logits, epsilon=1e-5))
    other = module.clone(config=replace(module.config, cross_attention=attention))
    with pytest.raises(ImportMismatchError, match=r"logits\.epsilon +1e-05 +0\.001"):
        huggingface.load(folder, "mllama", module=other)
