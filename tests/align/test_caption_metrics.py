"""BLEU, ROUGE-L, CIDEr-D, scene graphs: coco-caption's numbers, and captions with known scores."""

import json
from pathlib import Path

import numpy as np
import pytest

from crossattn import align
from crossattn.align import (
    bleu,
    cider_d,
    corpus_bleu,
    plain_words,
    rouge_l,
    scene_graph_f1,
)

COCO = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "measures" / "caption_metrics.json").read_text()
)
IMAGES = list(COCO["gts"])
WRITTEN = [plain_words(COCO["res"][image][0]["caption"]) for image in IMAGES]
REFERENCES = [[plain_words(c["caption"]) for c in COCO["gts"][image]] for image in IMAGES]


def test_words_are_those_of_coco():
    for image, said, truths in zip(IMAGES, WRITTEN, REFERENCES, strict=True):
        assert [" ".join(said)] == COCO["res_tok"][image]
        assert [" ".join(truth) for truth in truths] == COCO["gts_tok"][image]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_of_coco(order):
    pinned = COCO["per_image"]["Bleu"][order - 1]
    np.testing.assert_allclose(bleu(WRITTEN, REFERENCES, order), pinned, rtol=0, atol=1e-10)
    whole = COCO["scores"]["Bleu"][order - 1]
    assert abs(corpus_bleu(WRITTEN, REFERENCES, order) - whole) < 1e-10


@pytest.mark.parametrize(("name", "score"), [("ROUGE_L", rouge_l), ("CIDEr", cider_d)])
def test_rouge_and_cider_of_coco(name, score):
    found = score(WRITTEN, REFERENCES)
    np.testing.assert_allclose(found, COCO["per_image"][name], rtol=0, atol=1e-10)
    assert abs(found.mean() - COCO["scores"][name]) < 1e-10


def test_token_numbers_are_words_too():
    numbers = {word: i for i, word in enumerate(sorted({w for said in WRITTEN for w in said}))}
    told = [[numbers[word] for word in said] for said in WRITTEN]
    for score in (bleu, rouge_l, cider_d):
        assert score(told, [[said] for said in told]).tolist() == pytest.approx(
            score(WRITTEN, [[said] for said in WRITTEN]).tolist()
        )


def test_captions_of_other_images_are_worse():
    others = WRITTEN[1:] + WRITTEN[:1]
    for score in (bleu, rouge_l, cider_d):
        assert score(others, REFERENCES).mean() < 0.6 * score(WRITTEN, REFERENCES).mean()


def test_scene_graphs():
    true = [("ring",), ("ring", "red"), ("cube",), ("cube", "red")]
    swapped = [("ring",), ("ring", "blue"), ("cube",), ("cube", "red")]
    found = scene_graph_f1([true, swapped, [], [], true[:1] * 2], [true, true, true, [], true[:1]])
    assert found.tolist() == pytest.approx([1, 0.75, 0, 1, 2 / 3])


def test_a_caption_of_no_words_scores_nothing():
    said, truth = [[], ["a"]], [[["a", "ring"]], [["a"]]]
    assert bleu(said, truth, 1)[0] < 1e-10
    assert rouge_l(said, truth).tolist() == [0, 1]
    assert cider_d(said, truth)[0] == 0


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("plain_words", ("it's a ring",), '"it\'s" of "it\'s a ring" is not a plain word'),
        ("plain_words", ("a 3.5 ring",), "'3.5' of"),
        ("plain_words", ("you cannot see",), "'cannot' of"),
        ("plain_words", (" . ",), "has no words"),
        ("bleu", ([], []), "0 captions, 0 lists of references: as many"),
        ("bleu", (["a"], [[["a"]]]), "caption 0: lists of words are meant, got a string"),
        ("rouge_l", ([["a"]], [["a"]]), "got a string"),
        ("rouge_l", ([["a"]], [[]]), "caption 0 has no reference"),
        ("corpus_bleu", ([["a"]], [[[]]]), "or an empty one"),
        ("corpus_bleu", ([["a"]], [[["a"]]], 0), "order is at least 1, got 0"),
        ("cider_d", ([["a"]], [[["a"]]]), "two images and sigma > 0 are the least"),
        ("scene_graph_f1", ([[]], []), "1 captions, 0 true sets"),
    ],
)
def test_what_is_not_meant_is_refused(name, given, said, unchecked):
    with pytest.raises(ValueError, match=said):
        getattr(align, name)(*given)
