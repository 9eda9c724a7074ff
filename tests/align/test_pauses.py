"""Pauses of made-up speech, and words whose boundaries lie at them."""

import itertools

import numpy as np
import pytest

from crossattn.align.pauses import find_pauses, words_at_pauses
from crossattn.align.tokens_in_time import TimedWord, spoken_starts, spoken_tokens, timed_words
from crossattn.align.word_times import token_starts
from tests.support.sounds import made_up

RATE = 16_000
SPOKEN = [(0.2, 0.6), (0.75, 1.3), (1.5, 1.9)]


def speech(noise=0.0):
    """Three hums of different loudness, a background, and a gap of 20 ms within the second."""
    time = np.arange(2 * RATE) / RATE
    sound = np.zeros(len(time))
    for loud, (start, stop) in zip((1, 0.4, 0.7), SPOKEN, strict=True):
        sound += loud * np.sin(900 * time) * ((time >= start) & (time < stop))
    sound[int(RATE) : int(1.02 * RATE)] = 0
    return sound + noise * made_up("noise")[: len(time)]


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_pauses_lie_between_the_words(noise):
    pauses = find_pauses(speech(noise))
    truth = [[0, 0.2], [0.6, 0.75], [1.3, 1.5], [1.9, 2]]
    np.testing.assert_allclose(pauses, truth, atol=0.02)


def test_a_sound_that_is_everywhere_as_loud_has_no_pause():
    assert find_pauses(np.ones(RATE)).shape == (0, 2)
    assert find_pauses(np.zeros(RATE)).shape == (0, 2)
    assert find_pauses(np.zeros(3)).shape == (0, 2)


def words(*bounds):
    return [
        TimedWord(str(n), start, stop, 1.0, (n,))
        for n, (start, stop) in enumerate(itertools.pairwise(bounds))
    ]


def times(found):
    return [(word.start, word.stop) for word in found]


def test_boundaries_go_to_the_pauses_near_to_them():
    found = words_at_pauses(words(0.0, 0.5, 1.1, 1.85), find_pauses(speech()))
    np.testing.assert_allclose(times(found), SPOKEN, atol=0.02)


def test_a_pause_takes_the_nearest_boundary_only():
    found = words_at_pauses(words(0.0, 0.7, 1.0, 2.0), np.array([[1.1, 1.3]]))
    assert times(found) == [(0.0, 0.7), (0.7, 1.1), (1.3, 2.0)]
    assert times(words_at_pauses(words(0.0, 1.0, 3.0), np.array([[1.6, 1.7]]))) == [(0, 1), (1, 3)]
    assert words_at_pauses([], np.zeros((0, 2))) == []
    assert times(words_at_pauses(words(0.0, 1.0), np.zeros((0, 2)))) == [(0, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_words_stay_in_order_and_never_end_before_they_begin(seed):
    rng = np.random.default_rng(seed)
    pauses = np.sort(rng.uniform(0, 4, 10)).reshape(-1, 2)
    found = words_at_pauses(words(*np.sort(rng.uniform(0, 4, 7)).tolist()), pauses)
    flat = [time for word in found for time in (word.start, word.stop)]
    assert flat == sorted(flat)


def test_a_comma_does_not_take_the_beginning_of_the_next_word():
    pieces = [" one", ",", " two", "."]
    decode = lambda some: "".join(pieces[token] for token in some)
    groups = [(" one,", (0, 1)), (" two.", (2, 3))]
    spoken = spoken_tokens(groups, range(4), decode)
    assert spoken.tolist() == [True, False, True, False]
    # 50 frames a word; the comma looks at the first frames of the second.
    frames = np.arange(110)
    looks = [(0, 50), (50, 75), (50, 100), (75, 100), (100, 110)]
    weights = np.stack([(frames >= a) & (frames < b) for a, b in looks]).astype(float)
    weights[2, 50:75] = 0.5
    starts = spoken_starts(weights[None], spoken)
    assert starts.tolist() == [0, 1, 1, 2, 2]
    assert token_starts(weights[None])[2] > 1.2
    found = timed_words(groups, starts, np.array([0.5, 0.1, 0.75, 0.2]), spoken)
    assert times(found) == [(0, 1), (1, 2)]
    assert [word.confidence for word in found] == [0.5, 0.75]
    with pytest.raises(ValueError, match=r"one shape \(T1\)"):
        spoken_starts(np.ones((1, 3, 9)), spoken[:3])
