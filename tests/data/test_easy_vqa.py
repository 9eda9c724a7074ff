import builtins
import collections
import dataclasses
import re
import sys

import numpy as np
import pytest
from scipy import ndimage

from crossattn.data import easy_vqa
from crossattn.data.easy_vqa.language import GROUPS

COLOURS = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("easy_vqa", reason="the extra easy-vqa is not installed")


@pytest.fixture(scope="module")
def splits(package):
    return {name: easy_vqa.read_split(name) for name in easy_vqa.SPLITS}


def words(data, row):
    return data.words(row).split()


def rows_of(data, kinds):
    return np.isin(data.kind, [data.kinds.index(kind) for kind in kinds])


def floor(data, kinds):
    """Accuracy over all questions of some kinds from the chance level of each kind."""
    chance = np.array([data.chance[kind] for kind in data.kinds])
    return chance[data.kind[rows_of(data, kinds)]].mean()


def test_counts(splits):
    images = {name: len(data.images) for name, data in splits.items()}
    assert images == {"train": 3800, "validation": 200, "test": 1000}
    assert len(splits["train"].tokens) + len(splits["validation"].tokens) == 38_575
    assert len(splits["test"].tokens) == 9_673
    assert rows_of(splits["test"], easy_vqa.OPEN).sum() == 9_673 - 7_136


def test_one_vocabulary_holds_every_answer(splits, package):
    test = splits["test"]
    assert all(data.vocabulary == test.vocabulary for data in splits.values())
    assert test.vocabulary[0] == "<pad>"
    assert list(test.vocabulary[1:]) == sorted(set(test.vocabulary[1:]))
    assert len(package.get_answers()) == 13
    assert set(package.get_answers()) <= set(test.vocabulary)


def test_rows_say_what_the_package_says(splits, package):
    test = splits["test"]
    ours = collections.Counter((test.words(row), int(test.image[row])) for row in range(len(test)))
    theirs = collections.Counter(
        (f"{question.replace('?', ' ?')} {answer}", image)
        for question, answer, image in zip(*package.get_test_questions(), strict=True)
    )
    assert ours == theirs


def test_only_the_answer_is_a_target_and_it_ends_the_row(splits):
    for data in splits.values():
        rows = np.arange(len(data.tokens))
        question_mark = data.vocabulary.index("?")
        assert (data.target.sum(1) == 1).all()
        assert data.target[rows, data.answer].all()
        assert (data.tokens[rows, data.answer - 1] == question_mark).all()
        assert (data.answer + 1 == (data.tokens != 0).sum(1)).all()


def test_validation_images_are_no_training_images(splits):
    train, validation = splits["train"].images, splits["validation"].images
    seen = {image.tobytes() for image in train}
    assert len(seen) == len(train)
    assert seen.isdisjoint(image.tobytes() for image in validation)


def test_question_only_floors(splits):
    test = splits["test"]
    published = {"all": 67.0, "yes/no": 82.5, "open": 23.3}
    closed = [kind for kind in test.kinds if kind not in easy_vqa.OPEN]
    measured = {
        "all": floor(test, test.kinds),
        "yes/no": floor(test, closed),
        "open": floor(test, easy_vqa.OPEN),
    }
    for name, value in published.items():
        assert measured[name] * 100 == pytest.approx(value, abs=0.1), name


def test_chance_is_what_counting_words_gives(splits):
    train, test = splits["train"], splits["test"]
    asked = collections.defaultdict(collections.Counter)
    for row in range(len(train)):
        *question, answer = words(train, row)
        asked[tuple(question)][answer] += 1
    right = collections.defaultdict(list)
    for row in range(len(test)):
        *question, answer = words(test, row)
        guess = asked[tuple(question)].most_common(1)[0][0]
        right[test.kinds[test.kind[row]]].append(guess == answer)
    assert {kind: np.mean(values) for kind, values in right.items()} == pytest.approx(test.chance)


def test_kinds_follow_the_words(splits):
    test = splits["test"]
    shapes = set(easy_vqa.SHAPES)
    for row in range(len(test)):
        *question, answer = words(test, row)
        if answer in ("yes", "no"):
            kind = "shape yes/no" if shapes & set(question) else "colour yes/no"
        else:
            kind = "shape" if answer in shapes else "colour"
        assert test.kinds[test.kind[row]] == kind


def blobs(masks):
    """Number of 4-connected blobs over all images together."""
    inside_an_image = np.zeros((3, 3, 3), bool)
    inside_an_image[1] = ndimage.generate_binary_structure(2, 1)
    return ndimage.label(masks, inside_an_image)[1]


