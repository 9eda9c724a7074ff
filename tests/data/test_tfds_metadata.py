"""The JSON files of a stranger's directory are whole, and reach no file outside of it."""

import json
import os
import shutil

import numpy as np
import pytest

from crossattn.data.errors import DataError
from crossattn.data.tfds import records as tfds_records
from crossattn.data.tfds.text import Names, Reader, Split, columns
from tests.support import tfds_directories as made
from tests.support.tfds_json import OURS, feature, features, legacy, other

F = made.tfds.features


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    examples = [made.vqa_example(number) for number in range(2)]
    path = tmp_path_factory.mktemp("prepared") / "made"
    return made.write_tfrecord(path, made.vqa_features(), {"train": examples}, shards=1)


@pytest.fixture
def copy(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "copy")


ODD = {
    "a list": "[]",
    "null": "null",
    "a number": "1",
    "a text": '"x"',
    "cut": '{"pythonClassName": ',
    "empty": "",
    "no UTF-8": b"\xff\xfe\x00",
    "UTF-16": json.dumps(features(a=other())).encode("utf-16"),
    "too deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "lists too deep": "[" * 100_000 + "]" * 100_000,
    "NaN": '{"a": NaN}',
    "an object alone": "{}",
    "a huge number": '{"a": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("odd", ODD)
def test_json_of_other_shapes_is_one_line(copy, file, odd):
    content = ODD[odd]
    (copy / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        tfds_records.records(copy, "train")
    assert str(caught.value).isprintable()


def test_all_classes_of_tfds_that_need_no_tensorflow_are_read(directory):
    every = F.FeaturesDict(
        {
            "image": F.Image(),
            "labelled": F.LabeledImage(labels=3, shape=(None, None, 1)),
            "text": F.Text(),
            "number": F.Scalar(np.int64),
            "table": F.Tensor(shape=(2, None), dtype=np.float32),
            "label": F.ClassLabel(num_classes=3),
            "box": F.BBoxFeature(),
            "translation": F.Translation(["en", "hi"]),
            "translations": F.TranslationVariableLanguages(["en", "hi"]),
            "list": F.Sequence(F.Sequence({"type": F.Text(), "content": F.Text()})),
            "set": F.Dataset({"x": F.Text()}),
        }
    )
    every.save_config(directory)
    read = tfds_records.prepared(directory).info.features
    assert set(read) == set(every)
    assert [type(read[name]) for name in read] == [type(every[name]) for name in read]
    made.vqa_features().save_config(directory)


def test_the_form_of_the_first_versions_is_read(copy):
    image = legacy(
        "image_feature.Image", {"shape": [None, None, 3], "dtype": "uint8", "encoding_format": None}
    )
    text, number = legacy("text_feature.Text", {}), legacy("feature.Tensor", {"shape": []})
    number["content"]["dtype"] = "int64"
    pairs = legacy("features_dict.FeaturesDict", {"question": text, "answer": text})
    content = {
        "image": image,
        "question_answer": legacy("sequence_feature.Sequence", {"feature": pairs, "length": None}),
        "number": number,
    }
    (copy / "features.json").write_text(json.dumps(legacy("features_dict.FeaturesDict", content)))
    info = tfds_records.prepared(copy).info
    reader = Reader(info.features, columns(info.features, Names(), ("question",)))
    split = Split(tfds_records.records(copy, "train"), reader)
    assert split[1].questions[0] == ("What COLOUR is the traffic light?", "green")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            legacy("class_label_feature.ClassLabel", {"names_file": "FILE"}),
            "names a file of labels",
        ),
        (
            legacy(
                "labeled_image.LabeledImage",
                {"labels": "FILE", "shape": [None, None, 1], "encoding_format": "png"},
            ),
            "names a file of labels",
        ),
        (feature("class_label_feature.ClassLabel", classLabel={"numClasses": "9" * 15}), "classes"),
    ],
)
def test_labels_are_read_from_the_directory_alone(copy, tmp_path, content, why):
    (tmp_path / "secret").write_text("one\ntwo\n")
    text = json.dumps(features(label=content, image=other(f"{OURS}.image_feature.Image")))
    (copy / "features.json").write_text(text.replace("FILE", str(tmp_path / "secret")))
    with pytest.raises(DataError, match=why):
        tfds_records.prepared(copy)


