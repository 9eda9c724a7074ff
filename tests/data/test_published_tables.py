"""Tables of other people: shards of a WebDataset, and what save_to_disk of datasets leaves."""

import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from crossattn.data.batches import WHOLE
from crossattn.data.errors import DataError
from crossattn.data.published.rows import split_said_by
from crossattn.data.sources import Data, load_source
from tests.support import published_sets as made
from tests.support.picture_folders import draw

WRITERS = {"webdataset": made.write_webdataset, "hf_dataset": made.write_hf_dataset}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    if request.param == "hf_dataset":
        pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    return request.param, WRITERS[request.param](tmp_path / "set")


def load(name, directory, **settings):
    data = Data(name, directory=str(directory), image_size=32, **settings)
    return load_source(data, "patch")


def test_texts_stand_with_their_pictures(written):
    name, directory = written
    found = load(name, directory)
    test = found.splits["test"]
    parts = {part: len(own.images) for part, own in found.splits.items()}
    # The shards have validation, which is halved; the folder has test: validation is set aside.
    expected = {"webdataset": ({"validation": 3, "test": 3}, 12, 101),
                "hf_dataset": ({"validation": 2, "test": 6}, 10, 100)}  # fmt: skip
    assert (parts, len(found.train)) == expected[name][:2]
    number = expected[name][2]
    _, colour, shape, _ = draw(number)
    assert test.words(0) == f"<bos> what colour is the {shape} ? {colour}"
    assert test.words(1) == f"<bos> a {colour} {shape} <eos>"
    drawn = np.asarray(draw(number)[0].resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(test.images[0] - drawn).mean() < 12
    batch = found.train.drawn(4, 2, 0, WHOLE).batch(0)
    assert batch["images"].shape == (2, 32, 32, 3)
    if name == "hf_dataset":
        # Ten people, spelt as the evaluation of VQA spells them.
        said = [test.vocabulary[token] if token > 0 else "" for token in test.answers[0]]
        assert said[:8] == [colour] * 8
        assert said[8] == "red"


def test_columns_are_chosen(written):
    name, directory = written
    told = load(name, directory, tasks=("caption",))
    assert set(told.splits["test"].counts()) == {"caption"}
    asked = load(name, directory, tasks=("question",))
    assert "caption" not in asked.splits["test"].counts()
    with pytest.raises(DataError, match=r"--data.caption-column story: .* has the columns"):
        load(name, directory, caption_column="story")


def test_a_damaged_shard_is_named(tmp_path):
    directory = made.write_webdataset(tmp_path)
    shard = directory / "train-000001.tar"
    content = shard.read_bytes()
    for cut in (5_000, content.rindex(b"ustar") - 257):  # within a file, and between two
        shard.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"train-000001\.tar is damaged .*: it ends with"):
            load("webdataset", directory)
    shard.write_bytes(content.replace(b"000006.txt", b"000006.tqt", 1))
    with pytest.raises(
        DataError, match=r"train-000001\.tar is damaged after sample '000006': its head"
    ):
        load("webdataset", directory)
    shard.write_bytes(content.replace(b'"answer": "blue"', b'"answer": ["blue]', 1))
    with pytest.raises(DataError, match=r"train-000001\.tar, sample 00000\d: "):
        load("webdataset", directory)
    where = content.index(b"\xff\xd8\xff")
    shard.write_bytes(content[:where] + b"\0" * 300 + content[where + 300 :])
    found = load("webdataset", directory)
    drawn = found.train.drawn(4, 2, 0, WHOLE)
    with pytest.raises(DataError, match=r"train-000001\.tar .*sample 000006\) holds a picture"):
        [drawn.batch(step) for step in range(6)]


def test_a_sample_without_a_picture_is_named(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    directory = made.write_webdataset(tmp_path)
    with tarfile.open(directory / "val-000000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("000100.txt"))
    with pytest.raises(DataError, match=r"val-000000\.tar, sample 000100: has no picture"):
        load("webdataset", directory)
    with pytest.raises(DataError, match=r"has no \.tar files"):
        load("webdataset", empty)


def test_a_damaged_folder_of_datasets_is_named(tmp_path):
    pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    directory = made.write_hf_dataset(tmp_path / "set")
    file = directory / "train/data-00000-of-00001.arrow"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"data-00000-of-00001\.arrow cannot be read"):
        load("hf_dataset", directory)
    file.write_bytes(content)
    (directory / "test/state.json").write_text(json.dumps({"_data_files": [{"filename": "../x"}]}))
    with pytest.raises(DataError, match=r"which its state\.json names"):
        load("hf_dataset", directory)
    with pytest.raises(DataError, match="expected a folder that save_to_disk of datasets wrote"):
        load("hf_dataset", tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [("coco-val-0003", "validation"), ("test", "test"), ("training_2", "train"), ("x", "train")],
)
def test_names_say_the_split(name, split):
    assert split_said_by(name) == split


def test_a_sample_without_its_picture_is_counted_or_left_out(tmp_path):
    directory = made.write_webdataset(tmp_path)
    shard = directory / "train-000001.tar"
    whole = tmp_path / "whole.tar"
    shard.rename(whole)
    with tarfile.open(whole) as old, tarfile.open(shard, "w") as new:
        for member in old:
            if member.name != "000007.jpg":
                new.addfile(member, old.extractfile(member))
    whole.unlink()
    why = (
        r"train-000001.tar, sample 000007: has no picture, of txt, json, cls; 1 picture is missing"
    )
    with pytest.raises(DataError, match=why):
        load("webdataset", directory)
    found = load("webdataset", directory, missing=1)
    assert len(found.train) == 11
    assert "2 of 36 texts are left out" in found.notes[0]
