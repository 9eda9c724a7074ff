"""Every word means what it says: answers and regions recomputed from attributes, by another way."""

import functools
import re

import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.scenes.language import GROUPS

COLOURS = "red|yellow|green|blue|pink|white"
SHAPES = "circle|square|triangle|ring|cross|star"
RELATIONS = {
    "left of": lambda a, b: a[0] < b[0],
    "right of": lambda a, b: a[0] > b[0],
    "above": lambda a, b: a[1] < b[1],
    "below": lambda a, b: a[1] > b[1],
}
NAMES = "|".join(RELATIONS)
COUNTS = {"train": 120, "iid": 120, "pairs": 100, "count": 100, "relations": 100, "swap": 100}


@functools.cache
def drawn(split, seed=2):
    tasks = ("question", "caption") + (("refer",) if COUNTS[split] == 120 else ())
    arguments = {"seed": seed, "tasks": tasks}
    world = scenes.draw_scenes(split, COUNTS[split], **arguments)
    return world, scenes.examples(split, COUNTS[split], **arguments, noise=0.0)


def objects_of(world, scene):
    pairs = world.pairs(scene)
    return [
        (*pair, tuple(spot))
        for pair, spot in zip(pairs, world.centre[scene].tolist(), strict=False)
    ]


def find(objects, colour=None, shape=None):
    return {o for o, (c, s, _) in enumerate(objects) if colour in (None, c) and shape in (None, s)}


def answer(text, objects):
    """Solve a question: the answer, and what its words mean, word by word from the left."""
    spot = [place for _, _, place in objects]
    if m := re.fullmatch(f"what colour is the ({SHAPES}) \\?", text):
        (it,) = find(objects, shape=m[1])
        return objects[it][0], {m[1]: {it}}, {it}
    if m := re.fullmatch(f"what shape is the ({COLOURS}) thing \\?", text):
        (it,) = find(objects, colour=m[1])
        return objects[it][1], {m[1]: {it}, "thing": {it}}, {it}
    if m := re.fullmatch(f"is there a ({COLOURS}) ({SHAPES}) \\?", text):
        found = find(objects, m[1], m[2])
        return ("yes" if found else "no"), {m[1]: found, m[2]: found}, found
    if m := re.fullmatch(f"how many ({COLOURS}|{SHAPES}) things are there \\?", text):
        found = find(objects, colour=m[1]) | find(objects, shape=m[1])
        number = [None, "one", "two", "three", "four"][len(found)]
        return number, {m[1]: found, "many": found, "things": found}, found
    if m := re.fullmatch(
        f"is the ({COLOURS}) ({SHAPES}) ({NAMES}) the ({COLOURS}) ({SHAPES}) \\?", text
    ):
        (a,), (b,) = find(objects, m[1], m[2]), find(objects, m[4], m[5])
        verdict = "yes" if RELATIONS[m[3]](spot[a], spot[b]) else "no"
        meaning = [{a}, {a}, {a, b}, {b}, {b}]
        words = [m[1], m[2], m[3].split()[0], m[4], m[5]]
        return verdict, list(zip(words, meaning, strict=True)), {a, b}
    m = re.fullmatch(f"the ({COLOURS}) thing ({NAMES}) the ({SHAPES}) \\?", text)
    (mark,) = find(objects, shape=m[3])
    alike = find(objects, colour=m[1])
    assert len(alike) == 2, "two things of the colour, on both sides of the landmark"
    (it,) = {o for o in alike if RELATIONS[m[2]](spot[o], spot[mark])}
    meaning = {m[1]: {it}, "thing": {it}, m[2].split()[0]: {it, mark}, m[3]: {mark}}
    return objects[it][1], meaning, {it}


def meanings(data, row):
    """List the words of a row that refer to anything or could, with their objects."""
    marked = data.grounded[row]
    return [
        (data.vocabulary[token], set(np.flatnonzero(marked[t]).tolist()))
        for t, token in enumerate(data.tokens[row])
        if marked[t].any() or GROUPS[data.group[row, t]] not in ("none",)
    ]


@pytest.mark.parametrize("split", ["train", "iid", "pairs", "count", "relations"])
def test_answers_and_regions_of_questions(split):
    world, data = drawn(split)
    asked = np.flatnonzero(data.answer)
    assert len(asked) == COUNTS[split]
    for row in asked:
        text = data.words(row).removeprefix("<bos> ").removesuffix(" <eos>")
        text, given = text.rsplit(" ", 1)
        expected, meaning, region = answer(text, objects_of(world, data.image[row]))
        assert given == expected, data.words(row)
        assert data.vocabulary[data.tokens[row, data.answer[row]]] == given
        pairs = list(meaning.items()) if isinstance(meaning, dict) else meaning
        # The words in the order of the text; sort both sides where a dict forgot it.
        expected_words = [*pairs, (given, region)]
        key = lambda item: (item[0], sorted(item[1]))
        assert sorted(meanings(data, row), key=key) == sorted(expected_words, key=key)
        assert np.flatnonzero(data.target[row]).tolist() == [data.answer[row]]


