"""Published sets with missing pictures or empty captions: they are counted, and left out."""

import pytest

from crossattn.data.errors import DataError
from tests.support import published_sets as made

GONE = {
    "coco_captions": ("train2017/000000000003.jpg", 2, 24 + 12),
    "karpathy": ("val2014/COCO_val2014_000000000003.jpg", 5, 94),
    "flickr30k_entities": ("flickr30k-images/1003.jpg", 2, 32),
    "refcoco": ("train2014/COCO_train2014_000000000003.jpg", 2, 40),
    "vqa_v2": ("train2014/COCO_train2014_000000000003.jpg", 2, 36),
    "gqa": ("images/3.jpg", 1, 22),
    "clevr": ("images/train/CLEVR_train_000003.png", 2, 36),
    "nlvr2": ("images/train/0/train-1-1-img1.png", 1, 24),
}


@pytest.mark.parametrize("name", GONE)
def test_missing_pictures_are_counted_or_left_out(tmp_path, name):
    directory = made.WRITERS[name](tmp_path / "set")
    gone, texts, every = GONE[name]
    (directory / gone).unlink()
    picture = gone.rpartition("/")[2]
    said = rf"there is no picture {picture} .*; 1 picture is missing, of {texts} of {every} texts"
    with pytest.raises(DataError, match=f"{said}: --data.missing 1 leaves"):
        made.load(name, directory)
    found = made.load(name, directory, missing=1)
    assert len(found.train) == (8 if name == "flickr30k_entities" else 12) - 1
    (note,) = found.notes
    assert note.startswith(f"1 picture is missing, and {texts} of {every} texts are left out")
    assert picture in note
    # What is learnt then is another set, and whoever began with it goes on with it.
    mark = found.fingerprint
    assert made.load(name, directory, missing=5, fingerprint=mark).fingerprint == mark
    made.WRITERS[name](directory)
    with pytest.raises(DataError, match="have changed"):
        made.load(name, directory, missing=1, fingerprint=mark)


def test_a_pair_without_one_of_its_pictures_is_left_out_whole(tmp_path):
    coco = made.write_coco(tmp_path / "coco")
    pairs = {"winoground": made.write_winoground(tmp_path / "winoground"),
             "sugarcrepe": made.write_sugarcrepe(tmp_path / "sugarcrepe")}  # fmt: skip
    (pairs["winoground"] / "images/ex_1_img_1.png").unlink()
    (pairs["sugarcrepe"] / "val2017/000000000002.jpg").unlink()
    places = {name: str(place) for name, place in pairs.items()}
    with pytest.raises(DataError, match=r"examples.jsonl, line 2: .* of 4 of 12 texts"):
        made.load("coco_captions", coco, **places)
    found = made.load("coco_captions", coco, missing=1, **places)
    assert found.splits["swap"].image.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert found.splits["sugarcrepe"].kind.tolist() == [0] * 4 + [1] * 4
    assert len(found.notes) == 2
    with pytest.raises(ValueError, match=r"data\.missing is a number of pictures, got -1"):
        made.load("coco_captions", "", missing=-1)


EMPTY = {
    "coco_captions": ("annotations/captions_val2017.json", "entry 3", 24 + 12,
                      lambda v: v["annotations"][2].update(caption=" \u200b\n")),
    "karpathy": ("dataset_coco.json", "entry 2", 94,
                 lambda v: v["images"][1]["sentences"][2].update(raw="  ")),
    "refcoco": ("refs(unc).json", "entry 4", 40,
                lambda v: v[3]["sentences"][1].update(sent="")),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_empty_captions_are_counted_and_left_out(tmp_path, name):
    file, entry, every, change = EMPTY[name]
    form = {"form": "json"} if name == "refcoco" else {}
    directory = made.WRITERS[name](tmp_path / "set", **form)
    whole = made.load(name, directory)
    made.damage_json(directory / file, change)
    found = made.load(name, directory)
    stem = file.rpartition("/")[2]
    assert found.notes == (
        f"1 of {every} texts is empty and left out (the first: {stem}, {entry}).",
    )
    texts = lambda data: int(data.train.survey.texts.sum()) + sum(map(len, data.splits.values()))
    assert texts(found) == texts(whole) - 1
    assert found.fingerprint != whole.fingerprint


def test_empty_lines_of_sentences_and_tables_are_counted(tmp_path):
    directory = made.write_flickr30k(tmp_path / "flickr")
    for name in (1001, 1002):
        sentences = directory / f"Sentences/{name}.txt"
        sentences.write_text("\n" + sentences.read_text() + "\n\n")
    (note,) = made.load("flickr30k_entities", directory).notes
    assert note == "2 of 34 texts are empty and left out (the first: 1001.txt, line 1)."
    shards = made.write_webdataset(tmp_path / "shards", empty=(3,))
    (note,) = made.load("webdataset", shards, tasks=("caption",)).notes
    assert note.startswith("1 of 18 texts is empty and left out (the first: train-000000.tar, sam")
    made.damage_json(
        made.write_sugarcrepe(tmp_path / "pairs") / "data/add_att.json",
        lambda v: v["1"].update(negative_caption=" "),
    )
    # A pair needs both of its texts, a question all of them.
    with pytest.raises(DataError, match=r"add_att.json, entry 1: has a text of 0 words"):
        made.load("coco_captions", made.write_coco(tmp_path), sugarcrepe=str(tmp_path / "pairs"))
