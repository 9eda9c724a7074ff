"""Characters and their parts: strokes as another reader has them, masks, held-out pairs."""

import json
import re
from importlib import metadata

import numpy as np
import pytest
from fontTools.misc.bezierTools import cubicPointAtT
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path as fonttools_path
from PIL import Image

from crossattn.data.builders import kanji
from crossattn.data.builders.builder import build_set, find_builder
from crossattn.data.builders.kanji import KanjiSettings
from crossattn.data.builders.kanji_characters import hold_out, keep_frequent, read_characters
from crossattn.data.builders.strokes import POINTS, draw_strokes, parse_path
from crossattn.data.errors import DataError
from tests.support.made_up_kanji import PARTS, write_character, write_kanji_package

PATHS = [
    "M37.65,38.83c2.45,0.97,5.18,0.75,7.73,0.54c11.76-0.97,24.94-3.35,37.49-4.01",
    "M1 2C3,4 5,6 7,8S9,1 2,3s-1-2-.5,1e1l3,4L5,6h2H9v-1V3",
    "m5,5 1,1 2,0s1,1 2,3M0,0"[:-4],
    *(path for part in PARTS.values() for path in part),
]


def points_of_others(path):
    """The same points, by fontTools."""
    pen = RecordingPen()
    fonttools_path(path, pen)
    points, here = [], None
    for command, given in pen.value:
        if command == "curveTo":
            points += [cubicPointAtT(here, *given, t / POINTS) for t in range(1, POINTS + 1)]
        elif command in ("moveTo", "lineTo"):
            points.append(given[0])
        here = given[-1] if given else here
    return np.array(points)


@pytest.mark.parametrize("path", PATHS)
def test_strokes_are_as_another_reader_has_them(path):
    np.testing.assert_allclose(parse_path(path), points_of_others(path), atol=1e-9)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "is no path of SVG"),
        ("c1,2,3,4,5,6", "is no path of SVG"),
        ("M1,2 % 3", "is no path of SVG"),
        ("M1,2Q1,2,3,4", "has Q with 0 numbers"),
        ("M1,2C1,2,3", "has C with 3 numbers"),
        ("M1,2L3", "has L with 1 numbers"),
        ("M1,2M3,4", "is no single stroke"),
        ("M1,2L3,4z", "has z with 0 numbers"),
    ],
)
def test_what_is_no_stroke_is_refused(path, said):
    with pytest.raises(DataError, match=said):
        parse_path(path)


def test_a_stroke_covers_what_is_near_it():
    """By the definition: the share of a pixel's points within half a width of the line."""
    stroke = parse_path("M4,4L20,6c6,1 8,6 6,20")
    fine = (np.arange(32 * 8) + 0.5) / 8
    points = np.stack(np.meshgrid(fine, fine), -1).reshape(-1, 1, 2)
    a, b = stroke[:-1], stroke[1:]
    along = ((points - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1)
    nearest = a + np.clip(along, 0, 1)[..., None] * (b - a)
    inside = np.hypot(*np.moveaxis(points - nearest, -1, 0)).min(1) <= 1.5
    wanted = inside.reshape(32, 8, 32, 8).mean((1, 3))
    found = draw_strokes([stroke], 32, 3.0)
    assert np.abs(found - wanted).mean() < 0.006
    assert found.sum() == pytest.approx(wanted.sum(), rel=0.03)
    # Half of a pixel and more is the same pixels, but for some at the rim.
    assert ((found >= 0.5) == (wanted >= 0.5)).mean() > 0.99


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_kanji_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def built(package, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "kanji"
    build_set(find_builder("kanji"), out, SMALL, package)
    return out


SMALL = KanjiSettings(images=40, evaluation_images=12, parts=4, image_size=64)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "texts.jsonl").read_text("utf-8").splitlines()]


def test_parts_with_one_place_are_read(package):
    characters = read_characters(package / "kanji")
    assert len(characters) == 80
    first = characters[0]
    assert [(part.element, part.position) for part in first.parts] == [
        ("木", "left"),
        ("口", "right"),
    ]
    assert [part.strokes for part in first.parts] == [(0, 1, 2, 3), (4, 5, 6)]
    np.testing.assert_allclose(first.strokes[0], [[8, 46], [44, 46]])
    kept = keep_frequent(characters, 2)
    assert len({part.element for one in kept for part in one.parts}) == 2
    with pytest.raises(DataError, match="there are 5 different parts"):
        keep_frequent(characters, 6)


