"""Published sets through a frozen tower: features in place of pictures while a run trains."""

import dataclasses
import shutil

import numpy as np
import pytest

from crossattn.data.batches import WHOLE
from crossattn.data.encoded import seen_coverage
from crossattn.data.errors import DataError
from crossattn.data.picture_texts import record_arrays
from crossattn.data.published import index
from crossattn.data.sources import Data
from crossattn.pretrained import load_model
from crossattn.train.run import Model, Run
from crossattn.train.source import load_dataset
from experiments import encode
from tests.pretrained.test_encoded_pictures import CROPPED, refused
from tests.support import published_sets as made
from tests.support.pretrained import fixture, write

WRITERS = {name: made.WRITERS[name] for name in ("flickr30k_entities", "vqa_v2")}
WRITERS["webdataset"] = made.write_webdataset


def run_of(name, folder, features="", **settings):
    data = Data(name, directory=str(folder), image_size=48, features=str(features), **settings)
    encoder = "features" if features else "patch"
    return Run(data=data, model=Model(width=8, layers=1, heads=2, image_encoder=encoder))


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    _, state, config = fixture("vit")
    return write(tmp_path_factory.mktemp("towers") / "vit", state, config, preprocessing=CROPPED)


@pytest.fixture(scope="module", params=WRITERS)
def case(request, tower, tmp_path_factory):
    """A set, its folder, and that of its features."""
    place = tmp_path_factory.mktemp(request.param)
    folder = WRITERS[request.param](place / "set")
    options = ["--data.source", request.param, "--data.image-size", "48"]
    encode.main([str(tower), str(folder), str(place / "out"), *options])
    return request.param, folder, place / "out"


def test_records_have_the_features_of_their_pictures(case, tower, monkeypatch):
    name, folder, out = case
    pixels, model = load_dataset(run_of(name, folder)), load_model(tower)
    dataset = load_dataset(run_of(name, folder, out))
    assert dataset.fingerprint != pixels.fingerprint
    whole, stream = pixels.original("train"), dataset.train
    wanted = {
        number: model.patches([whole.read(place)])[0].reshape(9, -1)
        for place, number in enumerate(stream.survey.trained.tolist())
    }
    areas = {
        number: record_arrays(pixels.train.records, number, stream.survey, stream.geometry)["areas"]
        for number in wanted
    }
    seen = model.seen(whole.read(0))
    # No picture is read while a run trains.
    monkeypatch.setattr(index, "read_place", None)
    assert stream.grid == (3, 3)
    covered = 0
    for number in wanted:
        arrays = stream._load(number)
        np.testing.assert_allclose(arrays["images"], wanted[number], atol=1e-5)
        own = seen_coverage(areas[number], seen, (3, 3))
        np.testing.assert_allclose(arrays["coverage"], own, atol=1e-6)
        assert not arrays["grounded"][..., ~own.any(-1)].any()
        covered += own.any()
    assert covered or name != "flickr30k_entities"
    batch = stream.drawn(8, 2, 0, WHOLE).batch(3)
    assert batch["images"].shape == (4, 9, wanted[number].shape[-1])
    packed = stream.drawn_packed(8, 2, 0, WHOLE, 2).batch(1)
    assert packed["images"].shape == batch["images"].shape


def test_splits_are_seen_through_the_tower(case, tower):
    name, folder, out = case
    pixels, model = load_dataset(run_of(name, folder)), load_model(tower)
    dataset = load_dataset(run_of(name, folder, out))
    assert dataset.splits.keys() == pixels.splits.keys()
    for split, part in dataset.splits.items():
        whole = pixels.original(split)
        wanted = model.patches([whole.read(at) for at in range(len(part.images))])
        np.testing.assert_allclose(part.images, wanted.reshape(part.images.shape), atol=1e-5)
        assert dataset.pictures(np.arange(1), split).shape == (1, 24, 24, 3)
        np.testing.assert_array_equal(part.tokens, pixels.splits[split].tokens)
    assert [one.part for one in dataset.samples] == ["train", *dataset.splits]


def test_a_set_may_lie_elsewhere(case, tmp_path):
    name, folder, out = case
    moved = shutil.copytree(folder, tmp_path / "moved")
    one, other = (load_dataset(run_of(name, place, out)) for place in (folder, moved))
    assert one.fingerprint == other.fingerprint
    number = int(one.train.survey.trained[1])
    found = [dataset.train._load(number)["images"] for dataset in (one, other)]
    np.testing.assert_array_equal(*found)


def test_what_has_no_features_is_refused(tower, tmp_path, capsys):
    folder = made.write_vqa(tmp_path / "set")
    out = tmp_path / "out"
    encode.main(
        [str(tower), str(folder), str(out), "--data.source", "vqa_v2", "--data.images", "7"]
    )
    with pytest.raises(DataError, match=r"train\.npy lacks \d of the 12 images of these data"):
        load_dataset(run_of("vqa_v2", folder, out))
    assert load_dataset(run_of("vqa_v2", folder, out, images=7)).trained == 7
    (out / "encoder.json").unlink()
    with pytest.raises(ValueError, match=r"has no encoder.json: features of these data"):
        load_dataset(run_of("vqa_v2", folder, out))
    pairs = made.write_nlvr2(tmp_path / "nlvr2")
    said = refused(capsys, tower, pairs, tmp_path / "no", "--data.source", "nlvr2")
    assert said.startswith("encode: data.source nlvr2: choose one of scenes, ")
    with pytest.raises(ValueError, match="image_encoder 'features' is not for nlvr2"):
        load_dataset(run_of("nlvr2", pairs, out))
    with pytest.raises(ValueError, match=r"data.features is for data.resolution square"):
        dataclasses.replace(run_of("vqa_v2", folder, out).data, resolution="native")
