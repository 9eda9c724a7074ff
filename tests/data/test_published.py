"""Published sets in the layout that their authors ship: what is read, and what is refused."""

import json
import pickle

import numpy as np
import pytest

from crossattn.data.batches import WHOLE
from crossattn.data.errors import DataError
from crossattn.data.published import clevr, json_stream
from crossattn.data.published.flickr30k import parse_sentence
from crossattn.data.published.refcoco import read_plain_pickle
from crossattn.data.published.spool import Spool
from crossattn.data.sources import Data, load_source
from crossattn.data.words import split_words
from tests.support import published_sets as made
from tests.support.picture_folders import draw

SIZES = {
    "coco_captions": {"validation": 3, "test": 3},
    "karpathy": {"validation": 3, "test": 3},
    "flickr30k_entities": {"validation": 4, "test": 4},
    "refcoco": {"validation": 4, "test": 4},
    "vqa_v2": {"validation": 3, "test": 3},
    "gqa": {"validation": 3, "test": 3, "testdev": 4},
    "clevr": {"validation": 3, "test": 3},
    "nlvr2": {"validation": 6, "test": 6},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("sets")
    pairs = {"winoground": made.write_winoground, "sugarcrepe": made.write_sugarcrepe}
    pairs["valse"] = made.write_valse
    return {name: write(place / name) for name, write in (made.WRITERS | pairs).items()}


def load(name, directory, **settings):
    data = Data(name, directory=str(directory), image_size=32, **settings)
    return load_source(data, "patch")


@pytest.mark.parametrize("name", made.WRITERS)
def test_every_set_has_its_parts(folders, name):
    found = load(name, folders[name])
    assert {part: len(own.images) for part, own in found.splits.items()} == SIZES[name]
    assert len(found.train) == (8 if name == "flickr30k_entities" else 12)
    assert found.fingerprint == load(name, folders[name]).fingerprint
    with pytest.raises(DataError, match="have changed"):
        load(name, folders[name], fingerprint="00000000")


def shown(examples, row):
    """The patches of the region of each word of a row, as (word, rows, columns)."""
    regions = examples.regions(np.array([row]))[0].reshape(-1, *examples.grid)
    words = [examples.vocabulary[token] for token in examples.tokens[row]]
    return {word: own for word, own in zip(words, regions, strict=True) if own.any()}


def covered(number, size=made.SIZE, grid=(4, 4)):
    """The share of each patch that the box of a drawn shape covers, pixel by pixel of 32 x 32."""
    x0, y0, x1, y1 = draw(number)[3]
    pixels = np.zeros((32, 32))
    down = slice(int(y0 / size[1] * 32), int(np.ceil(y1 / size[1] * 32)))
    pixels[down, int(x0 / size[0] * 32) : int(np.ceil(x1 / size[0] * 32))] = 1
    return pixels.reshape(grid[0], 8, grid[1], 8).mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("name", "first", "words"),
    [
        ("flickr30k_entities", 1012, ["a", "green", "square"]),
        ("refcoco", 16, ["green", "square"]),
        ("gqa", 101, ["shape", "colour"]),
    ],
)
def test_words_have_the_boxes_that_the_set_gives_them(folders, name, first, words):
    test = load(name, folders[name]).splits["test"]
    found = shown(test, 0)
    _, colour, shape, _ = draw(first)
    expected = [shape, colour] if name == "gqa" else [*words[:-2], colour, shape]
    assert list(found) == expected
    for region in found.values():
        np.testing.assert_allclose(region, covered(first), atol=1e-6)
    top, left, bottom, right = test.places[0, 0]
    x0, y0, x1, y1 = draw(first)[3]
    np.testing.assert_allclose([left * 48, top * 32, right * 48, bottom * 32], [x0, y0, x1, y1])


def test_five_captions_of_a_picture_are_compared_as_the_protocol_has_it(folders, tmp_path):
    found = load("karpathy", folders["karpathy"])
    for part in ("validation", "test"):
        assert np.unique(found.splits[part].image, return_counts=True)[1].tolist() == [5] * 3
    # All six of one that is learnt.
    batch = found.train.drawn(12 * 6, 6, 0, WHOLE).batch(0)
    texts = [len(np.unique(own, axis=0)) for own in batch["tokens"].reshape(12, 6, -1)]
    assert sorted(texts) == [5] * 8 + [6] * 4
    other = made.write_karpathy(tmp_path)
    damage_json(other / "dataset_coco.json", lambda v: v["images"][5].update(split="dev"))
    with pytest.raises(
        DataError, match=r"dataset_coco\.json, entry 6: has split dev, expected tra"
    ):
        load("karpathy", other)
    (other / "dataset_flickr8k.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"has 2 files dataset_\*\.json: expected one, dataset_coco"
    ):
        load("karpathy", other)


