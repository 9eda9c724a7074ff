"""Pictures as models want them: equal to the slow processors of transformers."""

import json

import numpy as np
import pytest

from crossattn.interop.files import WeightsError
from crossattn.pretrained import Checkpoint
from crossattn.pretrained.image_processor import ImageProcessor
from tests.support.pretrained import fixture

NAMES = ("clip", "clip_small", "siglip", "blip", "vit")
FIT = {"size": {"height": 4, "width": 4}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def processor(tmp_path, settings, name="preprocessor_config.json"):
    (tmp_path / name).write_text(json.dumps(settings))
    return ImageProcessor.of(Checkpoint(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_pixels(name, tmp_path):
    arrays, _, _ = fixture("processors")
    settings = json.loads(str(arrays[f"{name}/settings"]))
    pixels = processor(tmp_path, settings)(arrays["image"])
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, arrays[f"{name}/pixels"], atol=1e-6)
    # The settings of a whole processor, as newer versions store them.
    for path in tmp_path.iterdir():
        path.unlink()
    again = processor(tmp_path, {"image_processor": settings}, "processor_config.json")
    np.testing.assert_array_equal(again(arrays["image"]), pixels)


def test_a_number_is_the_shorter_side_of_clip_alone(tmp_path):
    image = np.zeros((8, 12, 3), np.uint8)
    clip = processor(tmp_path, FIT | {"size": 4, "feature_extractor_type": "CLIPFeatureExtractor"})
    assert clip(image).shape == (4, 6, 3)
    vit = processor(tmp_path, FIT | {"size": 4, "feature_extractor_type": "ViTFeatureExtractor"})
    assert vit(image).shape == (4, 4, 3)
    assert (clip.resample, vit.resample) == (3, 2)


def test_what_is_shown_is_what_is_seen():
    image = np.arange(20 * 1000 * 3).reshape(20, 1000, 3).astype(np.uint8)
    assert ImageProcessor(size=(4, 4)).shown(image).shape == (15, 768, 3)
    assert ImageProcessor(size=(4, 4)).shown(image[:, :50]).shape == (20, 50, 3)
    assert ImageProcessor(shortest=8, crop=(8, 8)).shown(image).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "has no preprocessor_config.json"),
        ({"size": {"longest_edge": 4}}, r"not understood: size .* a height and a width"),
        (FIT | {"do_pad": True}, "not understood: do_pad is true"),
        ({"image_mean": [0.5] * 3}, "is not understood: 'size'"),
        (FIT | {"image_mean": 3}, "is not understood"),
        (FIT | {"resample": "x"}, "is not understood"),
        (FIT | {"resample": 99}, "is not understood: 99 is not a valid Resampling"),
        (FIT | {"size": {"height": 0, "width": 4}}, "a side of 0 pixels: expected 1 to 10000"),
        (FIT | {"size": {"shortest_edge": "4"}}, "a side of '4' pixels: expected 1 to 10000"),
        (FIT | {"image_std": [0.5, 0.5, 0]}, "are 3 numbers each, these above 0"),
        (FIT | {"image_mean": [0.5]}, "is not understood"),
    ],
)
def test_refused(settings, message, tmp_path):
    with pytest.raises(WeightsError, match=message) as error:
        processor(tmp_path, settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("image", [np.ones((4, 4, 3)), np.ones((4, 4), np.uint8)])
def test_what_is_no_picture(image, unchecked):
    with pytest.raises(ValueError, match=r"a picture is \(h, w, 3\), uint8, got"):
        ImageProcessor(size=(2, 2))(image)


def test_a_line_is_too_thin():
    with pytest.raises(ValueError, match="1 x 99 pixels is too thin: it would become 224 x 22176"):
        ImageProcessor(shortest=224, crop=(224, 224)).fitted(np.zeros((1, 99, 3), np.uint8))
