"""The commands of speech on a small Whisper with random weights and a made-up sound."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import wavfile

from crossattn.align.tokens_in_time import TimedWord
from crossattn.data.audio import log_mel
from crossattn.data.errors import DataError
from crossattn.lab.speech import explore_sound, load_transcriber, transcribe_words
from crossattn.lab.speech_heads import hidden_likelihood
from crossattn.pretrained.spoken_words import spoken_words
from crossattn.pretrained.transcriber import encode, read
from experiments import explore, transcribe
from tests.support.sounds import made_up
from tests.support.whisper import END, peer, write_folder

pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")


def write_spaced_tokenizer(folder):
    """Words that begin with a space, as those of Whisper, and a comma without."""
    names = ["bo", "la", "mi", ",", "re"]
    pieces = [f",{n // 5}" if n % 5 == 3 else f"Ġ{names[n % 5]}{n}" for n in range(END)]
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"] |= {"vocab": vocabulary, "unk_token": pieces[0]}
    content["decoder"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    content["decoder"] |= {"use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model of the fixture, with room for 30 seconds."""
    about, _, state = peer()
    rng = np.random.default_rng(0)
    name = "model.encoder.embed_positions.weight"
    state[name] = rng.normal(size=(1500, state[name].shape[1])).astype(np.float32)
    folder = tmp_path_factory.mktemp("model")
    write_folder(folder, about, state, max_source_positions=1500)
    write_spaced_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    sound = 0.5 * made_up("chirp")[:24_000]
    sound[8_000:12_000] = 0
    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    wavfile.write(path, 16_000, sound)
    return path


def call(command, capsys, *arguments):
    command.main([str(argument) for argument in arguments])
    return capsys.readouterr()


def test_the_text_the_words_and_json_say_the_same(folder, wav, capsys):
    arguments = (wav, "--model", folder, "--language", "de")
    text = call(transcribe, capsys, *arguments).out.strip()
    assert text
    table = call(transcribe, capsys, *arguments, "--words").out.splitlines()
    assert table[0].split() == ["from", "to", "confidence", "word"]
    said = json.loads(call(transcribe, capsys, *arguments, "--json").out)
    assert said["text"] == text == " ".join(word["word"] for word in said["words"])
    assert said["language"] == "de"
    assert [line.split(maxsplit=3)[3] for line in table[1:]] == text.split()
    times = [time for word in said["words"] for time in (word["start"], word["stop"])]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 1.5
    assert all(0 < word["confidence"] <= 1 for word in said["words"])
    assert set(said["segments"][0]) == {"start", "end", "text"}


@pytest.mark.slow
def test_beams_write_another_way(folder, wav, capsys):
    arguments = (wav, "--model", folder, "--language", "de", "--beams", 3)
    assert call(transcribe, capsys, *arguments).out.strip()


@pytest.mark.slow
def test_a_long_sound_is_read_in_segments_that_are_told(folder, tmp_path, capsys):
    wavfile.write(tmp_path / "long.wav", 16_000, 0.3 * made_up("whole")[:16_000].repeat(32))
    said = call(transcribe, capsys, tmp_path / "long.wav", "--model", folder, "--json")
    content = json.loads(said.out)
    assert len(content["segments"]) == 2
    assert said.err.count(" of 32 s") == 2
    starts = [word["start"] for word in content["words"]]
    assert starts == sorted(starts)
    first = len(content["segments"][0]["text"].split())
    assert starts[first] >= content["segments"][1]["start"]


@pytest.mark.slow
def test_confidence_is_the_probability_of_the_tokens(folder, wav):
    model = load_transcriber(folder)
    sound = wavfile.read(wav)[1]
    transcript, _ = transcribe_words(model, sound, language="de")
    (segment,) = transcript.segments
    row = jnp.array([[*segment.prompt, *segment.tokens]])
    heard = encode(model.model, model.params, jnp.asarray(log_mel(sound, model.bands))[None])
    logits, _ = read(model.model, model.params, row, heard)
    p = jax.nn.softmax(logits[0])[len(segment.prompt) - 1 : -1]
    own = np.asarray(p)[np.arange(len(segment.tokens)), segment.tokens]
    np.testing.assert_allclose(segment.probabilities, own, atol=1e-5)
    heads = model.alignment_heads
    with pytest.raises(ValueError, match="words are timed by maps"):
        spoken_words(model, sound, segment._replace(maps=None), heads)
    with pytest.raises(ValueError, match="none of the heads"):
        spoken_words(model, sound, segment, [(0, 0), (1, 0)])
    nothing = segment._replace(tokens=segment.tokens[:0])
    assert spoken_words(model, sound, nothing, heads) == []


