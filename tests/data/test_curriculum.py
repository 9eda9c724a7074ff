"""Which texts are learned when: by their words, as a pure function of seed and step."""

import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.batches import Batches, Order, Share
from crossattn.data.curriculum import Curriculum
from crossattn.data.sources import Data
from crossattn.train.run import Run, materials
from crossattn.train.source import batches_of

DATA = scenes.examples("train", 200, seed=0)
RELATIONS = ("left", "right", "above", "below")


def batches(curriculum, **given):
    return Batches(DATA, 6, **{"texts_per_image": 2, "seed": 3, **given}, curriculum=curriculum)


def words(batch):
    return {DATA.vocabulary[token] for token in np.unique(batch.tokens)}


def test_all_texts_are_learned_in_the_order_of_before():
    order = Curriculum().order(DATA, batch_size=6, texts_per_image=2, seed=3)
    assert type(order) is Order
    rows = batches(Curriculum()).picked(7).rows
    before = Order(DATA.image, batch_size=6, texts_per_image=2, seed=3).rows(7)
    np.testing.assert_array_equal(rows, before)


def test_texts_with_some_words_come_first_and_then_those_with_others():
    staged = batches(Curriculum(("how", *RELATIONS), ("left",), steps=4))
    seen = [words(staged.batch(step)) for step in range(12)]
    assert all("left" in each and not each & {"how", "right", "above"} for each in seen[:4])
    later = set().union(*seen[4:])
    assert later >= {"how", *RELATIONS}
    assert not later & {"describe", "what"}  # captions, and questions of colour and shape
    alone = batches(Curriculum(("how", *RELATIONS)))
    np.testing.assert_array_equal(staged.picked(5).rows, alone.picked(1).rows)
    assert [staged.position(step) for step in (1, 3, 4, 5)] == [
        {"epoch": 0, "batch": 1},
        {"epoch": 1, "batch": 0},  # ten questions are three batches of three images
        {"epoch": 0, "batch": 0},
        {"epoch": 0, "batch": 1},
    ]


def test_whoever_resumes_or_reads_a_part_sees_the_same_texts():
    curriculum = Curriculum((), RELATIONS, steps=3)
    whole = [batches(curriculum).picked(step).rows for step in range(6)]
    backwards = batches(curriculum, share=Share(1, 3))
    for step in reversed(range(6)):
        np.testing.assert_array_equal(backwards.picked(step).rows, whole[step][2:4])
    resumed = next(batches(curriculum).batches(4))
    np.testing.assert_array_equal(resumed.tokens, DATA.tokens[whole[4]])


def test_a_run_says_its_curriculum_as_a_share_of_its_steps():
    data = Data(images=200, curriculum_words=("left",), curriculum_share=0.25, only_words=RELATIONS)
    run = Run(data=data, steps=8, batch_size=6)
    made = batches_of(run, DATA, seed=3)
    wanted = batches(Curriculum(RELATIONS, ("left",), steps=2))
    for step in range(4):
        np.testing.assert_array_equal(made.picked(step).rows, wanted.picked(step).rows)
    # Variants may differ in them: the data are the same.
    assert materials(run) == materials(Run(data=Data(images=200)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"only_words": ("lft",)}, "unknown word 'lft': write one of "),
        ({"curriculum_words": ("left",)}, "curriculum_words and data.curriculum_share go together"),
        ({"curriculum_share": 0.5}, "curriculum_words and data.curriculum_share go together"),
        (
            {"curriculum_words": ("left",), "curriculum_share": 1.0},
            r"curriculum_share is a share in \[0, 1\)",
        ),
        ({"source": "easy_vqa", "only_words": ("left",)}, "only_words is for source scenes"),
    ],
)
def test_a_curriculum_that_cannot_be_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Data(**given)


def test_words_that_no_text_has_are_refused():
    captions = scenes.examples("train", 100, seed=0, tasks=("caption",))
    with pytest.raises(ValueError, match="no text to learn has one of the words left, below"):
        Curriculum(("left", "below")).order(captions, batch_size=2, texts_per_image=1, seed=0)
    with pytest.raises(ValueError, match="10 images do not fill one batch of 20"):
        Curriculum(("left",)).order(DATA, batch_size=20, texts_per_image=1, seed=0)
