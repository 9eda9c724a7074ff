"""Characters and their parts: strokes as another reader has them, masks, held-out pairs."""

import json
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
from crossattn.data.builders.kanji_characters import keep_frequent, read_glyphs
from crossattn.data.builders.kanji_pictures import POSITIONS, hold_out
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


SMALL = KanjiSettings(images=40, evaluation_images=12, parts=5, image_size=64)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "texts.jsonl").read_text("utf-8").splitlines()]


def test_parts_are_read_as_each_character_has_them(package):
    glyphs = read_glyphs(package / "kanji")
    # Two of 80 characters each, and two of one whose third part is in pieces.
    assert len(glyphs) == 162
    assert [(glyph.element, len(glyph.strokes)) for glyph in glyphs[:2]] == [("木", 4), ("口", 3)]
    assert glyphs[0].sign == glyphs[1].sign == "一"
    np.testing.assert_allclose(glyphs[0].strokes[0], [[8, 46], [44, 46]])
    kept = keep_frequent(glyphs, 2)
    assert list(kept) == ["一", "口"]
    assert [len(own) for own in kept.values()] == [32, 34]
    with pytest.raises(DataError, match="there are 5 different parts"):
        keep_frequent(glyphs, 6)


def test_masks_are_the_strokes_of_their_part(built):
    """All ink of a quarter is of the part that is there, and no other pixel is."""
    captions = [line for line in lines_of(built) if "caption" in line]
    assert len(captions) == 40 + 3 * 12
    for line in captions:
        grey = np.asarray(Image.open(built / line["image"]).convert("L")).astype(float)
        (file,) = {name.split("#")[0] for own in line["masks"].values() for name in own}
        regions = np.asarray(Image.open(built / file))
        share = (grey.max() - grey) / (grey.max() - grey.min())
        assert (share[regions > 0] > 0.35).all()
        assert (share[regions == 0] < 0.45).all()
        assert [line["masks"][one] for one in POSITIONS] == [[f"{file}#{n}"] for n in range(1, 5)]
        assert sorted(set(regions.ravel())) == [0, 1, 2, 3, 4]
        places = {number: np.nonzero(regions == number) for number in range(1, 5)}
        for one, other in ((1, 2), (3, 4)):
            assert places[one][1].max() < places[other][1].min()
        for one, other in ((1, 3), (2, 4)):
            assert places[one][0].max() < places[other][0].min()


def told(caption):
    return {tuple(one.split(" in the ")) for one in caption.split(" and ")}


def test_held_out_pairs_are_never_in_training_and_alone_asked_for(built, package):
    lines = lines_of(built)
    held = hold_out(list(keep_frequent(read_glyphs(package / "kanji"), 5)))
    assert len(held) == 2
    captions = {line["image"]: told(line["caption"]) for line in lines if "caption" in line}
    asked_for = set()
    for line in lines:
        there, asked = captions[line["image"]], line.get("question", "").rstrip(" ?").split(" ")
        assert bool(there & held) == (line["split"] == "pairs")
        match asked[:1]:
            case ["which"]:
                pair = line["answer"], " ".join(asked[-2:])
            case ["where"]:
                pair = asked[-1], line["answer"]
            case ["is"]:
                assert (line["answer"] == "yes") == (asked[-1] in {part for part, _ in there})
                assert line["split"] != "pairs"
                continue
            case _:
                continue
        assert pair in there
        assert (pair in held) == (line["split"] == "pairs")
        asked_for |= {pair} & held
    assert asked_for == held


def test_no_character_gives_strokes_to_training_and_to_another_split(built):
    signs = {}
    for line in lines_of(built):
        signs.setdefault(line["split"], set()).update(line["characters"])
    assert not signs["train"] & (signs["validation"] | signs["test"] | signs["pairs"])
    assert not signs["validation"] & (signs["test"] | signs["pairs"])


def test_every_third_part_lacks_one_position():
    elements = [chr(0x4E00 + number) for number in range(24)]
    held = hold_out(elements)
    assert len(held) == 8
    assert len({part.element for part in held}) == 8
    assert {part.position for part in held} == set(POSITIONS)


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
        read_glyphs(folder)

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(kanji.metadata, "distribution", absent)
    with pytest.raises(DataError, match="is not installed: type pip install kanjivg, or give"):
        build_set(find_builder("kanji"), tmp_path / "out", SMALL)
    with pytest.raises(ValueError, match="image_size is a multiple of 8 from 16 on, got 20"):
        KanjiSettings(image_size=20)
    with pytest.raises(ValueError, match="parts must be over 4, got 4"):
        KanjiSettings(parts=4)
    few = sorted((write_kanji_package(tmp_path / "few") / "kanji").glob("04e*.svg"))
    for number, file in enumerate(few):
        if number % 9:
            file.unlink()
    with pytest.raises(DataError, match=r"9 characters are too few: none with . is left for vali"):
        build_set(find_builder("kanji"), tmp_path / "out", SMALL, tmp_path / "few")


@pytest.mark.slow
def test_the_package_has_frequent_parts():
    if kanji._installed() is None:
        pytest.skip("the package is not installed: pip install kanjivg")
    parts = keep_frequent(read_glyphs(kanji._installed()), 24)
    assert "木" in parts
    # The rarest is in 66 characters of the edition of July 2026.
    assert min(len(glyphs) for glyphs in parts.values()) > 60
