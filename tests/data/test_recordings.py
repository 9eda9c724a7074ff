"""A folder of recordings becomes data: tokens of sound, words with their times, texts."""

import json

import numpy as np
import pytest

from crossattn.data.audio import RATE, log_mel, read_sound
from crossattn.data.errors import DataError
from crossattn.data.recordings.lines import SpokenWord
from crossattn.data.recordings.sounds import Frames, word_coverage
from crossattn.data.sources import Data, load_source
from tests.support.recorded_words import TONES, lines_of, spoken, write_folder, write_wave


def load(path, **settings):
    return load_source(Data("recordings", directory=str(path), **settings), "frames")


def parts(data):
    return {"train": data.train, **data.splits}


def first(data, number, kind):
    """The part and the row of the first text of a kind about a recording, by its order of lines."""
    wanted = lines_of(10)[0][2 * number]["caption"]
    for part in parts(data).values():
        for row in range(len(part)):
            image = part.image[row]
            said = [part.words(n) for n in np.flatnonzero(part.image == image)]
            if f"<bos> {wanted} <eos>" in said and part.kinds[part.kind[row]] == kind:
                return part, row
    raise AssertionError(kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def data(folder):
    return load(folder)


def test_recordings_with_captions_and_questions(data, folder):
    assert {name: len(part.images) for name, part in parts(data).items()} == {
        "train": 6,
        "validation": 2,
        "test": 2,
    }
    train = data.train
    assert train.images.dtype == np.float32
    assert train.grid == (1, train.images.shape[1])
    assert train.images.shape[2] == 5 * 40
    assert set(train.kinds) == {"after", "caption"}
    assert f"10 recordings of {folder}/texts.jsonl, with 10 captions and 10 questions" in data.about
    assert "stretch of 100 ms" in data.about
    few = load(folder, images=3, evaluation_images=1)
    assert [len(part.images) for part in parts(few).values()] == [3, 1, 1]
    assert len(load(folder, tasks=("caption",)).train) == 6


def test_tokens_are_means_of_log_mel_frames(data, folder):
    part, row = first(data, 3, "caption")
    samples = read_sound(folder / "3.wav")
    token = part.images[part.image[row]]
    frames = log_mel(np.pad(samples, (0, 2 * RATE)), 40, seconds=None)
    for place in (0, 4, 9):
        own = frames[10 * place : 10 * place + 10].reshape(5, 2, 40).mean(1).ravel()
        np.testing.assert_allclose(token[place], own, atol=1e-6)
    # The silence behind a recording is that of a longer recording.
    np.testing.assert_allclose(token[-1], frames[150:160].reshape(5, 2, 40).mean(1).ravel())


def test_words_point_to_their_times(data):
    """The strongest band of every token that a word fills is that of its tone."""
    for number in range(10):
        part, row = first(data, number, "caption")
        regions = part.regions([row])[0]
        tokens = part.images[part.image[row]].reshape(-1, 5, 40).mean(1)
        for place, word in enumerate(lines_of(10)[0][2 * number]["caption"].split(), 1):
            hum = np.sin(2 * np.pi * TONES[word] * np.arange(RATE) / RATE)
            band = log_mel(hum, 40, seconds=1.0)[50].argmax()
            full = regions[place] > 0.99
            assert full.any()
            assert (tokens[full].argmax(-1) == band).all()
            assert regions[place].sum() == pytest.approx(3, abs=1e-4)
        assert not regions[0].any()


def test_answers_point_to_their_evidence(data):
    part, row = first(data, 2, "after")
    words = lines_of(10)[0][4]["words"]
    answer = part.regions([row])[0, part.answer[row]]
    start, end = words[1]["start"], words[1]["end"]
    centre = (answer * (np.arange(len(answer)) + 0.5)).sum() / answer.sum() / 10
    assert centre == pytest.approx((start + end) / 2, abs=0.03)
    asked = part.tokens[row].tolist().index(part.vocabulary.index(words[0]["word"]))
    assert part.grounded[row, asked].tolist() == [True, False, False]
    assert part.groups[part.group[row, asked]] == "word"


def test_a_word_that_is_said_twice(tmp_path):
    """A caption points to each in its turn, a question to both, an answer to its evidence."""

    def change(lines):
        sound, said = spoken(["alpha", "echo", "alpha"])
        write_wave(tmp_path / "0.wav", sound)
        own = {"audio": "0.wav", "split": "train"}
        twice = [
            own | {"caption": "Alpha, echo alpha.", "words": said},
            own | {"question": "how often is alpha said?", "answer": "2", "evidence": [0, 2]},
            own | {"question": "what is said last?", "answer": "alpha", "evidence": [2]},
            own | {"question": "what is said first?", "answer": "alpha"},
            own | {"question": "is echo said?", "answer": "yes"},
            own | {"caption": "an alpha is said"},
        ]
        splits = ("train", "train", "validation", "test")
        return twice + [line | {"split": splits[int(line["audio"][0]) % 4]} for line in lines[2:]]

    data = load(write_folder(tmp_path, 10, change))
    part = data.train
    rows = {part.words(n): n for n in np.flatnonzero(part.image == 0)}
    about = lambda text, place: part.grounded[rows[text], place].tolist()
    caption = "<bos> alpha , echo alpha . <eos>"
    assert [about(caption, place) for place in (1, 2, 3, 4)] == [
        [True, False, False], [False] * 3, [False, True, False], [False, False, True]
    ]  # fmt: skip
    often = "<bos> how often is alpha said ? 2"
    assert about(often, 4) == about(often, 7) == [True, False, True]
    assert about("<bos> what is said last ? alpha", 6) == [False, False, True]
    assert about("<bos> what is said first ? alpha", 6) == [True, False, True]
    assert not any(about("<bos> is echo said ? yes", 5))
    assert about("<bos> an alpha is said <eos>", 2) == [True, False, True]
    assert part.kinds == ("after", "caption", "number", "other", "yes/no")


def test_the_split_pairs_is_one_of_its_own(tmp_path):
    splits = ("train", "train", "validation", "test", "pairs")
    divide = lambda lines: [x | {"split": splits[int(x["audio"][0]) % 5]} for x in lines]
    data = load(write_folder(tmp_path, 10, divide))
    assert {name: len(part.images) for name, part in parts(data).items()} == {
        "train": 4, "validation": 2, "test": 2, "pairs": 2
    }  # fmt: skip
    assert data.main == "test"
    assert set(data.parts_about) == {"validation", "test", "pairs"}


def test_pictures_are_spectrograms_with_the_times_of_words(data):
    part = data.splits["test"]
    picture, mask = data.pictures(np.arange(2)), data.masks(np.arange(2))
    assert picture.dtype == np.uint8
    assert picture.shape == (*mask.shape, 3)
    assert picture.shape[1:3] == (160, 10 * part.grid[1])
    # Inside of words there is sound, which is dark; outside is none.
    for own, where in zip(picture[..., 0].min(1), mask[:, 0], strict=True):
        assert set(where) == {0, 1, 2, 3}
        assert own[where > 0].max() < own[where == 0].mean()


def test_words_of_a_token_share_its_time():
    said = [SpokenWord(("a",), 0.02, 0.06), SpokenWord(("b",), 0.06, 0.3)]
    cover = word_coverage([said], Frames(10, 5, 40), 4)[0]
    np.testing.assert_allclose(cover, [[0.4, 0, 0, 0], [0.4, 1, 1, 0]], atol=1e-6)


def test_a_change_of_a_time_is_another_fingerprint(tmp_path, folder, data):
    def later(lines):
        lines[0]["words"][0]["end"] += 0.01
        return lines

    changed = load(write_folder(tmp_path, 10, later))
    assert changed.fingerprint != data.fingerprint
    assert load(folder).fingerprint == data.fingerprint
    with pytest.raises(DataError, match=f"is {changed.fingerprint}, not {data.fingerprint}"):
        load(tmp_path, fingerprint=data.fingerprint)


def only(index, **fields):
    """A change of one line; a field of None is taken away."""

    def change(lines):
        own = {**lines[index], **fields}
        lines[index] = {name: value for name, value in own.items() if value is not None}
        return lines

    return change


ONE = [{"word": "alpha", "start": 0.1, "end": 0.4}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (only(4, audio="no.wav"), "line 5: there is no recording no.wav in"),
        (only(4, audio="x" * 300), "line 5: File name too long: xxx"),
        (only(4, audio="../x.wav"), "line 5: the path ../x.wav leads out of the folder"),
        (only(4, audio=None), "line 5: has no audio"),
        (only(4, caption=None), "line 5: has no caption and no question"),
        (only(4, caption=" "), "line 5: has an empty caption"),
        (only(5, answer=None), "line 6: has no answer to its question"),
        (only(4, evidence=[0]), "line 5: has evidence and no question"),
        (only(5, evidence=[3]), "line 6: has evidence 3, a word that 2.wav lacks"),
        (only(5, evidence="last"), "line 6: is no JSON"),
        (only(5, kind="what is"), "line 6: kind takes one word"),
        (only(4, split="train"), "line 1: has no split, which other lines have"),
        (only(4, split="tset"), "line 1: has no split"),
        (only(5, words=ONE), "line 6: has other words of 2.wav than a line before it"),
        (only(4, words=[*ONE, {"word": "b", "start": 0.3, "end": 0.6}]), "before 'alpha' ends"),
        (only(4, words=[{"word": "alpha", "start": 0.4, "end": 0.1}]), "a word takes a text and"),
        (only(4, words=[{"word": "alpha", "start": 0.4, "end": 60}]), "'alpha' ends at 60 s"),
        (only(4, words={"alpha": [0, 1]}), "line 5: words takes a list of"),
        (lambda lines: [*lines, lines[3]], "line 21: says the same as line 4"),
        (lambda lines: [{"sound": "0.wav", "caption": "x"}], "has no column audio"),
        (lambda lines: [{"audio": "0.wav"}], "has no column caption or question; it has audio"),
        (lambda lines: [], "has no lines: expected some like"),
        (lambda lines: lines[:4], "2 different recordings are too few"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(tmp_path, change, said):
    path = write_folder(tmp_path, 10, change)
    with pytest.raises(DataError) as raised:
        load(path)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_and_a_long_recording_are_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "3.wav").write_bytes(b"RIFF, but no more")
    with pytest.raises(DataError, match="line 7"):
        load(tmp_path)
    write_folder(tmp_path)
    with pytest.raises(DataError, match=r"0\.wav lasts 1\.3 s, longer than --data\.longest 1"):
        load(tmp_path, longest=1.0)


def test_the_same_recording_in_two_splits_is_refused(tmp_path):
    splits = ("train", "validation", "test")
    divide = lambda lines: [x | {"split": splits[int(x["audio"][0]) % 3]} for x in lines]
    write_folder(tmp_path, 10, divide)
    (tmp_path / "1.wav").write_bytes((tmp_path / "0.wav").read_bytes())
    with pytest.raises(DataError, match=r"1\.wav is in the split validation, the same recording"):
        load(tmp_path)


def test_times_in_a_csv_file(tmp_path, data):
    write_folder(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    (tmp_path / "texts.jsonl").unlink()
    rows = ["audio;caption;words"]
    rows += [
        f'{x["audio"]};{x["caption"]};"{json.dumps(x["words"]).replace(chr(34), 2 * chr(34))}"'
        for x in lines[::2]
    ]
    (tmp_path / "texts.csv").write_text("\n".join(rows))
    told = load(tmp_path)
    np.testing.assert_array_equal(told.train.coverage, data.train.coverage)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"slices": 3}, "data.token_frames 10 do not divide into data.slices 3"),
        ({"bands": 0}, "data.bands"),
        ({"longest": 0.0}, "data.longest takes seconds"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ValueError, match=said):
        Data("recordings", **settings)


def test_a_folder_is_asked_for():
    with pytest.raises(DataError, match=r"type --data\.directory DIR, in which a file such as"):
        load("")