@pytest.mark.parametrize("split", easy_vqa.SPLITS)
def test_region_is_one_blob_without_holes(splits, split):
    regions = easy_vqa.region(splits[split].images)
    assert regions.sum((1, 2)).min() >= 40
    assert blobs(regions) == len(regions)
    ground = np.pad(~regions, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    assert blobs(ground) == len(regions)


@pytest.mark.parametrize("split", easy_vqa.SPLITS)
def test_object_has_the_colour_that_the_words_say(splits, split):
    """The words' truth against the pixels, which had no part in it."""
    data = splits[split]
    pixels = data.images.reshape(len(data.images), -1, 3)
    # The pixel deepest in one channel is the least mixed with the ground.
    core = pixels[np.arange(len(pixels)), pixels.min(-1).argmin(1)].astype(int)
    names = list(COLOURS)
    distance = np.abs(core[:, None] - np.array([COLOURS[name] for name in names])[None]).sum(-1)
    seen = np.array([data.vocabulary.index(name) for name in names])[distance.argmin(1)]
    colour = data.group == GROUPS.index("colour")
    row, _ = np.nonzero(colour)
    true = data.tokens[colour] == seen[data.image[row]]
    np.testing.assert_array_equal(data.grounded[colour][:, 0], true)


def test_shape_words_never_contradict_each_other(splits):
    for data in splits.values():
        place = data.group == GROUPS.index("shape")
        row, _ = np.nonzero(place)
        held, denied = set(), set()
        for image, token, true in zip(
            data.image[row], data.tokens[place], data.grounded[place][:, 0], strict=True
        ):
            (held if true else denied).add((int(image), int(token)))
        assert held.isdisjoint(denied)
        assert len({image for image, _ in held}) == len(held)


@pytest.mark.parametrize(
    ("text", "pointing"),
    [
        (r"is there a (?P<word>\w+) (?P<thing>shape) \? yes", True),
        (r"is there a (?P<word>\w+) (?P<thing>shape) \? no", False),
        (r"is there not a (?P<word>\w+) (?P<thing>shape) \? yes", False),
        (r"is there not a (?P<word>\w+) (?P<thing>shape) \? no", True),
        (r"is no (?P<word>\w+) present \? yes", False),
        (r"does the image not contain a (?P<word>\w+) \? no", True),
        (r"what color is the (?P<word>circle) \? \w+", True),
        (r"what is the (?P<word>\w+) (?P<thing>shape) \? \w+", True),
        (r"what color is the (?P<word>shape) \? \w+", True),
        (r"(?P<word>what) shape is in the image \? \w+", False),
    ],
)
def test_words_point_where_they_are_true(splits, text, pointing):
    test, found = splits["test"], 0
    for row in range(len(test)):
        if match := re.fullmatch(text, test.words(row)):
            found += 1
            expected = np.zeros(test.tokens.shape[1], bool)
            expected[words(test, row).index(match["word"])] = pointing
            if "thing" in match.groupdict():
                expected[words(test, row).index("shape")] = pointing
            expected[test.answer[row]] = True
            np.testing.assert_array_equal(test.grounded[row, :, 0], expected)
    assert found > 20


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("is no gray shape present ? yes", "none none colour thing none none verdict"),
        ("is there not a circle ? no", "none none none none shape none verdict"),
        ("what color is the shape ? teal", "none none none none thing none colour"),
        ("what is the red shape ? triangle", "none none none colour thing none shape"),
        ("what shape is present ? circle", "none none none none none shape"),
    ],
)
def test_roles(splits, text, roles):
    test = splits["test"]
    row = next(row for row in range(len(test)) if test.words(row) == text)
    assert [GROUPS[role] for role in test.group[row]][: test.answer[row] + 1] == roles.split()
    assert not test.group[row, test.answer[row] + 1 :].any()


@pytest.mark.parametrize(("cell", "window", "grid"), [(8, 2, 7), (16, 1, 4), (8, 1, 8), (4, 5, 12)])
def test_coverage_is_the_covered_fraction_of_each_window(package, cell, window, grid):
    data = easy_vqa.read_split("validation", cell=cell, window=window, limit=3)
    assert data.grid == (grid, grid)
    assert data.coverage.shape == (3, 1, grid * grid)
    assert data.coverage.dtype == np.float32
    assert data.coverage.min() >= 0
    assert data.coverage.max() <= 1
    regions = easy_vqa.region(data.images)
    for image in range(3):
        for patch in range(grid * grid):
            top, left = (cell * step for step in divmod(patch, grid))
            size = cell * window
            expected = regions[image, top : top + size, left : left + size].mean()
            assert data.coverage[image, 0, patch] == pytest.approx(expected, abs=1e-6)


def test_pointing_chance_and_best_fixed_patch(splits, package):
    """The two levels that a pointing figure is read beside: patches of 8 pixels, any overlap."""
    test = splits["test"]
    truth = easy_vqa.window_coverage(easy_vqa.region(test.images), cell=8, window=1) > 0
    truth = truth[test.image[rows_of(test, easy_vqa.OPEN)]]
    assert truth.mean() == pytest.approx(0.18, abs=0.005)
    assert truth.mean(0).max() == pytest.approx(0.42, abs=0.005)


def test_limit_takes_the_first_images_with_all_their_questions(splits):
    whole, part = splits["validation"], easy_vqa.read_split("validation", limit=5)
    rows = np.flatnonzero(whole.image < 5)
    np.testing.assert_array_equal(part.images, whole.images[:5])
    for field in dataclasses.fields(whole):
        if field.name in ("image", "tokens", "target", "grounded", "group", "kind", "answer"):
            np.testing.assert_array_equal(
                getattr(part, field.name), getattr(whole, field.name)[rows], err_msg=field.name
            )
    assert part.chance == whole.chance


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "pairs"}, "unknown split 'pairs': easy-VQA has train, validation, test"),
        ({"cell": 7}, "cell=7 does not divide the image's side of 64 pixels"),
        ({"cell": 0}, "cell=0 does not divide"),
        ({"window": 9}, "window=9 cells: an image of 64 pixels has 1 to 8 cells of 8 pixels"),
        ({"window": 0}, "window=0 cells"),
        ({"limit": 0}, "limit is a number of images, at least 1, or None; got 0"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        easy_vqa.read_split(**{"split": "test"} | settings)


def test_missing_package_says_what_to_type(monkeypatch):
    find = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "easy_vqa":
            raise ModuleNotFoundError("No module named 'easy_vqa'", name="easy_vqa")
        return find(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "easy_vqa", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError) as caught:
        easy_vqa.read_split("test")
    assert str(caught.value) == (
        "easy-VQA is not installed; type: make setup, or pip install easy-vqa==1.0"
    )
    # One line on the screen: no "during handling of" above it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