def test_equal_phrases_of_a_sentence_keep_their_own_boxes():
    text, phrases = parse_sentence("[/EN#4/people A man] sees [/EN#5/people/other a man] 's hat .")
    assert text == "A man sees a man 's hat ."
    assert phrases == [(0, 2, "4"), (3, 5, "5")]
    assert split_words(text)[3:5] == ["a", "man"]
    with pytest.raises(ValueError, match="damaged phrase"):
        parse_sentence("[/EN#4/people A man sees .")


def test_ten_answers_stand_beside_the_one_to_learn(folders):
    found = load("vqa_v2", folders["vqa_v2"])
    test = found.splits["test"]
    asked = test.words(0)
    _, colour, _, _ = draw(101)
    assert asked.endswith(f"? {colour}")
    said = [test.vocabulary[token] if token > 0 else None for token in test.answers[0]]
    # "two" and "red." are answers as the evaluation spells them; training has no "2".
    assert said == [colour] * 8 + ["red"] * 2
    assert test.rows([1]).answers.shape == (1, 10)
    few = load("vqa_v2", folders["vqa_v2"], answers=1)
    answers = {few.splits["test"].vocabulary[token] for token in np.unique(few.sample.tokens)}
    assert "yes" in answers
    # Colours are words of no training text any more.
    assert not {"red", "green", "blue"} & set(few.splits["test"].vocabulary)


def test_programs_of_clevr_find_the_object_that_is_asked_for(folders):
    test = load("clevr", folders["clevr"]).splits["test"]
    assert test.words(0).endswith(draw(101)[1])
    (answer,) = shown(test, 0).values()
    # A ball of radius 0.7 at distance 10 is 36.75 pixels on the picture, about (100, 80).
    np.testing.assert_allclose(
        test.places[0, 0] * [320, 480, 320, 480], [43.25, 63.25, 116.75, 136.75], rtol=1e-5
    )
    assert answer.sum() > 0
    assert not shown(test, 1)
    scene = {"objects": [{"shape": "cube"}] * 2, "relationships": {}}
    steps = [("scene", []), ("unique", [0])]
    program = [{"function": name, "inputs": own, "value_inputs": []} for name, own in steps]
    with pytest.raises(ValueError, match="finds 2 objects"):
        clevr.answer_object(program, scene)


def test_two_photographs_stand_side_by_side(folders):
    test = load("nlvr2", folders["nlvr2"]).splits["test"]
    for number in range(3):
        halves = test.images[number][:, :16], test.images[number][:, 16:]
        for side, half in enumerate(halves):
            picture = draw(2 * number + side)[0].resize((32, 32), 2)
            wide = np.asarray(picture).reshape(32, 16, 2, 3).mean(axis=2)
            assert np.abs(half.astype(int) - wide).max() <= 1
    # Sentences stand with two pairs each.
    assert np.unique(test.sentence, return_counts=True)[1].tolist() == [2, 2, 2]


def test_pairs_are_scored_in_their_order(folders):
    settings = {name: str(folders[name]) for name in ("winoground", "sugarcrepe", "valse")}
    found = load("coco_captions", folders["coco_captions"], **settings)
    swap = found.splits["swap"]
    rows = [(swap.words(row), int(swap.image[row])) for row in range(4)]
    first, second = rows[0][0], rows[2][0]
    assert rows == [(first, 0), (first, 1), (second, 0), (second, 1)]
    assert sorted(first.split()) == sorted(second.split())
    crepe = found.splits["sugarcrepe"]
    assert crepe.kinds == ("add_att", "swap_obj")
    assert crepe.kind.tolist() == [0] * 6 + [1] * 6
    assert crepe.image.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    valse = found.splits["valse"]
    # One of four foils was not judged to be one.
    assert len(valse) == 6
    assert valse.words(0) == "<bos> <unknown> is a green disc . <eos>"
    assert valse.words(1) == "<bos> <unknown> is <unknown> green disc . <eos>"
    # All words of both are scored, those that training has not among them.
    assert valse.target[:2].sum(axis=1).tolist() == [7, 7]


def test_expressions_are_the_same_from_a_pickle_and_from_json(folders, tmp_path):
    other = load("refcoco", made.write_refcoco(tmp_path / "json", form="json"))
    own = load("refcoco", folders["refcoco"])
    assert own.splits["test"].vocabulary == other.splits["test"].vocabulary
    np.testing.assert_array_equal(own.splits["test"].tokens, other.splits["test"].tokens)
    with pytest.raises(DataError, match=r"test-part testB: refs\(unc\)\.p has testA, train, val"):
        load("refcoco", folders["refcoco"], test_part="testB")


