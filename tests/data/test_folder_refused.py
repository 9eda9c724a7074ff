"""What is wrong with a folder is said in one line, by the number of the line of its file."""

import json
import os

import pytest

from crossattn.data.errors import DataError
from crossattn.data.sources import load_source
from crossattn.train.run import Data
from tests.support.picture_folders import lines_of, write_folder


def said(path, **settings):
    data = Data("folder", directory=str(path), image_size=8, **settings)
    with pytest.raises(DataError) as caught:
        load_source(data, "patch")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_without_a_folder_it_says_what_to_type():
    why = said("")
    assert "type --data.directory DIR" in why
    assert '{"image": "cat.jpg", "caption": "a red cat"}' in why


def test_which_file(tmp_path):
    assert said(tmp_path / "none") == f"there is no folder {tmp_path}/none"
    assert "expected one .jsonl, .json or .csv file" in said(tmp_path)
    write_folder(tmp_path / "deep", 5)
    assert said(tmp_path).endswith(f"did you mean --data.directory {tmp_path}/deep?")
    file = tmp_path / "deep" / "captions.jsonl"
    assert said(file) == (
        f"{file} is a file: type --data.directory {tmp_path}/deep --data.file captions.jsonl"
    )
    (tmp_path / "deep" / "a.csv").write_text("x")
    several = said(tmp_path / "deep")
    assert several.endswith("has a.csv, captions.jsonl: choose one, like --data.file a.csv")
    for name in ("../deep/captions.jsonl", "b.csv", "0.png", str(file)):
        assert f"--data.file {name}: expected a file in" in said(tmp_path / "deep", file=name)
    for empty in ("", "\n\n"):
        file.write_text(empty)
        assert "has no lines" in said(tmp_path / "deep", file="captions.jsonl")