@pytest.mark.parametrize("split", ["train", "pairs", "count"])
def test_captions_name_objects_from_left_to_right(split):
    world, data = drawn(split)
    captions = data.rows(data.kind == data.kinds.index("caption"))
    assert captions.image.tolist() == list(range(COUNTS[split]))
    for row in range(len(captions)):
        objects = objects_of(world, row)
        order = sorted(range(len(objects)), key=lambda o: objects[o][2][0])
        expected = [(word, {o}) for o in order for word in objects[o][:2]]
        assert meanings(captions, row) == expected
        words = [word for word, _ in expected]
        assert captions.words(row) == " ".join(["<bos> describe", *words, "<eos>"])
        assert np.flatnonzero(captions.target[row]).tolist() == list(range(2, len(words) + 3))
        assert captions.answer[row] == 0


def test_roles_follow_the_words():
    _, data = drawn("iid")
    seen = {}
    for group, token in zip(data.group.ravel(), data.tokens.ravel(), strict=True):
        seen.setdefault(GROUPS[group], set()).add(data.vocabulary[token])
    assert seen["colour"] == set(COLOURS.split("|"))
    assert seen["shape"] == set(SHAPES.split("|"))
    assert seen["relation"] == {"left", "right", "above", "below"}
    assert seen["count"] == {"many", "one", "two", "three", "four"}
    assert seen["thing"] == {"thing", "things"}
    assert seen["verdict"] == {"yes", "no"}
    assert {"<pad>", "<bos>", "<eos>", "of", "?", "colour", "shape"} <= seen["none"]
    assert not data.grounded[data.group == GROUPS.index("none")].any()


def test_regions_are_the_union_of_objects():
    _, data = drawn("train")
    region = data.regions()
    for row in range(len(data)):
        covered = data.coverage[data.image[row]]
        for t in range(data.tokens.shape[1]):
            expected = sum(
                (covered[o] for o in np.flatnonzero(data.grounded[row, t])), 0 * covered[0]
            )
            np.testing.assert_array_equal(region[row, t], expected)
    chosen = [5, 3, 2]
    np.testing.assert_array_equal(data.regions(chosen), region[chosen])
    assert region.max() <= 1


def test_held_out_pairs_are_only_in_pairs():
    pair = re.compile(f"\\b({COLOURS}) ({SHAPES})\\b")
    held_out = {(c, s) for c in COLOURS.split("|") for s in SHAPES.split("|")}
    known = set()
    for split in ("train", "iid", "count", "relations", "swap"):
        world, data = drawn(split)
        for n in range(len(world)):
            known |= set(world.pairs(n))
        for row in range(len(data)):
            known |= set(pair.findall(data.words(row)))
    held_out -= known
    assert len(held_out) == 6
    assert len({c for c, _ in held_out}) == len({s for _, s in held_out}) == 6, "a Latin square"
    world, data = drawn("pairs")
    for n in range(len(world)):
        assert sum(own in held_out for own in world.pairs(n)) == 1
    for row in np.flatnonzero(data.answer):
        (asked,) = np.flatnonzero(data.grounded[row, data.answer[row]])
        assert world.pairs(data.image[row])[asked] in held_out


def asked_relations(split, count):
    world = scenes.draw_scenes(split, count, seed=4)
    return {(q.first[1], q.relation, q.second[1]) for q in world.questions if q.kind == "relation"}


def test_held_out_relations_are_never_asked_in_training():
    held_out = asked_relations("relations", 600)
    assert len(held_out) == 24, "one in six of 6 x 4 x 6"
    assert not held_out & asked_relations("train", 6000)
    for relation in ("left", "right", "above", "below"):
        firsts, seconds = zip(*((a, b) for a, r, b in held_out if r == relation), strict=True)
        assert sorted(firsts) == sorted(seconds) == sorted(SHAPES.split("|"))


def test_swap_pairs_use_the_same_words():
    world, data = drawn("swap")
    assert set(data.kind) == {data.kinds.index("match")}
    assert len(data) == 2 * len(world)
    for first in range(0, len(data), 4):
        text = [data.words(row).split() for row in range(first, first + 4)]
        image = data.image[first : first + 4].tolist()
        assert text[0] == text[1] != text[2] == text[3]
        assert sorted(text[0]) == sorted(text[2])
        assert image == [first // 2, first // 2 + 1] * 2
        assert text[0][3::2] == text[2][3::2], "the shapes keep their places"
        for row in range(first, first + 4):
            own = [word for pair in world.pairs(data.image[row]) for word in pair]
            right = text[row - first][2:-1] == own
            assert right == (row - first in (0, 3))
            # A word about nothing in the picture points nowhere.
            assert data.grounded[row].any() == right
        np.testing.assert_array_equal(world.centre[first // 2], world.centre[first // 2 + 1])


def test_count_has_more_objects_than_training():
    sizes = {split: set((drawn(split)[0].colour >= 0).sum(1).tolist()) for split in COUNTS}
    assert sizes["count"] == {5, 6}
    assert sizes["train"] == sizes["iid"] == sizes["pairs"] == sizes["relations"] == {2, 3, 4}


def test_texts_are_short_and_few():
    shapes = {split: drawn(split)[1].tokens.shape[1] for split in COUNTS}
    assert set(shapes.values()) == {15}
    used = {
        w
        for split in COUNTS
        for t in np.unique(drawn(split)[1].tokens)
        for w in [drawn(split)[1].vocabulary[t]]
    }
    assert used == set(drawn("iid")[1].vocabulary)
    assert len(used) == 40
