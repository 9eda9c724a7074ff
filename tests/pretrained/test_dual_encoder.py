"""CLIP and SigLIP by one call: what transformers made of the same weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.files import WeightsError
from crossattn.pretrained import load_model
from tests.support.pretrained import fixture, folder_of, write

PARTS = {
    "clip": {"clip_vision": "vision_model.", "clip_text": "text_model.", "clip": ""},
    "siglip": {"siglip_vision": "vision_model.", "siglip_text": "text_model.", "siglip": ""},
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("clip_first", "siglip")]


@pytest.mark.parametrize("name", ["clip", *SLOW])
def test_the_same_logits(name, tmp_path):
    folder, arrays = folder_of(name, tmp_path)
    model = load_model(folder)
    apply = jax.jit(model.module.apply, static_argnames="method")
    images, tokens = arrays["in/images"], arrays["in/tokens"]
    image = apply(model.params, images, method="image_features")
    text = apply(model.params, tokens, method="text_features")
    np.testing.assert_allclose(image, arrays["out/image"], atol=2e-6)
    np.testing.assert_allclose(text, arrays["out/text"], atol=2e-6)
    logits = apply(model.params, images, tokens)
    np.testing.assert_allclose(logits, arrays["out/logits"], atol=1e-5)
    assert np.ptp(arrays["out/logits"]) > 0.05


@pytest.mark.slow
def test_pictures_and_texts(tmp_path):
    """Texts are filled up, which changes nothing of them, and pictures are prepared."""
    folder, _ = folder_of("clip_first", tmp_path)
    model = load_model(folder)
    pictures = list(np.random.default_rng(0).integers(256, size=(2, 9, 12, 3), dtype=np.uint8))
    texts = ["w5 w7", "w9", "w5 w7"]
    tokens = model.tokens(texts)
    assert tokens[:, :5].tolist() == [[2, 5, 7, 3, 0], [2, 9, 3, 0, 0], [2, 5, 7, 3, 0]]
    assert tokens.shape == (3, 16)
    assert not tokens[:, 5:].any()
    logits = model.similarity(pictures, texts)
    assert logits.shape == (2, 3)
    np.testing.assert_array_equal(logits[:, 0], logits[:, 2])
    given = jnp.asarray(model.pixels(pictures)), jnp.asarray(tokens)
    whole = model.module.apply(model.params, *given)
    np.testing.assert_allclose(logits, whole, atol=1e-5)
    assert repr(model) == (
        "DualEncoder(3 x 3 patches of 4, 2 layers; texts of 16 tokens, 2 layers; 10 features)"
    )
    assert model.text_features([]).shape == (0, 10)
    assert model.similarity([], texts).shape == (0, 3)
    with pytest.raises(WeightsError, match=r"a text of 32 tokens, but .* positions for 16: short"):
        model.tokens(["w5 " * 30])


@pytest.mark.parametrize("name", PARTS)
def test_byte_for_byte(name):
    _, state, _ = fixture(name)
    back = {}
    for layout, prefix in PARTS[name].items():
        params = huggingface.load(state, layout, prefix=prefix)
        back |= huggingface.tensors(params, layout, prefix=prefix)
    assert back.keys() == state.keys()
    assert all(back[key].tobytes() == state[key].tobytes() for key in state)


def broken(name, tmp_path, change):
    _, state, config = fixture(name)
    change(state, config)
    return write(tmp_path / "broken", state, config)


def test_a_tensor_too_many(tmp_path):
    change = lambda state, config: state.update({"extra.weight": np.ones(2, "f4")})
    with pytest.raises(ImportMismatchError, match=r"unknown +extra\.weight") as error:
        load_model(broken("clip", tmp_path, change))
    title = str(error.value).splitlines()[0]
    assert title.startswith("1 tensor does not belong to the model of ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, c: s.pop("visual_projection.weight"), r"missing +visual_projection\.weight"),
        (lambda s, c: s.pop("vision_model.pre_layrnorm.bias"), r"missing +vision_model\.pre_layr"),
        (lambda s, c: c["vision_config"].update(num_hidden_layers=3), "2 layers|3"),
        (lambda s, c: c["vision_config"].update(image_size=18), r"misshaped|needed"),
        (lambda s, c: c["text_config"].update(intermediate_size=24), r"misshaped"),
        (lambda s, c: c.update(projection_dim=12), r"projection_dim|misshaped"),
    ],
)
def test_what_does_not_fit_is_a_table(change, message, tmp_path):
    with pytest.raises(ImportMismatchError, match=message):
        load_model(broken("clip", tmp_path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 5}, "has num_attention_heads 5: expected a divisor of hidden_siz"),
        ({"num_attention_heads": "3"}, "has num_attention_heads '3': expected a whole number"),
        ({"hidden_act": "mish"}, "has hidden_act 'mish': expected one of gelu,"),
        ({"layer_norm_eps": 0}, "has layer_norm_eps 0: expected a number above 0"),
        ({"image_size": 2}, "has image_size 2: expected pixels, at least one patch of 4"),
        ({"num_channels": 1}, "has num_channels 1: expected 3"),
    ],
)
def test_settings_that_cannot_be(change, message, tmp_path):
    """In one line."""
    folder = broken("clip", tmp_path, lambda s, c: c["vision_config"].update(change))
    with pytest.raises(WeightsError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_pictures_of_another_size(tmp_path):
    model = load_model(folder_of("siglip", tmp_path)[0])
    given = model.params, jnp.ones((1, 16, 14, 3))
    with pytest.raises(ValueError, match=r"pictures of 16 x 14 pixels, .* 3 x 3 patches of 4: res"):
        jax.eval_shape(lambda: model.module.apply(*given, method="image_features"))


def test_a_section_that_is_none(tmp_path):
    folder = broken("clip", tmp_path, lambda s, c: c.update(text_config=[3]))
    with pytest.raises(WeightsError, match=r"config\.json has a text_config that is no object"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("clip", "text_config"),
        ("clip", "vision_config"),
        ("blip_caption", "text_config"),
        ("blip_caption", "vision_config"),
        ("blip_vqa", "text_config"),
        ("blip_vqa", "vision_config"),
        ("siglip", "text_config"),
        ("siglip", "vision_config"),
        pytest.param("blip2", "qformer_config", marks=pytest.mark.slow),
    ],
)
def test_a_section_that_is_not_there(name, section, tmp_path):
    """Its class takes sizes of its own then, which is said instead of a long table."""
    with pytest.raises(WeightsError, match=rf"config\.json has no {section}, .*: copy") as error:
        load_model(broken(name, tmp_path, lambda state, config: config.pop(section)))
    assert "\n" not in str(error.value)


def test_texts_of_siglip_are_as_wide_as_pictures(tmp_path):
    narrow = lambda state, config: config["text_config"].update(projection_size=8)
    with pytest.raises(WeightsError, match="projection_size 8: expected that of the pictures, 12"):
        load_model(broken("siglip", tmp_path, narrow))


def test_texts_of_siglip(tmp_path):
    """Its tokenizer drops punctuation, and has a padding of its own."""
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    folder, _ = folder_of("siglip", tmp_path)
    own = {"tokenizer_class": "SiglipTokenizer", "pad_token": {"content": "w8"}}
    for settings, first, fill in (({}, [2, 5, 1, 7, 3], 1), (own, [2, 5, 7, 3, 8], 8)):
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        tokens = load_model(folder).tokens(["W5, w7"])
        assert tokens[0, :5].tolist() == first
        assert (tokens[0, 5:] == fill).all()
