"""Whisper's published weights on recorded words whose times are known: heads and word times."""

import numpy as np
import pytest

from crossattn.align import (
    find_alignment_heads,
    find_pauses,
    pointing,
    pointing_chance,
    spoken_starts,
    timed_words,
    words_at_pauses,
)
from crossattn.data.audio import RATE
from tests.support.words_at_times import FRAMES_PER_SECOND, WORDS, clips, heard, whisper

NEAR = 0.06


def times_found(model, samples, clip):
    frames = int(np.ceil(len(samples) / RATE * FRAMES_PER_SECOND))
    layers, places = np.transpose(model.alignment_heads)
    maps = clip.maps[layers, places, :, :frames].astype(float)
    starts = spoken_starts(maps, clip.spoken)
    found = timed_words(clip.groups, starts, np.ones(len(clip.tokens)), clip.spoken)
    return words_at_pauses(found, find_pauses(samples))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "perfect", "near"), [("whisper-tiny.en", 2, 0.95), ("whisper-base", 3, 0.88)]
)
def test_published_heads_and_word_times(name, perfect, near):
    model = whisper(name)
    maps, errors, regions = [], [], []
    for samples, words, times in clips(6, (0.15, 0.35)):
        clip = heard(model, samples, words, times)
        frames = int(np.ceil(len(samples) / RATE * FRAMES_PER_SECOND))
        maps.append(clip.maps[:, :, :-1, :frames])
        regions.append(clip.regions[:, :frames])
        found = times_found(model, samples, clip)
        errors += [(w.start - t[0], w.stop - t[1]) for w, t in zip(found, times, strict=True)]
    scores = find_alignment_heads(maps, regions)
    published = [scores.score[head] for head in model.alignment_heads]
    within = np.mean(np.abs(errors) <= NEAR)
    print(f"{name}: {within:.3f} of boundaries within 60 ms; heads {np.round(published, 2)}")
    assert scores.words >= WORDS
    assert scores.chance < 0.15
    # As many of the published heads point nearly always, all of the best ones far above chance.
    assert sum(score >= 0.95 for score in published) >= perfect
    assert len(set(scores.above(0.5)) & set(model.alignment_heads)) >= 5
    assert within >= near


def words_hit(clip, heads, row, regions):
    """(2, words), whether the mean map of these heads and a word's tokens peaks in it; chance.

    Rows are those that predict the tokens (0) or read them (1).
    """
    layers, places = np.transpose(heads)
    maps = clip.maps[layers, places].mean(axis=0)
    own = [[place for place in places if clip.spoken[place]] for _, places in clip.groups]
    seen = np.stack([maps[np.add(some, row)].mean(axis=0) for some in own])
    regions = regions[[some[0] for some in own]]
    return np.stack([pointing(seen, regions), pointing_chance(regions)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("each", "pauses", "least"), [(1, (0, 14), 0.95), (6, (2, 4), 0.88), (20, (0.15, 0.35), 0.88)]
)
@pytest.mark.parametrize("name", ["whisper-tiny.en", "whisper-base"])
def test_the_mean_of_the_published_heads_points_at_words(name, each, pauses, least):
    model = whisper(name)
    heads = model.alignment_heads
    read = [heard(model, *clip) for clip in clips(each, pauses)]
    each_word = lambda row, kind: np.concatenate(
        [words_hit(clip, heads, row, getattr(clip, kind)) for clip in read], axis=1
    )
    (predicts, chance), (hears, _), (reads, _) = (
        each_word(*how) for how in ((0, "regions"), (0, "hearing"), (1, "hearing"))
    )
    maps, regions = [clip.maps[:, :, :-1] for clip in read], [clip.regions for clip in read]
    scores = find_alignment_heads(maps, regions)
    behind = find_alignment_heads([clip.maps[:, :, 1:] for clip in read], regions)
    others = behind.ranked()[:2]
    best = {"truth": scores, "agreement": find_alignment_heads(maps)}
    found = {how: len(set(own.ranked()[: len(heads)]) & set(heads)) for how, own in best.items()}
    shares = [float(one.mean().round(3)) for one in (predicts, hears, reads, chance)]
    own = {head: round(float(scores.score[head]), 2) for head in heads}
    print(f"{name}, {each} a clip: in, hears, of the row behind, chance {shares}; found {found}")
    print(f"published {own}, at what was read {others}")
    assert len(predicts) == WORDS
    assert chance.mean() < 0.03
    assert predicts.mean() >= least
    assert hears.mean() >= max(predicts.mean(), 0.9)
    assert found["truth"] >= 4
    # The row that reads a word is about to write what comes after it: only other heads are still
    # at the word.
    assert reads.mean() < 0.2
    assert not set(others) & set(heads)
    assert min(behind.score[head] for head in others) >= 0.9
