"""Published sets in the layout that their authors ship: what is read of them."""

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


@pytest.mark.parametrize("name", made.WRITERS)
def test_every_set_has_its_parts(folders, name):
    found = made.load(name, folders[name])
    assert {part: len(own.images) for part, own in found.splits.items()} == SIZES[name]
    assert len(found.train) == (8 if name == "flickr30k_entities" else 12)
    assert found.fingerprint == made.load(name, folders[name]).fingerprint
    with pytest.raises(DataError, match="have changed"):
        made.load(name, folders[name], fingerprint="00000000")


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
    test = made.load(name, folders[name]).splits["test"]
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
    found = made.load("karpathy", folders["karpathy"])
    for part in ("validation", "test"):
        assert np.unique(found.splits[part].image, return_counts=True)[1].tolist() == [5] * 3
    # All six of one that is learnt.
    batch = found.train.drawn(12 * 6, 6, 0, WHOLE).batch(0)
    texts = [len(np.unique(own, axis=0)) for own in batch["tokens"].reshape(12, 6, -1)]
    assert sorted(texts) == [5] * 8 + [6] * 4
    other = made.write_karpathy(tmp_path)
    made.damage_json(other / "dataset_coco.json", lambda v: v["images"][5].update(split="dev"))
    with pytest.raises(
        DataError, match=r"dataset_coco\.json, entry 6: has split dev, expected tra"
    ):
        made.load("karpathy", other)
    (other / "dataset_flickr8k.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"has 2 files dataset_\*\.json: expected one, dataset_coco"
    ):
        made.load("karpathy", other)


def test_equal_phrases_of_a_sentence_keep_their_own_boxes():
    text, phrases = parse_sentence("[/EN#4/people A man] sees [/EN#5/people/other a man] 's hat .")
    assert text == "A man sees a man 's hat ."
    assert phrases == [(0, 2, "4"), (3, 5, "5")]
    assert split_words(text)[3:5] == ["a", "man"]
    with pytest.raises(ValueError, match="damaged phrase"):
        parse_sentence("[/EN#4/people A man sees .")


def test_ten_answers_stand_beside_the_one_to_learn(folders):
    found = made.load("vqa_v2", folders["vqa_v2"])
    test = found.splits["test"]
    asked = test.words(0)
    _, colour, _, _ = draw(101)
    assert asked.endswith(f"? {colour}")
    said = [test.vocabulary[token] if token > 0 else None for token in test.answers[0]]
    # "two" and "red." are answers as the evaluation spells them; training has no "2".
    assert said == [colour] * 8 + ["red"] * 2
    assert test.rows([1]).answers.shape == (1, 10)
    few = made.load("vqa_v2", folders["vqa_v2"], answers=1)
    answers = {few.splits["test"].vocabulary[token] for token in np.unique(few.sample.tokens)}
    assert "yes" in answers
    # Colours are words of no training text any more.
    assert not {"red", "green", "blue"} & set(few.splits["test"].vocabulary)


def test_programs_of_clevr_find_the_object_that_is_asked_for(folders):
    test = made.load("clevr", folders["clevr"]).splits["test"]
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
    test = made.load("nlvr2", folders["nlvr2"]).splits["test"]
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
    found = made.load("coco_captions", folders["coco_captions"], **settings)
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
    other = made.load("refcoco", made.write_refcoco(tmp_path / "json", form="json"))
    own = made.load("refcoco", folders["refcoco"])
    assert own.splits["test"].vocabulary == other.splits["test"].vocabulary
    np.testing.assert_array_equal(own.splits["test"].tokens, other.splits["test"].tokens)
    with pytest.raises(DataError, match=r"test-part testB: refs\(unc\)\.p has testA, train, val"):
        made.load("refcoco", folders["refcoco"], test_part="testB")


def test_texts_of_python_2_keep_their_letters():
    # What Python 2 wrote of the bytes of a text: S of protocol 0, U of protocols 1 and 2.
    for text, written in (("café", "café".encode()), ("café", "café".encode("latin-1"))):
        short = b"\x80\x02U" + bytes([len(written)]) + written + b"."
        assert read_plain_pickle(short) == text
        assert read_plain_pickle(b"S" + repr(written)[1:].encode() + b"\n.") == text
    assert read_plain_pickle(pickle.dumps("日本", protocol=2)) == "日本"


def test_json_is_read_in_small_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "BLOCK", 7)
    value = {"a": [1, 22, [3]], "é": {"x": -1.5e3}, "list": [{"n": 't\\"]'}, 12345, None, ""]}
    file = tmp_path / "x.json"
    file.write_text(json.dumps(value, ensure_ascii=False, indent=1))
    assert dict(json_stream.json_entries(file)) == value
    entries = list(json_stream.json_entries(file, "list"))
    assert entries == [(str(n), one) for n, one in enumerate(value["list"], 1)]


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
