"""Explanations beside causal effects, and verdicts: models whose use of their input is planted."""

import numpy as np
import pytest
from scipy import stats

from crossattn.align import (
    hiding_effects,
    judge_use,
    knockout_effect,
    parts_of_grid,
    pointing,
    pointing_chance,
    rank_agreement,
    sum_over_parts,
)
from crossattn.align.evidence import Evidence
from crossattn.align.inputs import ExplainedParts

N, P = 211, 64


def test_rank_agreement_is_that_of_scipy():
    rng = np.random.default_rng(0)
    saliency, effect = rng.integers(0, 7, (2, 23, 11)).astype(float)  # with ties
    found = rank_agreement(saliency, effect)
    for row in range(23):
        rho = stats.spearmanr(saliency[row], effect[row]).statistic
        tau = stats.kendalltau(saliency[row], effect[row]).statistic
        assert found["spearman"][row] == pytest.approx(rho, abs=1e-12)
        assert found["kendall"][row] == pytest.approx(tau, abs=1e-12)


def test_agreement_of_random_saliency_is_at_chance_and_without_order_it_is_zero():
    rng = np.random.default_rng(1)
    effect, saliency = rng.random((2, 4_001, 16))
    evidence = Evidence()
    evidence.read("random", ExplainedParts(saliency, effect))
    evidence.read("exact", ExplainedParts(effect**3, effect))
    evidence.read("uniform", ExplainedParts(np.ones_like(effect), effect))
    for name in ("spearman", "kendall"):
        assert evidence.chance[f"{name}/random"] == 0
        assert abs(evidence.metrics[f"{name}/random"]) < 0.02
        assert evidence.metrics[f"{name}/exact"] == pytest.approx(1)
        assert evidence.metrics[f"{name}/uniform"] == 0
    assert np.isnan(rank_agreement(np.ones((1, 3)), effect[:1, :3])["spearman"]).all()
    assert "deletion/random" not in evidence.metrics  # nothing was deleted


def test_parts_are_hidden_as_wholes():
    parts = parts_of_grid((5, 4))
    assert parts.max() == 5  # a last row of parts of one row of patches
    used = np.random.default_rng(2).random((7, 20))
    effects = hiding_effects(lambda visible: (used * visible).sum(-1), parts, 7)
    np.testing.assert_allclose(effects, sum_over_parts(used, parts), atol=1e-12)
    np.testing.assert_allclose(rank_agreement(used @ np.eye(20), used)["kendall"], 1)


def planted(*, attends, uses, rng):
    """A reader: its map, and its score of what is visible, for regions of 4 patches."""
    region = np.zeros((N, P), bool)
    for row in region:
        row[rng.choice(P, 4, replace=False)] = True
    maps = rng.random((N, P)) + 9.0 * (region if attends else 0)
    told = rng.random(N) < 0.3
    right = lambda visible: np.where((visible | ~region).all(-1), 1.0, told) if uses else told
    return maps / maps.sum(-1, keepdims=True), region, right


def interval(values):
    mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    return mean - 1.96 * error, mean + 1.96 * error


@pytest.mark.parametrize(
    ("attends", "uses", "verdict"),
    [
        (True, True, "uses where it attends"),
        (True, False, "attends but does not use"),
        (False, True, "uses without attending"),
        (False, False, "neither"),
    ],
)
def test_verdict_on_planted_readers(attends, uses, verdict):
    maps, region, score = planted(attends=attends, uses=uses, rng=np.random.default_rng(3))
    there = pointing(maps, region) - pointing_chance(region)
    effect = knockout_effect(score, region)
    found = judge_use(interval(there), interval(effect["random"] - effect["truth"]))
    assert found == verdict


def test_verdict_waits_for_data():
    assert judge_use((-0.2, 0.3), (0.1, 0.2)) == "inconclusive"
    assert judge_use((0.1, 0.2), (-0.2, 0.3)) == "inconclusive"
    assert judge_use((np.nan, np.nan), (0.1, 0.2)) == "inconclusive"
    assert judge_use((0.1, 0.2), (0.001, 0.002)) == "attends but does not use"
    assert judge_use((0.4, 0.5), (-0.2, 0.3), negligible=0.3) == "attends but does not use"


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="interval is"):
        judge_use((0.2, 0.1), (0.0, 1.0))
    with pytest.raises(ValueError, match="at least 2 parts"):
        rank_agreement(np.ones((3, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="at least 1"):
        parts_of_grid((4, 4), 0)
