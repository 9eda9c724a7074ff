"""Features of a frozen encoder in place of images; a third modality."""

import jax
import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.nn import PatchEncoder
from crossattn.train import features
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import batches_of, load_dataset

WIDTH = 5


@pytest.fixture(scope="module")
def encoded():
    """An encoder, its parameters, and 200 images."""
    encoder = PatchEncoder(WIDTH)
    images = scenes.examples("iid", 200, seed=0).images
    made, variables = jax.jit(encoder.init_with_output)(jax.random.key(0), images)
    return encoder, variables["params"], images, np.asarray(made)


def test_files_hold_what_the_encoder_makes_of_each_image(encoded, tmp_path):
    encoder, params, images, made = encoded
    features.write_features(encoder, params, images, tmp_path / "deep" / "iid.npy")
    found = np.load(tmp_path / "deep" / "iid.npy")
    np.testing.assert_allclose(found, made, atol=1e-6)


def test_a_run_reads_them_instead_of_its_images(tmp_path):
    run = Run(
        data=Data(images=100, evaluation_images=100, features=str(tmp_path)),
        model=Model(image_encoder="features"),
    )
    rng = np.random.default_rng(0)
    for name in ("train", "validation", "iid", "pairs", "count", "relations", "swap"):
        np.save(tmp_path / f"{name}.npy", rng.random((100, 64, WIDTH), np.float32))
    source = load_dataset(run)
    np.testing.assert_array_equal(source.splits["iid"].images, np.load(tmp_path / "iid.npy"))
    assert batches_of(run, source.train, 0).batch(0).images.shape[-1] == WIDTH

    np.save(tmp_path / "swap.npy", np.zeros((99, 64, WIDTH), np.float32))
    with pytest.raises(ValueError, match=r"swap.npy holds float32 \(99, 64, 5\).*\(100, 64,"):
        load_dataset(run)
    (tmp_path / "swap.npy").write_text("nothing")
    with pytest.raises(ValueError, match=r"swap.npy: it is no array"):
        load_dataset(run)
    (tmp_path / "swap.npy").unlink()
    with pytest.raises(ValueError, match=r"swap.npy: No such file"):
        load_dataset(run)
    with pytest.raises(ValueError, match=r"needs data.features: a folder"):
        load_dataset(replace(run, {"data.features": ""}))


def test_boxes_are_a_modality_of_scenes():
    run = Run(
        data=Data(images=100, evaluation_images=100), model=Model(contexts=("image", "boxes"))
    )
    batch = batches_of(run, load_dataset(run).train, 0).batch(0)
    objects = batch.coverage.shape[1]
    assert batch.boxes.shape == (len(batch.images), objects, 3)
    # An object that covers patches has a place, and one that covers none has none.
    np.testing.assert_array_equal(batch.boxes.any(-1), batch.coverage.any(-1))
    with pytest.raises(ValueError, match="boxes is for scenes, not for easy_vqa"):
        load_dataset(replace(run, {"data.source": "easy_vqa"}))
