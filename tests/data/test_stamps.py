"""Scenes of photographs: what is chosen, where it stands, and that every pixel is known."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossattn.data.builders.builder import build_set, find_builder
from crossattn.data.builders.stamp_photographs import find_grounds, find_things
from crossattn.data.builders.stamp_scenes import held_out_place
from crossattn.data.builders.stamp_words import LANGUAGES
from crossattn.data.builders.stamps import INSTALLED, StampSettings
from crossattn.data.errors import DataError
from tests.support.made_up_stamps import NAMES, PHOTOGRAPHS, write_stamps_package

PLACES = LANGUAGES["en"].places
HUES = {said.split(" ", 1)[1].rstrip(".").lower(): hue for said, (_, hue) in PHOTOGRAPHS.items()}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_stamps_package(tmp_path_factory.mktemp("package"))


def build(package, out, **settings):
    small = {"images": 40, "evaluation_images": 20, "things": 6, "image_size": 32} | settings
    build_set(find_builder("stamps"), out, StampSettings(**small), package)
    return out


def lines_of(folder):
    return [json.loads(line) for line in (folder / "texts.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def scenes(package, tmp_path_factory):
    return build(package, tmp_path_factory.mktemp("sets") / "stamps")


def test_photographs_of_things_with_a_plain_name_are_chosen(package):
    stamps = package / INSTALLED.relative_to("/")
    things = find_things(stamps, "en")
    assert [thing.named.name for thing in things] == NAMES
    assert {thing.named.called for thing in things} >= {"an owl", "a brown bear"}
    german = [thing.named.called for thing in find_things(stamps, "de")]
    assert german == ["eine birne", "eine eule", "eine krähe", "eine kuh"]
    assert [file.parent.name for file in find_grounds(stamps)] == ["flowers"]
    (one,) = find_things(stamps, "fr")
    assert one.named.name == "truc"
    assert len(one.files) == 7
    with pytest.raises(DataError, match="no photograph of a thing with a name in it"):
        find_things(stamps, "it")


def test_a_thing_is_never_where_it_is_held_out(scenes):
    told = re.compile(r"an? ([a-z ]+?) in the (upper left|upper right|lower left|lower right)")
    order = [
        line.split(":")[0]
        for line in (scenes / "README.txt").read_text().splitlines()
        if "never in place" in line
    ]
    assert sorted(order) == NAMES
    seen = {"train": set(), "validation": set(), "test": set(), "pairs": set()}
    for line in lines_of(scenes):
        if "caption" in line:
            found = [(name, PLACES.index(place)) for name, place in told.findall(line["caption"])]
            assert 1 <= len(found) <= 3
            assert [place for _, place in found] == sorted({place for _, place in found})
            new = {(name, place) for name, place in found if order.index(name) % 4 == place}
            assert len(new) == (line["split"] == "pairs")
            seen["pairs"] |= new
            seen[line["split"]] |= {*found} - new
    held = {(name, held_out_place(number)) for number, name in enumerate(order)}
    assert held <= seen["pairs"]
    assert seen["train"] == {(name, place) for name in order for place in range(4)} - held


def test_masks_and_texts_say_what_the_pixels_are(scenes):
    """The hue of a thing's photograph is planted; light changes it little."""
    checked = 0
    for line in lines_of(scenes):
        picture = np.asarray(Image.open(scenes / line["image"]).convert("HSV")).astype(int)
        for phrase, regions in line["masks"].items():
            for region in regions:
                file, number = region.split("#")
                mask = np.asarray(Image.open(scenes / file)) == int(number)
                assert mask.sum() > 30
                if phrase in HUES:
                    away = (picture[mask][:, 0] - HUES[phrase] + 128) % 256 - 128
                    assert np.median(np.abs(away)) <= 3
                    checked += 1
                if phrase in PLACES:
                    place = PLACES.index(phrase)
                    rows, columns = np.nonzero(mask)
                    assert set(rows // 16 * 2 + columns // 16) == {place}
    assert checked > 100


def test_questions_have_the_answers_that_the_caption_tells(scenes):
    captions = {line["image"]: line["caption"] for line in lines_of(scenes) if "caption" in line}
    kinds = dict.fromkeys(("what", "where", "how", "is"), 0)
    verdicts = []
    for line in lines_of(scenes):
        if "question" not in line:
            continue
        told, asked, answer = captions[line["image"]], line["question"], line["answer"]
        kind = asked.split()[0]
        kinds[kind] += 1
        if kind == "what":
            assert f"{answer} {asked.removeprefix('what is ').rstrip('?')}" in told
        elif kind == "where":
            assert f"{asked.removeprefix('where is the ').rstrip('?')} in the {answer}" in told
        elif kind == "how":
            assert int(answer) == told.count(" in the ") == len(line["masks"][answer])
        else:
            assert (answer == "yes") == (
                f"{asked.removeprefix('is there ').rstrip('?')} in" in told
            )
            verdicts.append(answer)
        if line["split"] == "pairs":
            assert kind in ("what", "where")
    assert kinds["what"] == kinds["where"] > kinds["how"] + kinds["is"] == 80
    assert min(kinds["how"], kinds["is"]) > 25
    assert 10 <= verdicts.count("yes") <= kinds["is"] - 10


def test_the_same_seed_gives_the_same_bytes(package, scenes, tmp_path):
    again = build(package, tmp_path / "again")
    other = build(package, tmp_path / "other", seed=1)
    for name in ("texts.jsonl", "images/pairs-00003.png", "masks/train-00039.png"):
        assert (again / name).read_bytes() == (scenes / name).read_bytes()
        assert (other / name).read_bytes() != (scenes / name).read_bytes()
    assert "License: GPL-2" in (scenes / "LICENCES.txt").read_text()


def test_other_languages_and_too_few_things(package, tmp_path):
    german = build(package, tmp_path / "de", language="de", things=4, images=4, evaluation_images=4)
    said = {line.get("question", "").split(" ")[0] for line in lines_of(german)}
    assert said == {"", "was", "wo", "wie", "ist"}
    with pytest.raises(DataError, match="there are 4 things with a name in de: give --things 4"):
        build(package, tmp_path / "many", language="de")
    assert not (tmp_path / "many").exists()


@pytest.mark.slow
def test_the_package_has_things_in_every_language():
    if not INSTALLED.is_dir():
        pytest.skip("tuxpaint-stamps-default is not installed: apt-get install it")
    least = {"en": 120, "de": 90, "fr": 90, "es": 90, "it": 70, "nl": 90}
    for language, count in least.items():
        assert len(find_things(Path(INSTALLED), language)) >= count