def test_explore_writes_a_page_of_the_sound(folder, wav, tmp_path, capsys):
    out = tmp_path / "words.html"
    said = call(explore, capsys, wav, "--model", folder, "--language", "de", "--out", out)
    assert said.out == f"page: {out}\n"
    page = out.read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    (example,) = data["runs"][0]["examples"]
    assert example["kind"] == "sound"
    assert example["shape"] == [2, 3, len(example["words"]), 75]
    assert example["seconds"] == pytest.approx(1.5)
    assert example["picture"] == 0
    assert example["regionName"] == "time of the word"
    sizes = [region["size"] for region in example["regions"] if region]
    assert sizes
    assert all(size == [1, 75] for size in sizes)
    hidden = [answer["hidden"] for answer in example["answers"]]
    assert hidden == ["nothing", "its frames", "as many others"] * len(example["words"])
    nothing = example["answers"][0]
    assert nothing["word"].strip(",") in example["words"][0]
    assert nothing["keys"] == []


@pytest.mark.slow
def test_heads_that_are_hidden_change_what_is_likely(folder, wav, capsys):
    model, sound = load_transcriber(folder), wavfile.read(wav)[1]
    transcript = model.transcribe(sound, language="de", heads=model.alignment_heads)
    (segment,) = transcript.segments
    likelihood = hidden_likelihood(model, sound, segment)
    T, hidden = len(segment.tokens), np.zeros((2, 3, len(segment.tokens), 75), bool)
    before = likelihood(hidden)
    np.testing.assert_allclose(np.exp(before), segment.probabilities, atol=1e-5)
    # Only the row of one token is changed, in the first layer: those before it hear as before.
    hidden[0, 1, T // 2] = True
    after = likelihood(hidden)
    np.testing.assert_allclose(after[: T // 2], before[: T // 2], atol=1e-6)
    assert abs(after[T // 2] - before[T // 2]) > 1e-5
    table = call(transcribe, capsys, wav, "--model", folder, "--language", "de", "--heads").out
    lines = table.splitlines()
    assert len(lines) == 1 + 2 * 3 + 1
    assert sum("*" in line for line in lines[1:-1]) == len(model.alignment_heads)
    assert "chance of pointing" in lines[-1]


def test_silence_has_no_page(folder, monkeypatch):
    model, silent = load_transcriber(folder), np.zeros((8_000,), np.float32)
    monkeypatch.setattr("crossattn.lab.speech.spoken_words", lambda *given, **named: [])
    with pytest.raises(DataError, match="the model writes nothing about this sound"):
        explore_sound(model, silent, title="", language="de")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (transcribe, ["no.wav"], "there is no file no.wav"),
        (transcribe, ["WAV", "--model", "nowhere"], "there is no folder nowhere"),
        (transcribe, ["WAV", "--model", "MODEL", "--language", "xx"], "language"),
        (transcribe, ["WAV", "--model", "MODEL", "--beams", "0"], "--beams must be at least 1"),
        (
            transcribe,
            ["WAV", "--model", "MODEL", "--language", "de", "--timestamps"],
            "this model has no time stamps",
        ),
        (transcribe, ["WAV", "--timestamps", "--words"], "--timestamps are those of sentences"),
        (transcribe, ["WAV", "--beams", "100000"], "--beams must be at least 1 and at most 1000"),
        (transcribe, ["WAV", "--model", "SHORT"], "positions for 0.22 s of sound, and 30 s are"),
        (transcribe, ["WAV", "--words", "--heads"], "give one of them"),
        (transcribe, ["WAV", "--word"], "Unrecognized options: --word"),
        (explore, ["WAV", "--variant", "x"], "--variant is of a run, and"),
        (explore, ["WAV", "--out", "."], "is a folder: name a file in it, like page.html"),
        (explore, ["WAV", "--out", "WAV"], "speech.wav is the file that is read: name another"),
        (explore, ["MODEL", "--model", "x"], "--model and --language are of a file of sound"),
    ],
)
def test_mistakes_are_one_line(command, arguments, message, folder, wav, tmp_path, capsys):
    places = {"WAV": wav, "MODEL": folder, "SHORT": tmp_path}
    about, _, state = peer()
    write_folder(tmp_path, about, state)
    with pytest.raises(SystemExit) as end:
        command.main([str(places.get(word, word)) for word in arguments])
    said = capsys.readouterr()
    assert end.value.code == 2
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith(f"{command.COMMAND}: ")
    assert message in said.err
    assert wavfile.read(wav)[1].shape == (24_000,)


def test_weights_that_do_not_fit_are_a_table(folder, wav, tmp_path, capsys):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    says = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(says | {"decoder_layers": 1}))
    with pytest.raises(SystemExit) as end:
        transcribe.main([str(wav), "--model", str(tmp_path)])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith("transcribe: ")
    assert "decoder_layers" in said
    assert len(said.splitlines()) > 2


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        transcribe.main(["--help"])
    assert end.value.code == 0
    assert "--words" in capsys.readouterr().out
    line = transcribe.word_lines([TimedWord("a\x1b", 1.0, 2.0, 0.5, (0,))]).splitlines()[1]
    assert "\x1b" not in line
