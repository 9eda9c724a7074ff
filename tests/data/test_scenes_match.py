"""The task `match`: are these the objects, or is it the scene with the colours swapped?"""

import collections

import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.sources import Data, load_source


@pytest.fixture(scope="module")
def drawn():
    arguments = {"seed": 3, "tasks": ("match", "caption")}
    world = scenes.draw_scenes("iid", 200, **arguments)
    return world, scenes.examples("iid", 200, **arguments, noise=0.0)


def asked(data):
    """Row, words that are named, answer."""
    for row in np.flatnonzero(data.answer):
        said = data.words(row).removeprefix("<bos> are there ").removesuffix(" <eos>")
        named, answer = said.split(" ? ")
        yield row, named.split(), answer


def test_the_answer_is_that_of_the_caption(drawn):
    world, data = drawn
    for row, named, answer in asked(data):
        scene = data.image[row]
        (colour, shape), (other, second) = world.pairs(scene)
        assert world.centre[scene, 0, 0] < world.centre[scene, 1, 0]
        true = [colour, shape, other, second]
        crossed = [other, shape, colour, second]
        assert (named, answer) in ((true, "yes"), (crossed, "no"))


def test_text_alone_and_bags_of_words_tell_nothing(drawn):
    world, data = drawn
    answers = collections.defaultdict(list)
    bags = collections.defaultdict(list)
    for row, named, answer in asked(data):
        answers[tuple(named)].append(answer)
        there = sorted(word for pair in world.pairs(data.image[row]) for word in pair)
        assert there == sorted(named)
        bags[tuple(there)].append(answer)
    for counted in (answers, bags):
        for found in counted.values():
            assert found.count("yes") == found.count("no")
    assert data.chance == {"match": 0.5}
    assert data.counts() == {"caption": 200, "match": 200}


def test_words_point_to_what_they_name(drawn):
    _, data = drawn
    for row, named, answer in asked(data):
        sets = data.grounded[row, 3 : 3 + len(named)]
        if answer == "yes":
            np.testing.assert_array_equal(sets[:, :2], np.eye(2, dtype=bool).repeat(2, axis=0))
        else:
            assert not sets.any()


@pytest.mark.parametrize("task", ["refer", "match"])
def test_what_has_scenes_of_its_own_is_learnt_and_judged_alone(task):
    data = load_source(Data(tasks=(task,), images=100, evaluation_images=100), "oracle")
    assert set(data.splits) == {"validation", "iid", "swap"}
    for part in (data.train, data.splits["validation"], data.splits["iid"]):
        assert set(part.counts()) == {task}


def test_beside_questions_it_is_one_kind_of_them():
    tasks = ("question", "refer", "match")
    data = load_source(Data(tasks=tasks, images=140, evaluation_images=700), "oracle")
    assert data.splits["iid"].counts()["match"] == 100
    assert set(data.splits["iid"].chance) >= {"refer", "match", "colour"}
    assert "match" not in data.splits["validation"].counts()
    with pytest.raises(ValueError, match="split 'pairs' has no task 'match'"):
        scenes.examples("pairs", 100, seed=0, tasks=("match",))
