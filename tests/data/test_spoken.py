"""The set `spoken`: times that are exact, pairs that are held out, questions that are true."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy.io import wavfile

from crossattn.data.builders.builder import build_set
from crossattn.data.builders.spoken import SPOKEN, SpokenSettings, compose_set
from crossattn.data.builders.spoken_words import WORDS, draw_spoken, held_out, trimmed
from crossattn.data.errors import DataError
from crossattn.data.sources import Data, load_source
from tests.support.recorded_words import TONES, tone, write_wave

VOICE = {word: trimmed(np.pad(tone(word), 900)) for word in TONES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("spoken")
    compose_set(path, VOICE, SpokenSettings(images=12, evaluation_images=8))
    return path


def lines(folder):
    return [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]


def recordings(folder):
    """Of each split the words of each recording, and the lines about it."""
    found = {}
    for line in lines(folder):
        own = found.setdefault(line["split"], {}).setdefault(line["audio"], ([], []))
        own[0].extend(word["word"] for word in line.get("words", ()))
        own[1].append(line)
    return found


def test_words_are_where_they_are_said_to_be(folder):
    """To the sample, and there is nothing between them."""
    for line in lines(folder):
        if "words" not in line:
            continue
        rate, samples = wavfile.read(folder / line["audio"])
        left = samples.astype(float)
        for word in line["words"]:
            start, end = (round(word[name] * rate) for name in ("start", "end"))
            own, wanted = left[start:end].copy(), VOICE[word["word"]]
            assert len(own) == len(wanted)
            assert np.corrcoef(own, wanted)[0, 1] > 0.9999
            assert 0.19 < np.abs(own).max() / 32_767 < 0.81
            left[start:end] = 0
        assert not left.any()


def test_pairs_are_in_their_split_alone(folder):
    following = lambda words: set(pairwise(words))
    found = recordings(folder)
    assert {name: len(own) for name, own in found.items()} == {
        "train": 12, "validation": 2, "test": 8, "pairs": 8
    }  # fmt: skip
    known = set().union(*(following(words) for part in ("train", "validation", "test")
                          for words, _ in found[part].values()))  # fmt: skip
    for words, own in found["pairs"].values():
        for line in own:
            after = line["kind"] == "after"
            one, other = line["question"].rstrip("?").split()[-1], line["answer"]
            assert ((one, other) if after else (other, one)) not in known
            assert ((one, other) if after else (other, one)) in following(words)


def test_every_word_is_in_as_many_held_out_pairs():
    pairs = held_out(list(WORDS), np.random.default_rng(3))
    assert len(pairs) == 36 * 6
    for side in (0, 1):
        assert set(Counter(pair[side] for pair in pairs).values()) == {6}
    assert all(one != other for one, other in pairs)


@pytest.mark.parametrize("pair", [False, True])
def test_recordings_have_the_pairs_that_they_should(pair):
    apart, rng = held_out(list(VOICE), np.random.default_rng(0)), np.random.default_rng(1)
    for _ in range(20):
        words = draw_spoken(VOICE, rng, apart, pair=pair).words
        assert 3 <= len(set(words)) == len(words) <= 6
        assert sum(two in apart for two in pairwise(words)) == pair


def test_answers_are_true(folder):
    order = ("first", "second", "third", "fourth", "fifth", "sixth")
    kinds = Counter()
    for part in recordings(folder).values():
        for words, own in part.values():
            for line in own:
                asked = line["question"].rstrip("?").split()
                answer, evidence, kind = line["answer"], line["evidence"], line["kind"]
                kinds[kind] += 1
                if kind == "order":
                    assert words[order.index(asked[-1])] == answer
                elif kind == "after":
                    assert words[words.index(asked[-1]) + 1] == answer
                elif kind == "before":
                    assert words[words.index(asked[-1]) - 1] == answer
                elif kind == "exist":
                    assert (answer == "yes") == (asked[1] in words)
                else:
                    assert answer == str(len(words))
                if kind in ("order", "after", "before"):
                    assert [words[number] for number in evidence] == [answer]
                assert line.get("caption", " ".join(words)) == " ".join(words)
    assert kinds == {"order": 22, "after": 30, "before": 30, "exist": 22, "count": 22}


def test_the_source_reads_it(folder):
    data = load_source(Data("recordings", directory=str(folder)), "frames")
    assert list(data.splits) == ["validation", "test", "pairs"]
    assert data.splits["pairs"].chance == {"after": 0.0, "before": 0.0}
    asked = data.splits["pairs"]
    assert asked.grounded[np.arange(len(asked)), asked.answer].any(-1).all()


def test_the_same_seed_is_the_same_set(folder, tmp_path):
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        settings = SpokenSettings(images=12, evaluation_images=8, seed=seed)
        compose_set(tmp_path / str(seed), VOICE, settings)
    same = lambda path: (path / "texts.jsonl").read_bytes() == (folder / "texts.jsonl").read_bytes()
    assert same(tmp_path / "0")
    assert not same(tmp_path / "1")


def test_silence_is_cut_off():
    word = np.concatenate([np.zeros(500), 0.3 * tone("alpha"), np.full(700, 1e-4)])
    np.testing.assert_allclose(len(trimmed(word)), 2_400, atol=90)
    assert np.abs(trimmed(word)).max() == 1
    with pytest.raises(DataError, match="is silent"):
        trimmed(np.zeros(100))


def test_too_few_words_are_refused(tmp_path):
    few = dict(list(VOICE.items())[:11])
    with pytest.raises(DataError, match="expected recordings of 12 words or more, got 11"):
        compose_set(tmp_path, few, SpokenSettings())


def test_the_set_is_built_from_the_package(tmp_path):
    """From words of the true names, each a tone; with the licences."""
    sounds = tmp_path / "usr/share/asterisk/sounds/en_US_f_Allison"
    for number, file in enumerate(WORDS.values()):
        (sounds / file).parent.mkdir(parents=True, exist_ok=True)
        hum = np.sin(np.arange(2_400) * (0.2 + 0.05 * number))
        write_wave(sounds / file, np.pad(0.4 * hum, 600))
    said = build_set(SPOKEN, tmp_path / "set", SpokenSettings(3, 0, 2), tmp_path)
    assert said.endswith("recordings of three to six of 36 words, with the times of all words")
    assert "ShareAlike 3.0" in (tmp_path / "set/LICENCES.txt").read_text()
    assert len(list((tmp_path / "set/audio").glob("*.wav"))) == 3 + 1 + 2 + 2
    spoken = [word for line in lines(tmp_path / "set") for word in line.get("words", ())]
    assert all(0.29 < word["end"] - word["start"] < 0.32 for word in spoken)
