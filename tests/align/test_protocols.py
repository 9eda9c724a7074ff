"""Evaluation protocols of published sets, against what the published evaluations give."""

import itertools

import numpy as np
import pytest

from crossattn import align
from crossattn.align.evidence import Evidence
from crossattn.align.inputs import Answers, AttentionMaps, CaptionContrasts, PeoplesAnswers
from crossattn.data.published.answer_words import normalise_answer

# What the published evaluation of VQA makes of each (processPunctuation, processDigitArticle).
SPELT = {
    "The two dogs.": "2 dogs",
    "dont know": "don't know",
    "1,000": "1000",
    "red-white": "red white",
    "3.5 feet.": "3.5 feet",
    "none": "0",
    "U.S.A.": "usa",
    "left/right": "left right",
    "yes, it is": "yes it is",
    "somebody'd": "somebodyd",
    "Whats this?": "what's this",
    "'ows'at": "'ow's'at",
    "a": "",
    "blue & white": "blue & white",
    "10:30 am": "10:30 am",
}


@pytest.mark.parametrize("said", SPELT)
def test_answers_are_spelt_as_the_evaluation_of_vqa_does(said):
    assert normalise_answer(said) == SPELT[said]
    # Spelling again changes nothing: answers of a vocabulary stay what they are.
    assert normalise_answer(SPELT[said]) == SPELT[said]


def test_vqa_accuracy_is_the_mean_of_ten_subsets():
    people = np.array([1] * 4 + [2] * 3 + [3] * 2 + [4])
    said = np.array([1, 2, 3, 4, 5])
    found = align.vqa_accuracy(said, np.tile(people, (5, 1)))
    by_hand = []
    for one in said:
        subsets = itertools.combinations(people, 9)
        by_hand.append(np.mean([min(list(nine).count(one) / 3, 1) for nine in subsets]))
    np.testing.assert_allclose(found, by_hand)
    np.testing.assert_allclose(found, [1, 0.9, 0.6, 0.3, 0])
    with pytest.raises(ValueError, match=r"\(N,\) and \(N, A\) are meant"):
        align.vqa_accuracy(said, people)


def test_chance_of_vqa_accuracy_is_the_best_single_answer():
    answers = np.array([[1] * 10, [2] * 6 + [1] * 4, [2] * 10])
    evidence = Evidence()
    evidence.read("test", PeoplesAnswers(np.array([1, 1, 1]), answers, np.array(["other"] * 3)))
    assert evidence.metrics["test/vqa_accuracy"] == pytest.approx((1 + 1 + 0) / 3)
    every = [align.vqa_accuracy(np.full(3, one), answers).mean() for one in (1, 2)]
    assert evidence.chance["test/vqa_accuracy"] == pytest.approx(max(every))
    # What no training text has is -1, and never right.
    assert align.vqa_accuracy_of_one_answer(np.full((2, 10), -1)) == 0


def test_consistency_takes_all_answers_to_a_sentence():
    right = np.array([1.0, 1, 1, 0, 1])
    sentence = np.array([5, 9, 5, 9, 2])
    assert align.group_consistency(right, sentence).tolist() == [1, 1, 0]
    evidence = Evidence()
    half = np.full(5, 0.5)
    kinds = np.array(["other"] * 5)
    evidence.read("test", Answers(right, half, kinds, half > 1, sentence))
    assert evidence.metrics["test/consistency"] == pytest.approx(2 / 3)
    assert evidence.chance["test/consistency"] == pytest.approx((0.25 + 0.25 + 0.5) / 3)
    plain = Evidence()
    plain.read("test", Answers(right, half, kinds, half > 1))
    assert "test/consistency" not in plain.metrics


def test_contrasts_are_strict_and_told_by_part():
    score = np.array([[2.0, 1], [1, 1], [0, 3]])
    assert align.contrast_accuracy(score).tolist() == [1, 0, 0]
    evidence = Evidence()
    evidence.read("valse", CaptionContrasts(score, np.array(["existence", "plurals", "plurals"])))
    assert evidence.metrics["valse/contrast/existence"] == 1
    assert evidence.metrics["valse/contrast/plurals"] == 0
    assert evidence.chance["valse/contrast"] == 0.5
    with pytest.raises(ValueError, match="a caption and a foil"):
        align.contrast_accuracy(score[0])


def test_iou_of_boxes_counted_by_pixels():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 12, (200, 2, 2, 2)), axis=2)
    corners[:, :, 1] += 1
    boxes = corners.reshape(200, 2, 4).astype(float)
    for (one, other), iou in zip(boxes, align.box_iou(boxes[:, 0], boxes[:, 1]), strict=True):
        drawn = np.zeros((2, 14, 14), bool)
        for place, (top, left, bottom, right) in enumerate((one, other)):
            drawn[place, int(top) : int(bottom), int(left) : int(right)] = True
        assert iou == pytest.approx(drawn.all(axis=0).sum() / drawn.any(axis=0).sum())


def test_a_box_is_drawn_around_what_hangs_together_with_the_peak():
    weights = np.array(
        [
            [0.0, 0.0, 0.0, 0.9],
            [0.0, 0.6, 1.0, 0.0],
            [0.0, 0.0, 0.5, 0.0],
        ]
    )
    # 0.9 touches the peak by a corner alone; 0.4 of the peak is too little.
    box = align.box_of_map(weights.reshape(1, -1), (3, 4))[0]
    np.testing.assert_allclose(box, [1 / 3, 1 / 4, 1, 3 / 4])
    assert np.isnan(align.box_of_map(np.zeros((1, 12)), (3, 4))).all()
    np.testing.assert_allclose(align.box_of_map(np.ones((1, 12)), (3, 4)), [[0, 0, 1, 1]])
    assert align.box_accuracy(np.full((1, 4), np.nan), np.array([[0, 0, 1.0, 1]])).tolist() == [0]
    for bad in ({"grid": (3, 3)}, {"grid": (3, 4), "share": 0.0}):
        with pytest.raises(ValueError, match=r"grid of|share"):
            align.box_of_map(weights.reshape(1, -1), **bad)


def test_box_accuracy_reads_the_mean_map_of_a_phrase():
    # Two words of one phrase look at the two halves of its box; a third word has no box.
    weights = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1, 0]])
    box = np.array([[0, 0, 0.5, 1.0], [0, 0, 0.5, 1.0], [np.nan] * 4])
    region = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], bool)
    maps = AttentionMaps(
        weights, np.zeros((3, 1), int), np.ones(3), region, region * 1.0, (2, 2), box,
        np.array([4, 4, 7]),
    )  # fmt: skip
    evidence = Evidence()
    evidence.read("answer", maps)
    assert evidence.metrics["box_accuracy/answer"] == 1
    assert len(evidence.items["box_accuracy/answer"]) == 1
    # The whole picture overlaps this half by 0.5.
    assert evidence.chance["box_accuracy/answer"] == 1
