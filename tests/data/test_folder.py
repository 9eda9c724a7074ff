"""A folder of pictures and a file of texts becomes data: parts, words, regions, what is said."""

import json

import numpy as np
import pytest
from PIL import Image

from configs.folder import SUITE
from crossattn.data.errors import DataError
from crossattn.data.folder import pictures
from crossattn.data.folder.boxes import parse_boxes
from crossattn.data.folder.splits import by_column, by_share
from crossattn.data.language import KINDS
from crossattn.data.sources import load_source
from crossattn.train.primary import fit_to_data, measurable
from crossattn.train.run import Data, Run, replace
from tests.support.picture_folders import draw, lines_of, write_csv, write_folder


def load(path, image_encoder="window", **settings):
    data = Data("folder", directory=str(path), **{"image_size": 24} | settings)
    return load_source(data, image_encoder)


def parts(data):
    return {"train": data.train, **data.splits}


def texts(data):
    return {part.words(row) for part in parts(data).values() for row in range(len(part))}


def test_pictures_with_captions_questions_and_boxes(tmp_path):
    data = load(write_folder(tmp_path, 30))
    assert {name: len(part.images) for name, part in parts(data).items()} == {
        "train": 20,
        "validation": 5,
        "test": 5,
    }
    assert data.train.images.dtype == np.uint8
    assert data.train.images.shape == (20, 24, 24, 3)
    assert "<bos> a red disc <eos>" in texts(data)
    assert "<bos> what colour is the square ? green" in texts(data)
    test = data.splits["test"]
    assert set(test.chance) == {"other"}
    boxed = {test.vocabulary[token] for token in test.tokens[test.grounded.any(-1)]}
    assert boxed <= {"red", "green", "blue", "disc", "square"}
    said = data.about
    assert not data.notes
    assert f"30 pictures of {tmp_path}/captions.jsonl, with 30 captions and 30 questions" in said
    assert "words of 60 of these texts have boxes, and 30 of the 30 answers have one" in said
    few = load(tmp_path, images=7, evaluation_images=2)
    assert [len(part.images) for part in parts(few).values()] == [7, 2, 2]
    assert "11 of the 30 pictures" in few.about
    assert "by a hash of each picture's file" in said
    assert fit_to_data(SUITE, data).primary == "test/accuracy"


def test_a_word_points_to_its_box(tmp_path):
    """A box of the upper left quarter: windows of 16 pixels, 8 apart, in pictures of 24."""
    lines = [{"image": f"{n}.png", "caption": "a red ring", "boxes": {"red ring": [0, 0, 24, 16]}}
             for n in range(10)]  # fmt: skip
    data = load(write_folder(tmp_path, 10, lines))
    part = data.train
    assert part.words(0) == "<bos> a red ring <eos>"
    assert part.grounded[0].any(-1).tolist() == [False, False, True, True, False]
    along = np.array([12, 4]) / 16
    np.testing.assert_allclose(part.regions([0])[0, 2], np.outer(along, along).ravel())
    mask = data.masks(np.array([0]))[0]
    assert mask[:12, :12].all()
    assert mask.sum() == 144


@pytest.mark.parametrize(
    ("form", "box"),
    [("pixels", [12, 8, 36, 32]), ("shares", [0.25, 0.25, 0.75, 1]), ("xywh", [12, 8, 24, 24])],
)
def test_boxes_in_each_format(tmp_path, form, box):
    lines = [{"image": f"{n}.png", "caption": "it", "boxes": {"It": box}} for n in range(10)]
    data = load(write_folder(tmp_path, 10, lines), box_format=form)
    mask = data.masks(np.array([0]))[0]
    assert mask[6:, 6:18].all()
    assert mask.sum() == 18 * 12


