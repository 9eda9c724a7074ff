"""What an encoder makes of recordings becomes the context of runs: a small random Whisper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.data.audio import log_mel, read_sound
from crossattn.data.errors import DataError
from crossattn.data.recordings.source import RecordingsData
from crossattn.data.sources import Data, load_source
from crossattn.pretrained.encoded_features import encode_parts, heard_by, of_sounds
from crossattn.pretrained.transcriber import SpeechTokens, Transcriber
from crossattn.pretrained.whisper import whisper_model
from crossattn.train.run import Run, replace
from crossattn.train.source import load_dataset
from experiments import encode
from tests.support.recorded_words import lines_of, write_folder

BANDS = 12
SIZES = {"d_model": 8, "vocab_size": 11, "max_source_positions": 100, "max_target_positions": 6}
SIZES["num_mel_bins"] = BANDS
SIZES |= {f"{side}_{what}": 2 for side in ("encoder", "decoder")
          for what in ("layers", "attention_heads", "ffn_dim")}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    module = whisper_model(SIZES)
    inputs = jnp.ones((1, 20, BANDS)), jnp.ones((1, 3), int)
    params = jax.jit(module.init)(jax.random.key(0), *inputs)
    return Transcriber(module, params, SpeechTokens(0, 1), None, BANDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("recordings"))


@pytest.mark.slow
def test_features_are_means_of_the_encoder_over_a_stretch(model, folder):
    sound = read_sound(folder / "0.wav")
    spectrum = log_mel(sound, BANDS, seconds=1.5)
    whole = model.model.apply(model.params, jnp.asarray(spectrum)[None], method="encode")[0]
    found = heard_by(model, [sound], 15, 10)[0]
    for place in (0, 7, 14):
        np.testing.assert_allclose(
            found[place], whole[5 * place : 5 * place + 5].mean(0), atol=1e-5
        )


def test_features_stand_for_their_recordings(model, folder, tmp_path):
    """Each image of each part has the features of the recording that its texts are about."""
    out = tmp_path / "whisper"
    data = RecordingsData("recordings", directory=str(folder))
    dataset = load_source(data, "frames")
    originals = {name: dataset.original(name) for name in dataset.held}
    assert encode_parts(of_sounds(model, "tiny", dataset.train.grid[1], 10), originals, out) == 10
    numbers = {line["caption"]: n for n, line in enumerate(lines_of(10)[0][::2])}
    wanted = {"model.image_encoder": "features", "data.features": str(out)}
    run = replace(Run(data=Data("recordings", directory=str(folder)), batch_size=4), wanted)
    dataset = load_dataset(run)
    for part in (dataset.train, *dataset.splits.values()):
        for row in np.flatnonzero(part.answer == 0):
            caption = part.words(row).removeprefix("<bos> ").removesuffix(" <eos>")
            sound = read_sound(folder / f"{numbers[caption]}.wav")
            own = heard_by(model, [sound], part.grid[1], 10)[0]
            np.testing.assert_allclose(part.images[part.image[row]], own, atol=1e-5)
    assert dataset.pictures(np.arange(1)).dtype == np.uint8


def test_an_odd_number_of_frames_is_refused(model):
    with pytest.raises(DataError, match=r"data\.token_frames 5 is odd"):
        of_sounds(model, "tiny", 15, 5)


def test_the_command(model, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encode, "load_model", lambda name: model if name == "tiny" else object())
    options = [str(folder), str(tmp_path / "out"), "--data.source", "recordings"]
    options += ["--data.token-frames", "8", "--data.slices", "4"]
    encode.main(["tiny", *options])
    assert f"10 recordings in {tmp_path}/out: read them with" in capsys.readouterr().out
    assert np.load(tmp_path / "out/test.npy")["features"].shape[1] == 22
    with pytest.raises(SystemExit) as end:
        encode.main(["clip", *options[:2]])
    assert end.value.code == 2
    assert "clip has no tower for pictures" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        encode.main(["tiny", str(tmp_path / "none"), *options[1:]])
    assert end.value.code == 2
    assert "there is no folder" in capsys.readouterr().err