def test_texts_of_python_2_keep_their_letters():
    # What Python 2 wrote of the bytes of a text: S of protocol 0, U of protocols 1 and 2.
    for text, written in (("café", "café".encode()), ("café", "café".encode("latin-1"))):
        short = b"\x80\x02U" + bytes([len(written)]) + written + b"."
        assert read_plain_pickle(short) == text
        assert read_plain_pickle(b"S" + repr(written)[1:].encode() + b"\n.") == text
    assert read_plain_pickle(pickle.dumps("日本", protocol=2)) == "日本"


class Harm:
    def __reduce__(self):
        return (eval, ("1 / 0",))


def test_a_pickle_that_would_run_code_is_refused(folders, tmp_path):
    for harm in (pickle.dumps(Harm()), pickle.dumps([Harm()], protocol=0)):
        with pytest.raises(ValueError, match=r"names .*eval, which is not looked up"):
            read_plain_pickle(harm)
    directory = made.write_refcoco(tmp_path / "harm")
    (directory / "refs(unc).p").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p is no pickle of plain data"):
        load("refcoco", directory)


def damage_json(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("name", "file", "change", "why"),
    [
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["annotations"][3].pop("caption"),
         "captions_train2017.json, entry 4: has no caption"),
        *(
            ("coco_captions", "annotations/captions_train2017.json",
             lambda v, said=said: v["annotations"][3].update(caption=said),
             f"entry 4: has caption {said}, expected a text")
            for said in (None, 5, True, ["a cat"])
        ),
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["annotations"].__setitem__(3, 5), "entry 4: is 5, expected an object"),
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["images"][4].update(id=1),
         "captions_train2017.json: entries 2 and 5 of images have the same name or id"),
        ("vqa_v2", "v2_OpenEnded_mscoco_train2014_questions.json",
         lambda v: v["questions"][1].update(question=None), "has question None, expected a text"),
        ("vqa_v2", "v2_mscoco_train2014_annotations.json",
         lambda v: v["annotations"][1].update(answers=[]), "entry 2: has no answers"),
        ("vqa_v2", "v2_mscoco_train2014_annotations.json",
         lambda v: v["annotations"][1].update(question_id=5),
         "entry 2: has question_id 5, which the file of questions has not"),
        ("gqa", "train_balanced_questions.json", lambda v: v["02"].update(answer=""),
         "entry 02: has an empty answer"),
        ("gqa", "train_sceneGraphs.json", lambda v: v["3"].update(width=0), "entry 03: has a pict"),
        ("clevr", "questions/CLEVR_train_questions.json",
         lambda v: v["questions"][2].update(answer=None), "entry 3: has answer None, expected"),
        ("clevr", "scenes/CLEVR_train_scenes.json",
         lambda v: v["scenes"][0]["objects"][0].update(pixel_coords=None),
         "entry 1: is not as published: TypeError"),
        ("refcoco", "instances.json", lambda v: v["annotations"][2].update(image_id=0),
         "entry 3: is about image 2, its box about image 0"),
        ("refcoco", "instances.json", lambda v: v["annotations"][2].update(bbox=[49, 0, 1, 5]),
         "refs(unc).p, entry 3: has a box"),
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["annotations"][5].update(image_id=77),
         "entry 6: has image_id 77, which the list of images has not"),
        ("coco_captions", "annotations/captions_val2017.json",
         lambda v: v["annotations"][2].update(caption="  "), "entry 3: has a text of 0 words"),
        ("coco_captions", "annotations/captions_train2017.json",
         lambda v: v["images"][1].update(file_name="../x.jpg"), "leads out of the folder"),
        ("vqa_v2", "v2_mscoco_train2014_annotations.json",
         lambda v: v["annotations"][1].update(image_id=50), "entry 2: there is no picture COCO_"),
        ("gqa", "train_sceneGraphs.json", lambda v: v["3"]["objects"]["77"].update(x=40),
         "entry 03: has a box"),
        ("gqa", "train_sceneGraphs.json", lambda v: v["3"].pop("objects"),
         "train_sceneGraphs.json, entry 3: has no objects"),
        ("clevr", "questions/CLEVR_train_questions.json",
         lambda v: v["questions"][2]["program"][1]["value_inputs"].__setitem__(0, "cone"),
         "entry 3: has a program that finds 0 objects"),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_named(tmp_path, name, file, change, why):
    directory = made.WRITERS[name](tmp_path / name)
    damage_json(directory / file, change)
    with pytest.raises(DataError) as error:
        load(name, directory)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cut", "why"),
    [
        (lambda text: text[:-30], "entry 24 of annotations: is no JSON"),
        (lambda text: text.replace('{"id": 5,', '{"id": 5', 1), "entry 6 of images"),
        (lambda text: text + "]", "goes on after its end"),
        (lambda text: "", "the beginning: expected {"),
        (lambda text: text.replace("annotations", "annotation"), "has no list 'annotations'"),
    ],
)
def test_damaged_json_is_named(tmp_path, cut, why):
    directory = made.write_coco(tmp_path)
    file = directory / "annotations/captions_train2017.json"
    file.write_text(cut(file.read_text()))
    with pytest.raises(DataError, match=f"captions_train2017.json.*{why.replace('{', '.')}"):
        load("coco_captions", directory)