@pytest.mark.parametrize(
    "boxes",
    [
        {"red ring": [[1, 2, 3, 4], [5, 6, 7, 8]]},
        [{"phrase": "Red ring", "box": [1, 2, 3, 4]}, {"word": "red  ring", "bbox": [5, 6, 7, 8]}],
    ],
)
def test_several_boxes_of_a_phrase(boxes):
    found = parse_boxes(json.dumps(boxes))
    assert found == parse_boxes(boxes)
    assert [box.phrase for box in found] == [("red", "ring")] * 2
    assert [box.numbers[0] for box in found] == [1, 5]


def test_boxes_are_those_of_the_line(tmp_path):
    """Two rings of one picture, each with its own question; an answer of two words is one token."""
    lines = lines_of(10, captions=False)
    lines += [
        {"image": "0.png", "question": "which is left?", "answer": "Dark ring",
         "boxes": [{"word": "ring", "box": [0, 0, 24, 32]}]},
        {"image": "0.png", "question": "which ring is right?", "answer": "light ring",
         "boxes": {"light ring": [24, 0, 48, 32], "ring": [24, 0, 48, 32]}},
    ]  # fmt: skip
    split = {f"{n}.png": "train" if n < 6 else "dev" for n in range(10)}
    lines = [{**line, "split": split[line["image"]]} for line in lines]
    part = load(write_folder(tmp_path, 10, lines), tasks=("question",))
    rows = {one.words(row): one.regions([row])[0, one.answer[row]] for one in parts(part).values()
            for row in range(len(one)) if "which" in one.words(row)}  # fmt: skip
    left = rows["<bos> which is left ? dark ring"]
    right = rows["<bos> which ring is right ? light ring"]
    assert left.reshape(2, 2)[0].tolist() == [0.75, 0.25]
    assert right.reshape(2, 2)[0].tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("question", "answer", "boxes", "known"),
    [
        ("what colour is the square?", "green", ["green square"], True),
        ("what is it?", "square green", ["green square"], True),
        ("what colour is the square?", "green", ["green square", "green disc"], False),
        ("what colour is the square?", "green", ["square", "green square"], True),
        ("what is the green square on?", "green", ["green square"], False),
        ("is there a way?", "no", ["no way sign"], False),
        ("what is it?", "green disc", ["green square"], False),
        ("what is beside the green wall?", "green", ["green square"], False),
        ("what is it?", "a square", ["square", "disc"], True),
        ("what is there?", "square and old disc", ["square", "old disc"], False),
    ],
)
def test_an_answer_that_is_part_of_one_phrase_has_its_box(tmp_path, question, answer, boxes, known):
    """Of several phrases none is meant for sure; what the question names is not the answer."""
    places = {phrase: [8 * at, 0, 8 * at + 8, 8] for at, phrase in enumerate(boxes)}
    line = {"question": question, "answer": answer, "boxes": places, "caption": " ".join(boxes)}
    lines = [{"image": f"{n}.png", **line} for n in range(5)]
    data = load(write_folder(tmp_path, 5, lines))
    train = data.train
    [row, *_] = np.flatnonzero(train.answer)
    assert train.grounded[row, train.answer[row]].any() == known
    assert f"{5 if known else 0} of the 5 answers have one" in data.about


def test_captions_alone(tmp_path):
    lines = [{"file_name": f"{n}.png", "text": [f"a {draw(n)[1]} thing", "it"]} for n in range(12)]
    data = load(write_folder(tmp_path, 12, lines))
    assert len(data.train) == 2 * len(data.train.images)
    fitted = fit_to_data(SUITE, data)
    assert fitted.primary == "test/perplexity"
    assert fitted.primary in measurable(data.splits, "test")
    assert fitted.base.data.fingerprint == data.fingerprint
    assert "no word has a box" in data.about


def test_questions_alone_and_tasks_of_two(tmp_path):
    data = load(write_folder(tmp_path, 12), tasks=("caption",))
    assert all((part.answer == 0).all() for part in parts(data).values())
    data = load(tmp_path, tasks=("question",))
    assert {KINDS[kind] for kind in data.train.kind} == {"other"}
    with pytest.raises(DataError, match=r"captions.jsonl has no text for data.tasks caption"):
        load(write_folder(tmp_path / "q", 12, captions=False), tasks=("caption",))


