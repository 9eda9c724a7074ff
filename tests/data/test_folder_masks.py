"""Masks of a folder: words point to exactly the pixels that show them; parts beyond the test."""

import json

import numpy as np
import pytest
from PIL import Image

from crossattn.data.errors import DataError
from crossattn.data.folder.masks import squeeze
from crossattn.data.folder.splits import by_column
from crossattn.data.sources import load_source
from crossattn.train.run import Data
from tests.support.picture_folders import write_csv, write_folder

DRAW = np.random.default_rng(0)
NUMBERS = np.zeros((32, 48), np.uint8)
NUMBERS[4:20, 3:17] = 1
NUMBERS[10:14, 8:11] = 0
NUMBERS[20:29, 30:45] = 7
TEXT = {"caption": "a red ring beside a disc", "masks": {"red ring": "m.png#1", "disc": "m.png#7"}}


def load(path, **settings):
    data = Data("folder", directory=str(path), **{"image_size": 24} | settings)
    return load_source(data, "window")


def folder(path, line=TEXT, numbers=NUMBERS, **more):
    write_folder(path, 10, [{"image": f"{n}.png", **line, **more} for n in range(10)])
    Image.fromarray(numbers).save(path / "m.png")
    return path


def test_words_point_to_their_pixels_exactly(tmp_path):
    """Of a mask of the size that is read, patches have the share that the definition gives."""
    numbers = DRAW.integers(0, 4, (48, 48)).astype(np.uint8)
    write_folder(tmp_path, 0, "")
    lines = []
    for one in range(10):
        Image.fromarray(DRAW.integers(0, 255, (48, 48, 3), np.uint8)).save(tmp_path / f"{one}.png")
        masks = {"two": "m.png#2", "both": ["m.png#1", "m.png#3"], "all": "m.png"}
        lines.append({"image": f"{one}.png", "caption": "two and both, all", "masks": masks})
    palette = Image.fromarray(numbers)
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "m.png")
    (tmp_path / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    data = load(tmp_path, image_size=48)
    part = data.train
    found = part.regions([0])[0]
    expected = {"two": numbers == 2, "both": (numbers == 1) | (numbers == 3), "all": numbers > 0}
    assert part.words(0) == "<bos> two and both , all <eos>"
    for token, word in enumerate(part.words(0).split()):
        region = expected.get(word, np.zeros((48, 48), bool))
        shares = [
            region[y : y + 16, x : x + 16].mean() for y in range(0, 33, 8) for x in range(0, 33, 8)
        ]
        np.testing.assert_allclose(found[token], shares, atol=1e-6)
    assert "words of 10 of these texts have masks" in data.about


def test_masks_are_squeezed_as_pictures_are(tmp_path):
    data = load(folder(tmp_path))
    mask = data.masks(np.array([0]))[0]
    wanted = np.zeros((24, 24), np.uint8)
    for number, label in ((1, 1), (7, 2)):
        share = (number == NUMBERS).astype(float)
        # 48 x 32 pixels become 24 x 24: 2 columns, and 4 rows thirds of which make 3.
        share = share.reshape(32, 24, 2).mean(-1).repeat(3, 0).reshape(24, 4, 24).mean(1)
        wanted[share >= 0.5] = label
    assert (mask == wanted).mean() > 0.99  # of borders at just a half one may lie elsewhere
    assert mask.max() == 2
    hair = np.zeros((64, 64), bool)
    hair[:, 5] = True
    assert squeeze(hair, (16, 16)).nonzero()[1].tolist() == [1] * 16


def test_answers_have_the_mask_of_their_phrase(tmp_path):
    line = {"question": "what is left?", "answer": "ring", "masks": {"ring": "m.png#7"}}
    part = load(folder(tmp_path, line)).train
    share = part.regions([0])[0, part.answer[0]].reshape(2, 2)
    assert share[1, 1] > 0.1 > 0.01 > share[0, 0]


def test_a_csv_file_has_masks_as_json(tmp_path):
    lines = [{"image": f"{n}.png", **TEXT, "masks": json.dumps(TEXT["masks"])} for n in range(10)]
    folder(tmp_path)
    (tmp_path / "captions.jsonl").unlink()
    write_csv(tmp_path, lines)
    assert load(tmp_path).train.grounded.any()


def test_the_fingerprint_has_the_masks(tmp_path):
    first = load(folder(tmp_path)).fingerprint
    assert load(folder(tmp_path)).fingerprint == first
    other = NUMBERS.copy()
    other[4:6, 3:5] = 0
    assert load(folder(tmp_path, numbers=other)).fingerprint != first


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (["m.png"], "masks takes {"),
        ({"ring": 3}, "the mask of 'ring' takes a file like masks/17.png#3, got 3"),
        ({"ring": []}, "takes a file, got an empty list"),
        ({"ring": "m.png#0"}, "is no file with a number of 1 to 255"),
        ({"ring": "m.png#x"}, "is no file with a number of 1 to 255"),
        ({"ring": "m.png#256"}, "is no file with a number of 1 to 255"),
        ({"": "m.png"}, "a mask is of a word or a phrase"),
        ({"ring": "../m.png"}, "leads out of the folder"),
        ({"rings": "m.png"}, "has a mask of 'rings', which no text of it says"),
        ({"ring": "m.png#2"}, "m.png has no region 2: it has 1, 7"),
        ({"ring": "n.png"}, "n.png is no file in "),
        ({"ring": "wide.png"}, "the mask wide.png has 32 x 32 pixels, its picture 48 x 32"),
        ({"ring": "empty.png"}, "empty.png has no region at all: all of it is 0"),
        ({"ring": "0.png"}, "0.png is a PNG file of mode RGB and 8 bits: a mask has a number"),
        ({"ring": "broken.png"}, "broken.png holds a picture that cannot be decoded: "),
        ({"ring": "mask.jpg"}, "mask.jpg is no PNG file"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, masks, said):
    folder(tmp_path, {"caption": "a ring", "masks": masks})
    Image.fromarray(NUMBERS[:, :32]).save(tmp_path / "wide.png")
    Image.fromarray(NUMBERS * 0).save(tmp_path / "empty.png")
    Image.fromarray(NUMBERS).save(tmp_path / "mask.jpg")
    whole = (tmp_path / "m.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    with pytest.raises(DataError) as error:
        load(tmp_path)
    assert said in str(error.value)
    assert str(error.value).startswith("captions.jsonl, line 1: ")


def test_a_box_or_a_mask_and_not_both(tmp_path):
    with pytest.raises(DataError, match="has a box and a mask of 'disc': give one of them"):
        load(folder(tmp_path, boxes={"disc": [0, 0, 8, 8]}))
    mixed = load(folder(tmp_path, boxes={"beside": [0, 0, 8, 8]}))
    assert "have boxes or masks" in mixed.about


def test_parts_beyond_the_test(tmp_path):
    names = ["train"] * 4 + ["val", "test", "pairs", "Test_A", "testB", "train"]
    lines = [{"image": f"{n}.png", **TEXT, "split": name} for n, name in enumerate(names)]
    folder(tmp_path)
    write_folder(tmp_path, 10, lines)
    data = load(tmp_path)
    sizes = {name: len(part.images) for name, part in data.splits.items()}
    assert sizes == {"validation": 1, "test": 1, "pairs": 1, "test_a": 1, "testb": 1}
    assert len(data.train.images) == 5
    assert data.main == "test"
    assert "combinations" in data.parts_about["pairs"]
    assert "What the file calls test_a." in data.parts_about["test_a"]
    write_folder(tmp_path, 10, [{**line, "split": "tset"} for line in lines])
    with pytest.raises(DataError, match="expected train, validation, test, pairs or a name that"):
        load(tmp_path)


def test_parts_that_lack_are_made_beside_others():
    named = ["train"] * 20 + ["pairs"] * 3
    hashes = [one * 2**64 // 23 for one in range(23)]
    found = by_column(named, hashes)
    assert found[20:] == ["pairs"] * 3
    assert found[:20] == by_column(named[:20], hashes[:20])
    assert {*found[:20]} == {"train", "validation", "test"}
    with pytest.raises(DataError, match="no picture is of the split train, all are of others"):
        by_column(["pairs"] * 3, hashes[:3])