def test_masks_are_the_strokes_of_their_part(built):
    """All ink of a half is of the part that is there, and no other pixel is."""
    two = 0
    for line in lines_of(built):
        if "caption" not in line or " and " not in line["caption"]:
            continue
        two += 1
        grey = np.asarray(Image.open(built / line["image"]).convert("L")).astype(float)
        (file,) = {name.split("#")[0] for own in line["masks"].values() for name in own}
        regions = np.asarray(Image.open(built / file))
        share = (grey.max() - grey) / (grey.max() - grey.min())
        numbers = {place: int(own[0].split("#")[1]) for place, own in line["masks"].items()}
        assert set(regions.ravel()) == {0, 1, 2}
        assert (share[regions > 0] > 0.35).all()
        assert (share[regions == 0] < 0.45).all()
        y, x = np.nonzero(regions == 1)
        v, u = np.nonzero(regions == 2)
        if "left" in numbers:
            assert numbers["left"] == 1
            assert x.max() < u.min()
        else:
            assert numbers["top"] == 1
            assert y.max() < v.min()
    assert two > 20


def test_held_out_pairs_and_new_characters(built, package):
    lines = lines_of(built)
    held = hold_out(keep_frequent(read_characters(package / "kanji"), 4))
    assert len(held) == 2
    told = re.compile(r"(\S+) (?:on the|at the) (left|right|top|bottom)")
    signs = {}
    for line in lines:
        signs.setdefault(line["split"], set()).add(line["character"])
        if "caption" in line:
            found = set(told.findall(line["caption"]))
            assert bool(found & held) == (line["split"] == "pairs")
    assert all(not signs[one] & signs[two] for one in signs for two in signs if one < two)
    captions = {line["image"]: line["caption"] for line in lines if "caption" in line}
    for line in lines:
        caption, asked = captions[line["image"]], line.get("question", "").split()
        match asked[:1]:
            case ["which"]:
                where = " ".join(asked[3:]).rstrip("?")
                pair = (line["answer"], where.split()[-1])
                assert f"{line['answer']} {where}" in caption
            case ["where"]:
                pair = (asked[2], line["answer"])
                assert pair in told.findall(caption)
            case ["is"]:
                assert (line["answer"] == "yes") == (asked[2] in caption)
                assert line["split"] != "pairs"
                continue
            case _:
                continue
        assert (pair in held) == (line["split"] == "pairs")


def test_a_part_does_not_tell_whether_it_is_there(tmp_path):
    """One part is four times as frequent as the others: "no" asks for it as often as "yes"."""
    package = write_kanji_package(tmp_path / "package", often="木")
    settings = KanjiSettings(images=300, evaluation_images=4, parts=5, image_size=16)
    build_set(find_builder("kanji"), tmp_path / "out", settings, package)
    asked = [line for line in lines_of(tmp_path / "out") if line.get("question", "")[:2] == "is"]
    tree = {
        verdict: np.mean(["木" in line["question"] for line in asked if line["answer"] == verdict])
        for verdict in ("yes", "no")
    }
    # "No" can ask for it of the half of the characters that lack it; of five parts asked for
    # alike it would be in 0.14 of them.
    assert tree["yes"] > 0.3
    assert tree["no"] > 0.2


def test_the_same_seed_gives_the_same_bytes(built, package, tmp_path):
    build_set(find_builder("kanji"), tmp_path / "again", SMALL, package / "kanji")
    for name in ("texts.jsonl", "images/train-00007.png", "masks/pairs-00003.png", "README.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (built / name).read_bytes()
    assert "CC-BY-SA" in (built / "LICENCES.txt").read_text("utf-8")


def test_damage_and_absence_are_said(tmp_path, monkeypatch):
    folder = tmp_path / "kanji"
    folder.mkdir()
    write_character(folder, 0x4E00, "<g>")
    with pytest.raises(DataError, match=r"04e00\.svg cannot be read: mismatched tag"):
        read_characters(folder)

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(kanji.metadata, "distribution", absent)
    with pytest.raises(DataError, match="is not installed: type pip install kanjivg, or give"):
        build_set(find_builder("kanji"), tmp_path / "out", SMALL)
    with pytest.raises(ValueError, match="image_size is a multiple of 8 from 16 on, got 20"):
        KanjiSettings(image_size=20)


@pytest.mark.slow
def test_the_package_has_frequent_parts_and_pairs_to_hold_out():
    if kanji._installed() is None:
        pytest.skip("the package is not installed: pip install kanjivg")
    characters = keep_frequent(read_characters(kanji._installed()), 60)
    assert len(characters) > 4_000
    assert ("木", "top") in hold_out(characters)