def test_words_that_training_lacks_are_unknown_and_not_asked(tmp_path):
    lines = lines_of(12, questions=False)
    for number, line in enumerate(lines):
        line["split"] = "test" if number > 8 else "train"
    lines[9]["caption"] = "a zebra of red disc"
    lines[9] |= {"question": "who?", "answer": "nobody"}
    data = load(write_folder(tmp_path, 12, [{**line, "boxes": {}} for line in lines]))
    test = data.splits["test"]
    row = [test.words(row) for row in range(len(test))].index(
        "<bos> a <unknown> <unknown> red disc <eos>"
    )
    assert test.target[row].tolist()[:7] == [False, True, False, False, True, True, True][:7]
    assert any("2 words of test captions are in no training text" in note for note in data.notes)
    assert any("1 of 1 answers of the test are in no" in note for note in data.notes)


def test_csv_with_a_mark_quotes_and_line_breaks(tmp_path):
    lines = lines_of(12)
    lines[3]["caption"] = 'a "red\nor" disc, said he'
    del lines[3]["boxes"]
    write_csv(write_folder(tmp_path, 12, ""), lines)
    (tmp_path / "captions.jsonl").unlink()
    file = tmp_path / "captions.csv"
    text = file.read_text()
    same = load(tmp_path)
    assert '<bos> a " red or " disc , said he <eos>' in texts(same)
    file.write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert texts(load(tmp_path)) == texts(same)


def test_a_json_list_and_named_columns(tmp_path):
    part = ["dev"] * 4 + ["train"] * 8
    lines = [{"path": f"{n}.png", "says": draw(n)[1], "part": part[n]} for n in range(12)]
    write_folder(tmp_path, 12, json.dumps(lines), name="all.json")
    named = {"image_column": "path", "caption_column": "says", "split_column": "part"}
    data = load(tmp_path, **named)
    assert {name: len(part.images) for name, part in parts(data).items()} == {
        "train": 8,
        "validation": 2,
        "test": 2,
    }
    assert "split by the column part" in data.about