GOOD = lines_of(8)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"image": "0.png", "caption": "a', "is no JSON: Unterminated string"),
        ("[1]", "expected an object like"),
        ('{"image": "0.png", "image": "1.png", "caption": "a"}', "has 'image' twice"),
        ('{"image": "0.png", "caption": NaN}', "has NaN, which is no JSON"),
        ('{"image": "0.png", "caption": "\\udcff"}', "no text of UTF-8"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"image": "0.png", "caption": ' + "9" * 5000 + "}", "digits"),
        ({"caption": "a"}, "has no image"),
        ({"image": 7, "caption": "a"}, "expected a path, got 7"),
        ({"image": "9.png", "caption": "a"}, "there is no picture 9.png in "),
        ({"image": ".", "caption": "a"}, "there is no picture . in "),
        ({"image": "a\0b", "caption": "a"}, "leads out of the folder"),
        ({"image": "../0.png", "caption": "a"}, "../0.png leads out of the folder"),
        ({"image": "a/../../0.png", "caption": "a"}, "leads out of the folder"),
        ({"image": "/etc/passwd", "caption": "a"}, "/etc/passwd leads out of the folder"),
        ({"image": "captions.jsonl", "caption": "a"}, "captions.jsonl holds a picture that cannot"),
        ({"image": "pipe", "caption": "a"}, "there is no picture pipe"),
        ({"image": "0.png"}, "has no caption and no question"),
        ({"image": "0.png", "caption": ""}, "has an empty caption"),
        ({"image": "0.png", "caption": " \u200b "}, "has an empty caption"),
        ({"image": "0.png", "caption": ["a", 7]}, "caption: expected a text, got 7"),
        ({"image": "0.png", "caption": "a " * 300}, "has 300 words, more than 256"),
        ({"image": "0.png", "caption": "['a', 'b']"}, "is a list written as text"),
        ({"image": "0.png", "question": "a?"}, "has no answer to its question"),
        ({"image": "0.png", "answer": "a"}, "has no question to its answer"),
        ({"image": "0.png", "question": "a?", "answer": 3}, "answer: expected a text, got 3"),
        (GOOD[2], "says the same as line 3"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_by_its_number(tmp_path, line, why):
    lines = [json.dumps(one) for one in GOOD]
    lines.append(line if isinstance(line, str) else json.dumps(line))
    write_folder(tmp_path, 8, "\n".join(lines))
    os.mkfifo(tmp_path / "pipe")
    found = said(tmp_path)
    assert found.startswith("captions.jsonl, line 9: ")
    assert why in found


@pytest.mark.parametrize(
    ("boxes", "why"),
    [
        ([1, 2, 3, 4], "boxes takes {"),
        ({"": [1, 2, 3, 4]}, "a box is of a word or a phrase"),
        ({"dog": [1, 2, 3, 4]}, "has a box of 'dog', which no text of it says"),
        ({"a": [1, 2, 3]}, "takes 4 numbers"),
        ({"a": [1, 2, 3, "4"]}, "takes 4 numbers"),
        ({"a": [1, 2, 3, True]}, "takes 4 numbers"),
        ({"a": []}, "takes 4 numbers"),
        ({"a": [[1, 2, 3, 4], 7]}, "takes 4 numbers"),
        ([{"phrase": "a"}], "a box takes box or bbox"),
        ([{"phrase": "a", "word": "a", "box": [1, 2, 3, 4]}], "a box takes phrase or word"),
        ({"a": [10, 2, 3, 4]}, "has no area: expected x0, y0, x1, y1 (x, y, width, height is"),
        ({"a": [1, 2, 50, 4]}, "leaves its picture of 48 x 32 pixels"),
        ({"a": [-9, 2, 5, 4]}, "the box [-9, 2, 5, 4] of 'a' leaves its picture"),
        ({"a": [1, 2, 10**400, 4]}, "takes 4 numbers"),
    ],
)
def test_a_bad_box_is_named_by_its_line(tmp_path, boxes, why):
    lines = [*GOOD, {"image": "0.png", "caption": "a thing", "boxes": boxes}]
    assert f"captions.jsonl, line 9: {why}" in said(write_folder(tmp_path, 8, lines)).replace(
        "the box of 'a' ", ""
    ).replace("the box [10, 2, 3, 4] of 'a' ", "").replace("the box [1, 2, 50, 4] of 'a' ", "")


def test_boxes_in_another_format(tmp_path):
    shares = [{**line, "boxes": {"a": [0, 0, 0.5, 1]}} for line in GOOD]
    assert "type --data.box-format shares" in said(write_folder(tmp_path, 8, shares))
    write_folder(tmp_path, 8)
    assert "is no share of 0 to 1 (pixels are --data.box-format pixels)" in said(
        tmp_path, box_format="shares"
    )


def test_all_bad_lines_are_counted(tmp_path):
    lines = [{**line, "image": "x.png" if n % 2 else line["image"]} for n, line in enumerate(GOOD)]
    lines = [{**line, "caption": ""} if n > 3 else line for n, line in enumerate(lines)]
    found = said(write_folder(tmp_path, 8, lines))
    assert found.startswith("captions.jsonl, line 2: there is no picture x.png in")
    assert found.endswith("; line 5: has an empty caption; line 6: has an empty caption; and "
                          "2 more bad lines")  # fmt: skip


def test_a_broken_picture_is_named_by_its_line(tmp_path):
    write_folder(tmp_path, 8)
    whole = (tmp_path / "4.png").read_bytes()
    for damage in (whole[:60], b"", whole.replace(b"IDAT", b"IDAX")):
        (tmp_path / "4.png").write_bytes(damage)
        assert said(tmp_path).startswith(
            "captions.jsonl, line 5: 4.png holds a picture that cannot"
        )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("image,caption\n0.png,a\n1.png,a,b\n", "captions.csv, line 3: has 3 fields, the first"),
        ('image,caption\n0.png,"a\nb\n', "captions.csv, line 2: is no row of a csv file"),
        ("image,caption\n0.png,a\n\n9.png,a\n", "captions.csv, line 4: there is no picture 9.png"),
        ("image,image\n", "captions.csv has the column 'image' twice"),
        ("image,title\n0.png,a\n", "no column caption (or text) and no question; it has"),
        ("photo;caption\n0.png;a\n", "no column image (or file, file_name, filename); it"),
        ("image,caption,text\n0.png,a,b\n", "has the columns caption and text: choose one, like"),
        ("image,question\n0.png,a\n", "has no column answer beside the question"),
        ("image,caption\n", "has no lines"),
        ("image,caption\n0.png,a" + "a" * 200_000 + "\n", "field larger than field limit"),
        ("image,caption,split\n0.png,a,train\n1.png,b,\n", "line 3: has no split, which other"),
        ("image,caption,split\n0.png,a,train\n1.png,b,x\n", "split: expected train, validation"),
        ("image,caption,split\n0.png,a,train\n0.png,b,val\n",
         "line 3: 0.png is in the split validation, the same picture is in train in line 2"),
        ("image,caption\n0.png,a\n", "1 different pictures are too few to be split"),
    ],
)  # fmt: skip
def test_a_csv_file_that_cannot_be_used(tmp_path, text, why):
    write_folder(tmp_path, 3, text, name="captions.csv")
    assert why in said(tmp_path)


def test_bytes_that_are_no_text(tmp_path):
    write_folder(tmp_path, 8)
    with (tmp_path / "captions.jsonl").open("ab") as file:
        file.write('{"image": "0.png", "caption": "café"}\n'.encode("latin-1"))
    assert said(tmp_path) == "captions.jsonl, line 9: holds what is no text of UTF-8"
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, GOOD)), encoding="utf-16")
    assert said(tmp_path).startswith("captions.jsonl, line 1: ")


def test_a_column_that_is_not_there(tmp_path):
    found = said(write_folder(tmp_path, 8), caption_column="title")
    assert found.startswith(
        "--data.caption-column title: captions.jsonl has no such column; it has"
    )