@pytest.mark.parametrize(
    "labels", ["cat\n", "cat\ndog\ncat\n", "cat\ndog\nbird\nfish\n", "", b"\xff\n\xfe\n\xfd\n"]
)
def test_labels_that_do_not_name_every_class_are_refused(copy, labels):
    """TFDS reads them in a thread of its own, and is silent where that fails."""
    file = copy / "objects-label.labels.txt"
    assert file.read_text().split() == ["cat", "traffic", "light", "dog"]
    file.write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    with pytest.raises(DataError, match=f"{file.name} (does not name the 3|cannot be read)"):
        tfds_records.prepared(copy)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"filepathTemplate": "../outside/{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}, "outside of"),
        ({"filepathTemplate": "a/../../outside/{SPLIT}"}, "outside of itself"),
        ({"filepathTemplate": "/etc/{SPLIT}"}, "outside of itself"),
        ({"filepath_template": "/etc/hosts"}, "outside of itself"),
        ({"filepathTemplate": "{SPLIT:>99999999999}"}, "by the template"),
        ({"filepathTemplate": "{SPLIT.__class__}"}, "by the template"),
        ({"filepathTemplate": "{SPLIT!r}"}, "by the template"),
        ({"filepathTemplate": "{SPLIT:{SPLIT}}"}, "by the template"),
        ({"filepathTemplate": "{WHO}"}, "by the template"),
        ({"filepathTemplate": "{}"}, "by the template"),
        ({"filepathTemplate": "{SPLIT"}, "by the template"),
        ({"filepathTemplate": ["a"]}, "by the template"),
        ({"filepathTemplate": "\x1b[2J\n\0"}, "copy"),
        ({"shardLengths": ["-1"]}, "copy"),
        ({"shardLengths": ["9223372036854775807"]}, "holds 2 records, dataset_info.json says 9"),
        ({"shardLengths": "x"}, "copy"),
    ],
)
def test_shards_lie_in_the_directory(copy, tmp_path, changes, why):
    (tmp_path / "outside").mkdir()
    file = copy / "dataset_info.json"
    info = json.loads(file.read_text())
    if "filepath_template" in changes:
        del info["splits"][0]["filepathTemplate"]
    info["splits"][0] |= changes
    file.write_text(json.dumps(info))
    with pytest.raises(DataError, match=why) as caught:
        tfds_records.records(copy, "train")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["../made", "/etc/made", "..", "a/../../made"])
def test_names_of_sets_lead_nowhere_else(copy, name):
    for key in ("name", "split"):
        file = copy / "dataset_info.json"
        info = json.loads(file.read_text())
        (info if key == "name" else info["splits"][0])["name"] = name
        file.write_text(json.dumps(info))
        split = "train" if key == "name" else name
        with pytest.raises(DataError):
            tfds_records.records(copy, split)


def test_a_folder_within_the_directory_may_hold_the_shards(copy, directory):
    file = copy / "dataset_info.json"
    info = json.loads(file.read_text())
    info["splits"][0]["filepathTemplate"] = "{SPLIT}/{DATASET}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    file.write_text(json.dumps(info))
    (copy / "train").mkdir()
    (shard,) = copy.glob("*tfrecord*")
    shard.rename(copy / "train" / "made.tfrecord-00000-of-00001")
    assert list(tfds_records.records(copy, "train")) == list(
        tfds_records.records(directory, "train")
    )


def test_pictures_that_are_not_in_use_are_never_decoded(tmp_path, monkeypatch):
    """TFDS decodes what it reads with every decoder of Pillow's."""
    known = F.FeaturesDict(
        {
            "image": F.Image(),
            "things": F.Sequence({"crop": F.Image(), "caption": F.Text()}),
            "second": F.Image(),
        }
    )
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    for name in ("crop.eps", "second.eps"):
        (tmp_path / name).write_bytes(eps)
    example = {
        "image": made.picture(0),
        "things": [{"crop": str(tmp_path / "crop.eps"), "caption": "a cat"}],
        "second": str(tmp_path / "second.eps"),
    }
    path = made.write_tfrecord(tmp_path / "made", known, {"train": [example]}, shards=1)
    chosen = columns(known, Names(image="image"), ("caption",))
    refuse = lambda *_, **__: pytest.fail("a picture was opened")
    monkeypatch.setattr("PIL.Image.open", refuse)
    record = Split(tfds_records.records(path, "train"), Reader(known, chosen))[0]
    assert record.captions == ["a cat"]
    assert record.image == made.picture(0)


def test_a_pipe_in_place_of_labels_is_not_waited_for(copy):
    (copy / "objects-label.labels.txt").unlink()
    os.mkfifo(copy / "objects-label.labels.txt")
    with pytest.raises(DataError, match=r"labels\.txt is no plain file"):
        tfds_records.prepared(copy)


def test_what_needs_tensorflow_is_one_line(copy, capsys):
    sound = feature("audio_feature.Audio", audio={"dtype": "int64", "sampleRate": 1})
    (copy / "features.json").write_text(json.dumps(features(sound=sound)))
    with pytest.raises(DataError, match="cannot be read") as caught:
        tfds_records.prepared(copy)
    assert str(caught.value).isprintable()
    assert capsys.readouterr().out == ""