def test_pictures_of_every_kind(tmp_path):
    """Grey, palette, transparent, large, turned on its side by a note of the camera."""
    write_folder(tmp_path, 12)
    Image.new("L", (10, 100), 7).save(tmp_path / "0.png")
    draw(1)[0].convert("P").save(tmp_path / "1.png")
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "2.png")
    turned = Image.new("RGB", (40, 80), "white")
    turned.paste((0, 0, 0), (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right: black is then on the right
    lines = lines_of(12, boxes=False)
    for number, (name, form) in enumerate(
        (("3.jpg", "JPEG"), ("4.webp", "WEBP"), ("5.png", "PNG")), 3
    ):
        turned.save(tmp_path / name, form, exif=exif, quality=95)
        lines[number] |= {
            "image": name,
            "boxes": {"disc": [40, 0, 80, 40], "square": [40, 0, 80, 40]},
        }
        lines[number]["caption"] = "disc square"
    data = load(write_folder(tmp_path, 0, lines))
    shown = np.concatenate([part.images for part in parts(data).values()])
    assert {tuple(image[0, 0]) for image in shown} >= {(7, 7, 7), (255, 255, 255)}
    sideways = [i for i in shown if (i[:, 14:] < 40).all() and (i[:, :10] > 200).all()]
    assert len(sideways) == 3
    for part in parts(data).values():
        for row in np.flatnonzero(
            [part.words(row) == "<bos> disc square <eos>" for row in range(len(part))]
        ):
            assert part.regions([row])[0, 1].tolist() == [0.25, 0.75, 0.25, 0.75]


def test_equal_pictures_are_in_one_part_and_added_ones_move_none():
    random = np.random.default_rng(0)
    hashes = [int(n) for n in random.integers(0, 2**64, 200, dtype=np.uint64)]
    before = by_share(hashes)
    assert {name: before.count(name) for name in set(before)} == {
        "train": before.count("train"),
        "validation": sum(one < 0.1 * 2**64 for one in hashes),
        "test": sum(one >= 0.9 * 2**64 for one in hashes),
    }
    added = hashes + [int(n) for n in random.integers(0, 2**64, 50, dtype=np.uint64)]
    assert by_share(added)[:200] == before
    assert by_share(hashes[::-1]) == before[::-1]
    assert by_share([*hashes, hashes[3]])[-1] == before[3]
    for count in range(5, 60):
        found = by_share(hashes[:count])
        for name in ("validation", "test"):
            assert min(5, count // 5) <= found.count(name) <= count // 5


def test_parts_that_a_column_names():
    hashes = list(range(0, 2**64, 2**60))
    train, test = ["train"] * 12, ["test"] * 4
    found = by_column(train + test, hashes)
    assert found[12:] == test
    assert found[:12].count("validation") == 2
    assert by_column(["train"] * 16, hashes) == by_share(hashes)
    found = by_column(train + ["validation"] * 4, hashes)
    assert found[12:] == ["validation", "test"] * 2
    with pytest.raises(DataError, match="no picture is of the split train, all are of test"):
        by_column(test, hashes[:4])


def test_a_run_says_what_it_read(tmp_path):
    data = load(write_folder(tmp_path, 12))
    assert load(tmp_path, fingerprint=data.fingerprint).fingerprint == data.fingerprint
    draw(7)[0].save(tmp_path / "1.png")
    with pytest.raises(DataError, match="have changed, or this version reads them otherwise: the"):
        load(tmp_path, fingerprint=data.fingerprint)


def test_other_rules_of_giving_boxes_to_words_are_other_data(tmp_path, monkeypatch):
    """Results of a version that gave an answer another box are not mixed with those of this one."""
    boxed, bare = write_folder(tmp_path / "boxed"), write_folder(tmp_path / "bare", boxes=False)
    before = [load(path).fingerprint for path in (boxed, bare)]
    monkeypatch.setattr(pictures, "answer_phrases", lambda phrases, question, answer: phrases)
    after = [load(path).fingerprint for path in (boxed, bare)]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_settings_of_the_source(tmp_path):
    data = replace(Run(), {"data.source": "folder", "data.directory": "d"}).data
    assert type(data).__name__ == "FolderData"
    for field, value, why in ("image_size", 20, "multiple of 8"), ("box_format", "x", "one of"):
        with pytest.raises(ValueError, match=why):
            replace(Run(), {"data.source": "folder", f"data.{field}": value})


def test_regions_that_overlap_are_all_drawn(tmp_path):
    """The same box under two names is one region; a small one lies over a large one."""
    boxes = {"small": [16, 8, 32, 24], "large": [0, 0, 48, 32], "thing": [0, 0, 48, 32]}
    lines = [
        {"image": f"{n}.png", "caption": "small large thing", "boxes": boxes} for n in range(10)
    ]
    data = load(write_folder(tmp_path, 10, lines))
    test = data.splits["test"]
    small, large, thing = (np.flatnonzero(test.grounded[0, word]) for word in (1, 2, 3))
    assert large.tolist() == thing.tolist() != small.tolist()
    mask = data.masks(np.array([0]))[0]
    assert (mask == small[0] + 1).sum() == 8 * 12
    assert (mask == large[0] + 1).sum() == 24 * 24 - 8 * 12


def test_a_copy_under_another_name_is_in_the_same_part(tmp_path):
    write_folder(tmp_path, 12)
    lines = lines_of(12, boxes=False)
    for number in range(12):
        copy = f"copy{11 - number}.png"
        (tmp_path / copy).write_bytes((tmp_path / f"{number}.png").read_bytes())
        lines.append({"image": copy, "caption": f"copy of {number}"})
    (tmp_path / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    seen = [{image.tobytes() for image in part.images} for part in parts(load(tmp_path)).values()]
    assert sum(map(len, seen)) == 12
    assert [len(one) for one in seen] == [8, 2, 2]
