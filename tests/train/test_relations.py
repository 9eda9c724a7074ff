"""Why four relations at once are hard, and that the suite `relations` learns them."""

import numpy as np
import pytest

from configs.relations import SUITE
from crossattn.data.scenes import draw_scenes
from crossattn.data.scenes.language import RELATIONS, matching
from crossattn.train.evaluate import Evaluator
from crossattn.train.loop import TrainPrograms
from crossattn.train.source import batches_of, load_dataset


@pytest.fixture(scope="module")
def asked():
    """From where to where each question of relation goes, its relation, and its answer, 1 or -1."""
    drawn = draw_scenes("train", 4_000, seed=0, tasks=("question",))
    found = []
    for scene, question in enumerate(drawn.questions):
        if question.kind == "relation":
            pairs, phrases = drawn.pairs(scene), (question.first, question.second)
            first, second = (matching(phrase, pairs)[0] for phrase in phrases)
            between = drawn.centre[scene, first] - drawn.centre[scene, second]
            found.append((between / 64, question.relation, 1 if question.answer == "yes" else -1))
    return [np.array(column) for column in zip(*found, strict=True)]


def without_the_word(asked, relations):
    """How often a linear map of the places is right about some relations, without their words."""
    between, _, answer = (column[np.isin(asked[1], relations)] for column in asked)
    fitted = np.linalg.lstsq(between, answer, rcond=None)[0]
    return (np.sign(between @ fitted) == answer).mean()


def test_like_relations_can_be_guessed_from_places_alone_and_opposite_ones_not(asked):
    first = SUITE.base.data.curriculum_words
    assert first == ("left", "above")
    assert without_the_word(asked, first[:1]) == 1.0
    assert without_the_word(asked, first) > 0.68
    assert without_the_word(asked, SUITE.run("opposites-first").data.curriculum_words) < 0.6
    assert without_the_word(asked, tuple(RELATIONS)) < 0.57


@pytest.mark.slow
def test_two_things_are_compared():
    run = SUITE.run("all")
    data = load_dataset(run)
    programs = TrainPrograms(run, len(data.train.vocabulary))
    batches = batches_of(run, data.train, seed=0)
    state = programs.create(0, batches.batch(0))
    for step in range(run.steps):
        state, _ = programs.step(state, batches.batch(step), run.optimizer.learning_rate)
    held_out = data.splits["relations"]
    said = Evaluator(programs.model).predict(state.params, held_out, attention=False).words
    assert (said == held_out.tokens)[held_out.target].mean() >= 0.9
