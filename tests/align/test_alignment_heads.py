"""Heads that point: planted ones are found by truth, by agreement and by knock-out."""

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from crossattn.align.alignment_heads import (
    find_alignment_heads,
    head_knockouts,
    knockout_scores,
)

L, H = 2, 3
POINTING = [(0, 2), (1, 0)]


def clip(seed, T=6, S=120):
    """Maps (L, H, T, S) with two heads that follow the words, and the words' frames (T, S)."""
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, S // 10) * 10, T - 1, replace=False))
    owner = np.searchsorted(edges, np.arange(S), side="right")
    frames = owner == np.arange(T)[:, None]
    maps = rng.random((L, H, T, S))
    maps[0, 0, :, 3] += 5  # a head that always looks at one frame
    maps[1, 2] += 3 * frames[::-1]  # one that reads backwards
    for head in POINTING:
        maps[head] += 3 * frames
    return maps / maps.sum(axis=-1, keepdims=True), frames


@pytest.fixture(scope="module")
def clips():
    return [clip(seed, S=120 + 10 * seed) for seed in range(5)]


def test_planted_heads_are_found_by_truth(clips):
    scores = find_alignment_heads(*map(list, zip(*clips, strict=True)))
    assert sorted(scores.ranked()[:2]) == POINTING
    assert sorted(scores.above(0.5)) == POINTING
    assert scores.words == 30
    assert scores.score[0, 2] == 1
    assert scores.chance == pytest.approx(1 / 6, abs=0.01)
    # A head that looks at random, and one that looks at one frame.
    for head in ((0, 1), (0, 0)):
        assert scores.low[head] < scores.chance < scores.high[head]


def test_planted_heads_are_found_by_agreement(clips):
    scores = find_alignment_heads([maps for maps, _ in clips])
    assert sorted(scores.above(0.5)) == POINTING
    assert scores.chance < 0.5


def test_intervals_are_wilsons(clips):
    maps, frames = clips[0]
    scores = find_alignment_heads([maps], [frames])
    for head in np.ndindex(L, H):
        hits = round(float(scores.score[head]) * 6)
        interval = binomtest(hits, 6).proportion_ci(0.95, method="wilson")
        assert scores.low[head] == pytest.approx(interval.low, abs=1e-4)
        assert scores.high[head] == pytest.approx(interval.high, abs=1e-4)


def test_words_without_a_region_are_left_out(clips):
    maps, frames = clips[0]
    some = frames & (np.arange(6) % 2 == 0)[:, None]
    assert find_alignment_heads([maps], [some]).words == 3
    with pytest.raises(ValueError, match="no word has a region"):
        find_alignment_heads([maps], [np.zeros_like(frames)])


def test_a_head_that_the_model_uses_is_found_by_knockout(clips):
    """A model whose words are as likely as the mass that head (1, 0) has within them is large."""

    def model(maps, frames):
        def log_likelihood(hidden):
            seen = np.where(hidden, 0, maps)[1, 0]
            return np.log(0.01 + (seen * frames).sum(axis=-1))

        return log_likelihood

    for hide in (lambda frames: frames, np.ones_like):
        drops = [head_knockouts(model(*one), (L, H), hide(one[1])) for one in clips]
        scores = knockout_scores(drops)
        assert scores.above() == [(1, 0)]
        assert scores.score.ravel().tolist().count(0) == L * H - 1
    own = np.concatenate(drops, axis=-1)[1, 0]
    interval = ttest_1samp(own, 0).confidence_interval(0.95)
    assert scores.low[1, 0] == pytest.approx(interval.low)
    assert scores.high[1, 0] == pytest.approx(interval.high)
    assert scores.rows()[0] | {"low": 0, "high": 0} == {
        "layer": 1, "head": 0, "score": own.mean(), "low": 0, "high": 0,
    }  # fmt: skip


def test_what_does_not_fit_is_refused(clips):
    (maps, frames), one = clips[0], np.ones((2, 3), bool)
    with pytest.raises(ValueError, match="of one clip or more"):
        find_alignment_heads([])
    with pytest.raises(ValueError, match="all of one model"):
        find_alignment_heads([maps, maps[:1]])
    with pytest.raises(ValueError, match="1 clips and regions of 2"):
        find_alignment_heads([maps], [frames, frames])
    with pytest.raises(ValueError, match=r"one shape \(T, S\)"):
        find_alignment_heads([maps], [frames[:, 1:]])
    with pytest.raises(ValueError, match=r"one number of each of 2, got \(3,\)"):
        head_knockouts(lambda hidden: np.zeros(3), (1, 1), one)
    with pytest.raises(ValueError, match="not finite"):
        head_knockouts(lambda hidden: np.full(2, np.nan), (1, 1), one)
    with pytest.raises(ValueError, match="two words or more"):
        knockout_scores([np.zeros((1, 1, 1))])
