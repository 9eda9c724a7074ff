"""Blind accuracy is analytic: neither the text nor what stands beside tells the answer."""

import collections
import functools

import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.scenes.language import COLOURS, SHAPES

ASKED = ("train", "validation", "iid", "count", "relations")
TASKS = ("question", "refer", "caption")


@functools.cache
def drawn(split, count=1200, seed=11):
    tasks = TASKS if split in ("train", "validation", "iid") else ("question", "caption")
    return scenes.examples(split, count, seed=seed, tasks=tasks, noise=0.0)


def questions(data):
    """Yield kind, text and answer of every row that has an answer."""
    for row in np.flatnonzero(data.answer):
        text, answer = data.words(row).removesuffix(" <eos>").rsplit(" ", 1)
        yield data.kinds[data.kind[row]], text, answer


@pytest.mark.parametrize("split", ASKED)
def test_best_predictor_from_text_alone_reaches_exactly_chance(split):
    data = drawn(split)
    answers = collections.defaultdict(collections.Counter)
    for kind, text, answer in questions(data):
        answers[kind, text][answer] += 1
    right, total = collections.Counter(), collections.Counter()
    for (kind, _), counter in answers.items():
        assert len(set(counter.values())) == 1, "all answers of a wording are equally frequent"
        right[kind] += max(counter.values())
        total[kind] += counter.total()
    assert {kind: right[kind] / total[kind] for kind in total} == pytest.approx(
        data.chance, abs=1e-12
    )
    assert set(data.chance) == set(total)


@pytest.mark.parametrize("split", ["train", "iid"])
def test_kinds_have_equal_shares(split):
    kinds = collections.Counter(kind for kind, _, _ in questions(drawn(split)))
    assert kinds == dict.fromkeys(("colour", "shape", "exist", "count", "relation", "refer"), 200)


def test_predictor_that_learned_from_train_is_never_right_on_pairs():
    learned = {(text, answer) for _, text, answer in questions(drawn("train"))}
    asked = list(questions(drawn("pairs")))
    assert {text for _, text, _ in asked} <= {text for text, _ in learned}, "known wordings"
    assert not {(text, answer) for _, text, answer in asked} & learned
    assert drawn("pairs").chance == {"colour": 0.0, "shape": 0.0}
    counts = collections.Counter((kind, answer) for kind, _, answer in asked)
    assert set(counts.values()) == {100}, "an uninformed guess is right once in six"


@pytest.mark.parametrize(("kind", "attribute"), [("colour", "colour"), ("shape", "shape")])
def test_other_objects_do_not_know_the_answer(kind, attribute):
    world = scenes.draw_scenes("train", 6000, seed=5)
    names = getattr(world, attribute)
    vocabulary = {"colour": COLOURS, "shape": SHAPES}[kind]
    same = others = 0
    for n, question in enumerate(world.questions):
        if question.kind != kind:
            continue
        own = vocabulary.index(question.answer)
        target = question.first[::-1] if kind == "shape" else question.first
        known = [pair[1 if kind == "colour" else 0] for pair in world.pairs(n)]
        rest = [names[n, o] for o, value in enumerate(known) if value != target[1]]
        assert len(rest) == len(known) - 1, "one object alone is asked about"
        same += sum(value == own for value in rest)
        others += len(rest)
    # Of the 25 pairs that may stand beside, four have the answer's value: so for every answer.
    assert abs(same / others - 4 / 25) < 3 * (4 * 21 / 625 / others) ** 0.5


def test_answers_do_not_show_in_the_number_of_objects():
    world = scenes.draw_scenes("train", 6000, seed=6)
    sizes = collections.defaultdict(list)
    for n, question in enumerate(world.questions):
        if question.kind in ("exist", "relation"):
            sizes[question.kind, question.answer].append(len(world.pairs(n)))
    for kind in ("exist", "relation"):
        yes, no = (np.mean(sizes[kind, answer]) for answer in ("yes", "no"))
        assert abs(yes - no) < 3 * (2 * (2 / 3) / 600) ** 0.5


@pytest.mark.parametrize("split", ["train", "iid"])
def test_half_of_the_absent_pairs_are_binding_foils(split):
    world = scenes.draw_scenes(split, 400, seed=3)
    foils = []
    for n, question in enumerate(world.questions):
        if question.kind == "exist" and question.answer == "no":
            colours, shapes = zip(*world.pairs(n), strict=True)
            has = question.first[0] in colours, question.first[1] in shapes
            assert any(has)
            assert question.first not in world.pairs(n)
            foils.append(all(has))
    assert len(foils) == 40
    assert sum(foils) == 20


def test_blocks_must_be_complete():
    with pytest.raises(ValueError, match="multiple of 100"):
        scenes.draw_scenes("train", 150, seed=0)
    with pytest.raises(ValueError, match="multiple of 120"):
        scenes.draw_scenes("iid", 100, seed=0, tasks=TASKS)
    with pytest.raises(ValueError, match="multiple of 2"):
        scenes.draw_scenes("swap", 7, seed=0)
    with pytest.raises(ValueError, match="multiple"):
        scenes.draw_scenes("train", 0, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "'train', 'validation'"),
        ({"tasks": ("questions",)}, "'question', 'caption', 'refer'"),
        ({"tasks": ()}, "tasks is empty"),
        ({"split": "pairs", "tasks": ("refer",)}, "no task 'refer'"),
        ({"image_encoder": "vit"}, "'oracle', 'patch', 'conv'"),
        ({"noise": -0.1}, "not negative"),
        ({"size": 48}, "32, 64"),
    ],
)
def test_wrong_arguments_say_what_to_write(arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes.examples(**{"split": "iid", "count": 100, "seed": 0, **arguments})
