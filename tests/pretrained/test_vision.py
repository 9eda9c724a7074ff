"""Towers alone by one call, and those of whole models."""

import numpy as np
import pytest

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.files import WeightsError
from crossattn.pretrained import load_model
from tests.support.pretrained import fixture, folder_of, write

PICTURES = list(np.random.default_rng(0).integers(256, size=(2, 9, 12, 3), dtype=np.uint8))


def test_vit(tmp_path, monkeypatch):
    folder, arrays = folder_of("vit", tmp_path)
    model = load_model(folder)
    monkeypatch.setattr(model, "pixels", lambda pictures: arrays["in/images"])
    patches = model.patches(PICTURES)
    assert patches.shape == (3, 3, 3, 12)
    wanted = arrays["out/tokens"][:, 1:].reshape(patches.shape)
    np.testing.assert_allclose(patches, wanted, atol=1e-5)
    assert repr(model) == "PictureEncoder(3 x 3 patches of 4, 2 layers, 12 features)"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_tower_without_its_texts(name, tmp_path):
    _, state, config = fixture(name)
    whole = load_model(write(tmp_path / "whole", state, config))
    own = {key: value for key, value in state.items() if key.startswith("vision_model.")}
    alone = load_model(write(tmp_path / "alone", own, config["vision_config"]))
    np.testing.assert_array_equal(alone.patches(PICTURES), whole.tower.patches(PICTURES))
    bare = {key.removeprefix("vision_model."): value for key, value in own.items()}
    bare = load_model(write(tmp_path / "bare", bare, config["vision_config"]))
    pooled = bare.pooled(PICTURES)
    if name == "siglip":  # pictures are not projected
        unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, whole.image_features(PICTURES), atol=1e-6)
    else:
        np.testing.assert_array_equal(pooled, alone.pooled(PICTURES))


def test_clips_tower_with_its_projection(tmp_path, monkeypatch):
    """Its vectors are those of the whole model; no pictures are no vectors."""
    arrays, state, config = fixture("clip")
    own = {key: value for key, value in state.items() if key.startswith("vis")}
    sizes = {**config["vision_config"], "projection_dim": 10}
    folder = write(tmp_path / "projected", own, sizes)
    model = load_model(folder)
    assert model.projected([]).shape == (0, 10)
    assert model.patches([]).shape == (0, 3, 3, 12)
    monkeypatch.setattr(model, "pixels", lambda pictures: arrays["in/images"])
    found = model.projected(PICTURES)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, arrays["out/image"], atol=1e-6)
    layout, name = "clip_vision_projection", "visual_projection.weight"
    back = huggingface.tensors(huggingface.load(own, layout), layout)
    assert list(back) == [name]
    assert back[name].tobytes() == own[name].tobytes()
    whole = load_model(write(tmp_path / "whole", state, config)).tower
    np.testing.assert_array_equal(whole.projection, model.projection)
    with pytest.raises(ImportMismatchError, match=r"misshaped +visual_projection\.weight"):
        load_model(write(tmp_path / "wide", own, {**sizes, "projection_dim": 12}))
    with pytest.raises(WeightsError, match="vit has no visual_projection: CLIPModel, "):
        load_model(folder_of("vit", tmp_path)[0]).projected(PICTURES)


@pytest.mark.slow
def test_a_classifier_of_pictures_is_its_tower(tmp_path):
    _, state, config = fixture("vit")
    state = {key: value for key, value in state.items() if not key.startswith("pooler.")}
    whole = {f"vit.{key}": value for key, value in state.items()}
    whole["classifier.weight"] = np.ones((5, 12), np.float32)
    one, other = (
        load_model(write(tmp_path / name, tensors, config))
        for name, tensors in (("bare", state), ("whole", whole))
    )
    np.testing.assert_array_equal(one.patches(PICTURES), other.patches(PICTURES))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s, c: c.update(qkv_bias=False), WeightsError, "has qkv_bias False: expected true"),
        (lambda s, c: s.pop("layernorm.bias"), ImportMismatchError, r"missing +layernorm\.bias"),
    ],
)
def test_refused(change, error, message, tmp_path):
    _, state, config = fixture("vit")
    change(state, config)
    with pytest.raises(error, match=message):
        load_model(write(tmp_path / "broken", state, config))
