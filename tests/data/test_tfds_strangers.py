"""The JSON files of a stranger's directory run no code."""

import json
import shutil
import sys

import pytest

from crossattn.data.errors import DataError
from crossattn.data.tfds import records as tfds_records
from tests.support import tfds_directories as made
from tests.support.tfds_json import (
    EVIL,
    IMAGE,
    OURS,
    TEXT,
    feature,
    features,
    legacy,
    other,
    sequence,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    examples = [made.vqa_example(number) for number in range(2)]
    path = tmp_path_factory.mktemp("prepared") / "made"
    return made.write_tfrecord(path, made.vqa_features(), {"train": examples}, shards=1)


@pytest.fixture
def copy(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "copy")


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A package that leaves a file behind when it is imported."""
    trace = tmp_path / "it ran"
    package = tmp_path / "here" / "stranger"
    package.mkdir(parents=True)
    for name in ("__init__", "payload"):
        (package / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write('{name}')")
    monkeypatch.syspath_prepend(package.parent)
    yield trace
    for name in [name for name in sys.modules if name.startswith("stranger")]:
        del sys.modules[name]


PLACES = {
    "at the top": other(),
    "in a dict": features(text=TEXT, image=other()),
    "in a list": features(image=TEXT, things=sequence(other())),
    "in a dict in a list in a dict": features(a=features(b=sequence(features(c=other())))),
    "in a list in a list": features(a=sequence(sequence(other()))),
    "in a data set": features(
        a=feature("dataset_feature.Dataset", sequence={"feature": features(b=other())})
    ),
    "beside its protobuf spelling": features(a={"python_class_name": EVIL, "image": IMAGE}),
    "of a feature called type": features(type=other()),
    "of a feature called content": features(content=sequence(other())),
    "in JSON within JSON": feature(
        "features_dict.FeaturesDict", jsonFeature={"json": json.dumps({"a": other()})}
    ),
    "in JSON within JSON within JSON": feature(
        "features_dict.FeaturesDict",
        json_feature={
            "json": json.dumps(
                {
                    "a": feature(
                        "sequence_feature.Sequence",
                        jsonFeature={"json": json.dumps({"feature": other(), "length": None})},
                    )
                }
            )
        },
    ),
    "the old form": {"type": EVIL, "content": {}},
    "the old form in a dict": legacy(
        "features_dict.FeaturesDict", {"a": {"type": EVIL, "content": {}}}
    ),
    "the old form in a list": legacy(
        "sequence_feature.Sequence", {"feature": {"type": EVIL, "content": {}}, "length": None}
    ),
    "a text in the old form": legacy(
        "features_dict.FeaturesDict",
        json.dumps({"features": {"a": other()}}),
        proto_cls="tensorflow_datasets.FeaturesDict",
    ),
    "an object in the old form": legacy(
        "features_dict.FeaturesDict",
        {"features": {"a": other()}},
        proto_cls="tensorflow_datasets.FeaturesDict",
    ),
    "its package alone": features(a=other("stranger.Image")),
    "a module within TFDS": features(a=other("tensorflow_datasets.testing.stranger.Image")),
    "a name that begins as ours": features(a=other(f"{OURS}.image_feature.stranger.Image")),
    "a module whose name begins as ours": features(a=other(f"{OURS}_stranger.Image")),
    "a name with spaces": features(a=other(f" {OURS}.image_feature.Image")),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_classes_of_strangers_are_never_imported(copy, stranger, place, file):
    content = PLACES[place]
    if file == "dataset_info.json":
        content = json.loads((copy / file).read_text()) | {"features": content}
    (copy / file).write_text(json.dumps(content))
    before = set(sys.modules)
    with pytest.raises(DataError, match=rf"{file} names the class .*only those of tfds.features"):
        tfds_records.prepared(copy)
    assert not stranger.exists()
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", [None, 5, [], {}, ["a.b"], True, {"a": 1}, "", ".", "x", "é.x"])
@pytest.mark.parametrize("key", ["type", "pythonClassName"])
def test_class_names_of_other_types_are_one_line(copy, name, key):
    image = {key: name, "content": {}, "image": IMAGE}
    if key != "type":
        del image["content"]
    for content in (image, features(a=image), features(a=sequence(image))):
        (copy / "features.json").write_text(json.dumps(content))
        with pytest.raises(DataError) as caught:
            tfds_records.prepared(copy)
        assert str(caught.value).isprintable()