def test_json_is_read_in_small_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "BLOCK", 7)
    value = {"a": [1, 22, [3]], "é": {"x": -1.5e3}, "list": [{"n": 't\\"]'}, 12345, None, ""]}
    file = tmp_path / "x.json"
    file.write_text(json.dumps(value, ensure_ascii=False, indent=1))
    assert dict(json_stream.json_entries(file)) == value
    entries = list(json_stream.json_entries(file, "list"))
    assert entries == [(str(n), one) for n, one in enumerate(value["list"], 1)]


def test_a_damaged_picture_is_named_when_it_is_read(tmp_path):
    directory = made.write_coco(tmp_path)
    picture = directory / "val2017/000000000101.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(DataError, match=r"000000000101\.jpg \(captions_val2017\.json, entry 2\)"):
        load("coco_captions", directory)
    picture = made.write_gqa(tmp_path / "gqa") / "images/101.jpg"
    draw(3, (40, 32))[0].save(picture)
    with pytest.raises(DataError, match=r"101\.jpg has 40 x 32 pixels, .*entry 0101 says 48 x 32"):
        load("gqa", tmp_path / "gqa")


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
        load(name, directory)
    found = load(name, directory, missing=1)
    assert len(found.train) == (8 if name == "flickr30k_entities" else 12) - 1
    (note,) = found.notes
    assert note.startswith(f"1 picture is missing, and {texts} of {every} texts are left out")
    assert picture in note
    # What is learnt then is another set, and whoever began with it goes on with it.
    mark = found.fingerprint
    assert load(name, directory, missing=5, fingerprint=mark).fingerprint == mark
    made.WRITERS[name](directory)
    with pytest.raises(DataError, match="have changed"):
        load(name, directory, missing=1, fingerprint=mark)


def test_a_pair_without_one_of_its_pictures_is_left_out_whole(folders, tmp_path):
    pairs = {"winoground": made.write_winoground(tmp_path / "winoground"),
             "sugarcrepe": made.write_sugarcrepe(tmp_path / "sugarcrepe")}  # fmt: skip
    (pairs["winoground"] / "images/ex_1_img_1.png").unlink()
    (pairs["sugarcrepe"] / "val2017/000000000002.jpg").unlink()
    places = {name: str(place) for name, place in pairs.items()}
    with pytest.raises(DataError, match=r"examples.jsonl, line 2: .* of 4 of 12 texts"):
        load("coco_captions", folders["coco_captions"], **places)
    found = load("coco_captions", folders["coco_captions"], missing=1, **places)
    assert found.splits["swap"].image.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert found.splits["sugarcrepe"].kind.tolist() == [0] * 4 + [1] * 4
    assert len(found.notes) == 2
    with pytest.raises(ValueError, match=r"data\.missing is a number of pictures, got -1"):
        load("coco_captions", "", missing=-1)


def test_a_picture_in_two_parts_is_refused(tmp_path):
    directory = made.write_refcoco(tmp_path, form="json")
    damage_json(directory / "refs(unc).json", lambda refs: refs[14].update(image_id=0, ann_id=0))
    with pytest.raises(DataError, match="1 pictures are both in train and in validation"):
        load("refcoco", directory)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("coco_captions", "captions_train2017.json or annotations/captions_train2014.json: expect"),
        ("refcoco", r"has no refs\(unc\)\.p or refs\(unc\)\.json: expected refs"),
        ("flickr30k_entities", "has no train.txt: expected Sentences"),
        ("nlvr2", "has no data/train.json"),
    ],
)
def test_what_a_folder_lacks_is_said(tmp_path, name, why):
    with pytest.raises(DataError, match=why):
        load(name, tmp_path)
    with pytest.raises(DataError, match=r"name it with --data\.directory DIR"):
        load(name, "")
    with pytest.raises(DataError, match="there is no folder"):
        load(name, tmp_path / "nowhere")


def test_a_spool_finds_what_was_added_under_a_name():
    spool = Spool()
    for number in range(500):
        spool.add(str(number % 200), {"n": number, "é": [1.5, None]})
    assert spool.get("7") == {"n": 7, "é": [1.5, None]}
    assert spool.groups()[199] == [199, 399]
    assert len(spool.groups()) == 200
    spool.add("new", 1)
    assert spool.get("new") == 1
    with pytest.raises(KeyError):
        spool.get("never")
