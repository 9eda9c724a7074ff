"""Deletion, insertion, knock-out, ablation, perceptual score, Shapley: pinned numbers and models
whose use of their input is known."""

from pathlib import Path

import numpy as np
import pytest

from crossattn import align
from crossattn.align import (
    curve_area,
    deletion_curve,
    input_ablation,
    insertion_curve,
    knockout_effect,
    perceptual_score,
    removal_steps,
    shapley_values,
    text_share,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "measures"
RISE = dict(np.load(FIXTURES / "rise_deletion_insertion.npz"))
SHAP = dict(np.load(FIXTURES / "mm_shap.npz"))


def softmax_model(visible):
    """The probability of the class, of a linear model of the visible pixels of one picture."""
    pictures = RISE["img"].reshape(1, 3, 256) * visible[:, None]
    logits = pictures.reshape(-1, 768).astype(np.float32) @ RISE["W"].T
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True))[:, int(RISE["class_idx"])]


@pytest.mark.parametrize("step", [10, 16])
@pytest.mark.parametrize("saliency", ["gradxinput", "random"])
@pytest.mark.parametrize(("kind", "run"), [("del", deletion_curve), ("ins", insertion_curve)])
def test_rise(kind, run, saliency, step):
    pinned = f"{kind}_{saliency}_step{step}"
    curve = run(softmax_model, RISE[f"sal_{saliency}"].reshape(1, 256), step)
    # The model of the original is in float32, and its softmax adds up in another order.
    np.testing.assert_allclose(curve[0], RISE[pinned], rtol=0, atol=1e-6)
    assert abs(curve_area(curve[0]) - RISE[f"{pinned}_auc"]) < 1e-6
    assert abs(curve_area(RISE[pinned]) - RISE[f"{pinned}_auc"]) < 1e-10


def test_the_ends_of_the_curves_are_everything_and_nothing():
    saliency = np.random.default_rng(0).random((3, 7))
    states = removal_steps(saliency, 3)
    assert states.sum(axis=-1).T.tolist() == [[7, 4, 1, 0]] * 3
    for n in range(3):
        assert saliency[n][states[1, n]].max() < saliency[n][~states[1, n]].min()


def test_a_model_that_reads_one_position_is_found_out():
    region = np.zeros((50, 8), bool)
    region[:, 2] = True
    reads = lambda position: lambda visible: visible[:, position].astype(float)
    uses, looks = (knockout_effect(reads(position), region) for position in (2, 5))
    assert {name: found.mean() for name, found in uses.items()} == {
        "intact": 1,
        "truth": 0,
        "random": 1,
        "rest": 1,
    }
    assert looks["truth"].mean() == 1
    assert looks["rest"].mean() == 0
    assert 0.7 < looks["random"].mean() < 0.95  # hit one time in seven


def test_random_others_are_as_many_as_the_region_has():
    random = np.random.default_rng(1)
    region = random.random((30, 9)) < 0.3
    region &= region.sum(axis=1, keepdims=True) <= 4
    seen = []
    knockout_effect(lambda visible: (seen.append(visible), visible.sum(axis=1))[1], region)
    intact, truth, other, rest = seen
    assert intact.all()
    np.testing.assert_array_equal(rest, ~truth)
    assert not (region & ~other).any()
    np.testing.assert_array_equal((~other).sum(axis=1), region.sum(axis=1))


def test_input_ablation_is_zero_where_nothing_is_used():
    masks = {"object": np.arange(4) != np.array([[1], [1]]), "all": np.zeros((2, 4), bool)}
    effect = input_ablation(lambda visible: 2.0 - visible[:, 1], masks)
    assert {name: found.tolist() for name, found in effect.items()} == {
        "object": [1, 1],
        "all": [1, 1],
    }
    blind = input_ablation(lambda visible: np.full(len(visible), 0.3), masks)
    assert not blind["all"].any()


def test_perceptual_score():
    answers = np.repeat(np.arange(4), 25)
    reads = lambda order: answers[order] == answers
    assert perceptual_score(reads, 100, permutations=20).mean() == pytest.approx(0.75, abs=0.02)
    blind = lambda order: answers == 1
    assert not perceptual_score(blind, 100).any()
    half = lambda order: reads(order) & (np.arange(100) % 2 == 0)
    score = perceptual_score(half, 100, permutations=20, normalise=True).mean()
    assert score == pytest.approx(0.75, abs=0.03)


def planted(coalitions):
    z = coalitions.astype(float)
    text, image = z[:, :4], z[:, 4:]
    return np.tanh(0.3 * z @ SHAP["u"] + np.einsum("gt,ti,gi->g", text, SHAP["W"][:4, 4:], image))


def test_exact_shapley_values_and_their_estimate():
    exact = shapley_values(planted, 10)
    np.testing.assert_allclose(exact, SHAP["shap_exact"], rtol=0, atol=1e-10)
    is_text = np.arange(10) < 4
    assert abs(text_share(exact, is_text) - SHAP["t_shap_exact"]) < 1e-10
    assert abs(1 - text_share(exact, is_text) - SHAP["v_shap_exact"]) < 1e-10
    assert abs(text_share(SHAP["shap_permutation"], is_text) - SHAP["t_shap_permutation"]) < 1e-10
    estimate = shapley_values(planted, 10, permutations=400)
    assert estimate.sum() == pytest.approx(exact.sum())
    np.testing.assert_allclose(estimate, exact, atol=0.03)
    assert np.isnan(text_share(np.zeros(10), is_text))


MAP = np.full((2, 3), 0.5)
YES = np.ones((2, 3), bool)
score = lambda visible: visible.sum(axis=-1)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("removal_steps", (MAP[0],), r"\(3,\): an array \(N, P\) with entries"),
        ("deletion_curve", (score, MAP * np.nan), "saliency has 6 of 6"),
        ("insertion_curve", (score, MAP, 0), "step is at least 1, got 0"),
        ("deletion_curve", (lambda v: ["a", "b"], MAP), "score has numbers, got <U1"),
        (
            "deletion_curve",
            (lambda v: v * 1.0, MAP),
            r"score gives one number of each, \(2,\), got \(2, 3\)",
        ),
        ("curve_area", (MAP[:, :1],), "two points or more"),
        ("knockout_effect", (score, MAP), "region is boolean"),
        ("knockout_effect", (score, YES[0]), r"an array \(N, P\)"),
        ("knockout_effect", (score, YES), "over half the positions leaves no room"),
        ("input_ablation", (score, {}), "visible has no mask"),
        ("input_ablation", (score, {"a": YES, "b": YES[:1]}), "masks of several shapes"),
        ("input_ablation", (score, {"a": MAP}), "a is boolean"),
        ("perceptual_score", (score, 1), "two examples and a permutation are the least"),
        ("shapley_values", (score, 0), "one player and one order are the least"),
        ("shapley_values", (score, 13), "at most 12: say permutations=1000"),
        ("shapley_values", (lambda z: z * np.nan, 2), "value has 8 of 8"),
        ("text_share", (MAP, YES), r"\(..., players\) and \(players,\) are meant"),
    ],
)
def test_what_is_not_meant_is_refused(name, given, said, unchecked):
    with pytest.raises(ValueError, match=said):
        getattr(align, name)(*given)


def test_nothing_right_has_no_share():
    with pytest.raises(ValueError, match="no example is right"):
        perceptual_score(lambda order: np.zeros(3), 3, normalise=True)
