"""Word times against transformers, see make_word_times.py, a slow definition and planted truths."""

import json
from pathlib import Path

import numpy as np
import pytest

from crossattn.align.tokens_in_time import TimedWord, group_tokens, timed_words
from crossattn.align.word_times import alignment_matrix, token_starts, warping_path

FIXTURE = Path(__file__).parents[1] / "fixtures" / "word_times.npz"
CASES = ("clear/0", "noisy/0", "prompt/3")


@pytest.fixture(scope="module")
def published():
    with np.load(FIXTURE) as kept:
        return dict(kept)


@pytest.mark.parametrize("case", CASES)
def test_token_starts_are_those_of_transformers(published, case):
    weights = published[f"{case}/weights"].astype(np.float32)
    prompt = int(case.split("/")[1])
    # It normalises the rows after the prompt alone.
    ours = token_starts(weights[:, prompt:])
    np.testing.assert_allclose(ours, published[f"{case}/starts"], atol=1e-6)


def test_a_prompt_counts_in_normalising_only(published):
    weights = published["prompt/3/weights"].astype(np.float32)
    starts = token_starts(weights, prompt=3)
    assert starts.shape == (9,)
    tokens, frames = warping_path(alignment_matrix(weights)[3:])
    assert starts.tolist() == [0.02 * frames[tokens == t][0] for t in range(9)]


@pytest.mark.parametrize("seed", range(3))
def test_planted_tokens_are_found_within_a_frame(seed):
    rng = np.random.default_rng(seed)
    T, S = 7, 200
    edges = np.sort(rng.choice(np.arange(8, S // 4) * 4, T - 1, replace=False))
    owner = np.searchsorted(edges, np.arange(S), side="right")
    weights = np.stack([owner == t for t in range(T)]) + 0.2 * rng.random((4, T, S))
    starts = token_starts(weights / weights.sum(axis=-1, keepdims=True), seconds_per_frame=1.0)
    np.testing.assert_allclose(starts, [0, *edges], atol=1)


def slow_path(benefit):
    """The best path by trying them all."""
    T, S = benefit.shape

    def best(t, s):
        if t == T - 1 and s == S - 1:
            return benefit[t, s], [(t, s)]
        steps = [(t + 1, s), (t, s + 1), (t + 1, s + 1)]
        score, path = max(best(*step) for step in steps if step[0] < T and step[1] < S)
        return benefit[t, s] + score, [(t, s), *path]

    return best(0, 0)[1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 5), (5, 3)])
def test_the_path_is_the_best_of_all(shape):
    benefit = np.random.default_rng(sum(shape)).normal(size=shape)
    assert [*map(tuple, warping_path(benefit).T.tolist())] == slow_path(benefit)


def test_a_frame_that_all_look_at_says_nothing():
    weights = np.full((1, 3, 20), 0.01)
    assert (alignment_matrix(weights) == 0).all()
    starts = token_starts(weights)
    assert np.isfinite(starts).all()
    assert (np.diff(starts) >= 0).all()


def test_more_tokens_than_frames_still_have_times():
    starts = token_starts(np.random.default_rng(0).random((2, 9, 4)))
    assert starts.shape == (9,)
    assert (np.diff(starts) >= 0).all()


def test_words_are_those_of_transformers(published):
    for name, case in json.loads(str(published["words"])).items():
        pieces = case["pieces"]
        decode = lambda some, pieces=pieces: "".join(pieces[token] for token in some)
        ours = group_tokens(range(len(pieces)), decode)
        assert [[text, [*places]] for text, places in ours] == case["words"], name


def test_parts_of_a_letter_stay_together():
    letters = [" é".encode(), "ß".encode()[:1], "ß".encode()[1:], b"\xe4", b"\xbd\xa0", b"!"]
    decode = lambda some: b"".join(letters[token] for token in some).decode(errors="replace")
    assert group_tokens(range(6), decode) == [(" éß你!", (0, 1, 2, 3, 4, 5))]
    unspaced = group_tokens(range(6), decode, spaced=False)
    assert unspaced == [(" é", (0,)), ("ß", (1, 2)), ("你!", (3, 4, 5))]
    # A text that ends within a letter.
    assert group_tokens(range(4), decode)[-1][1] == (0, 1, 2, 3)


def test_words_lie_between_the_starts_of_their_tokens():
    words = [(" Hello,", (0, 1)), (" you", (2,))]
    found = timed_words(
        words, np.array([0.1, 0.3, 0.5, 0.9]), np.array([0.5, 1, 0.25]), offset=30.0
    )
    assert found == [
        TimedWord("Hello,", 30.1, 30.5, 0.75, (0, 1)),
        TimedWord("you", 30.5, 30.9, 0.25, (2,)),
    ]
    assert timed_words([], np.array([0.0]), np.array([])) == []


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="prompt is fewer than the 2 rows, got 2"):
        token_starts(np.ones((1, 2, 3)), prompt=2)
    with pytest.raises(ValueError, match="odd number of frames, got 4"):
        token_starts(np.ones((1, 2, 3)), median=4)
    with pytest.raises(ValueError, match="not finite"):
        token_starts(np.full((1, 2, 3), np.nan))
    with pytest.raises(ValueError, match=r"an array \(T, S\) with entries"):
        warping_path(np.ones((0, 3)))
    with pytest.raises(ValueError, match=r"one shape \(T\) is meant"):
        timed_words([], np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="there are 1 tokens, and a word has token 1"):
        timed_words([("a", (1,))], np.zeros(2), np.zeros(1))
