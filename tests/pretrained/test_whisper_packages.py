"""Whisper out of installed packages says of recordings what CTranslate2 and transformers say."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.data.audio import read_sound
from crossattn.interop.files import WeightsError
from crossattn.models.generate import Greedy
from crossattn.pretrained import load_model
from crossattn.pretrained.sound_windows import quiet_windows
from crossattn.pretrained.transcriber import WHISPER_BEAM, encode, read
from tests.support.fixtures import FOLDER
from tests.support.sounds import SOUNDS

CLIPS = {
    "vm-intro": "please leave your message after the tone when done hang up or press the pound key",
    "demo-abouttotry": "i am about to attempt",
}


@pytest.fixture(scope="module", params=["whisper-tiny.en", "whisper-base"])
def loaded(request):
    try:
        return request.param, load_model(request.param)
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def said():
    with np.load(FOLDER.parent / "whisper_packages.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
def test_recordings(loaded, said, clip):
    """Greedy and beam 5, token for token."""
    name, model = loaded
    for kind, strategy in (("greedy", Greedy()), ("beam", WHISPER_BEAM)):
        found = transcript(model, recording(clip), strategy)
        (window,) = found.segments
        np.testing.assert_array_equal(window.tokens, said[f"{name}/{clip}/{kind}"])
    spoken = re.sub(r"[^a-z ]", "", found.text.lower())
    assert spoken.startswith(CLIPS[clip])


@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
def test_logits_and_maps(request, loaded, said, clip):
    """Of the whole model, from sound to word."""
    name, model = loaded
    if name == "whisper-base":
        reason = "rounding: transformers in float32 is off as far, LOG.md, Rounding of base"
        request.applymarker(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=False))
    sound = recording(clip)
    (window,) = transcript(model, sound, Greedy()).segments
    (_, _, frames), *_ = quiet_windows(sound, model.bands)
    context = encode(model.model, model.params, frames[None])
    tokens = [*window.prompt, *said[f"{name}/{clip}/greedy"].tolist()]
    logits, _ = read(model.model, model.params, jnp.array([tokens]), context)
    wanted = said[f"{name}/{clip}/logits"]
    np.testing.assert_allclose(logits[0][:, ::521], wanted, atol=1e-4)
    maps = said[f"{name}/{clip}/maps"]
    heads = [(layer, head) for layer in range(maps.shape[0]) for head in range(maps.shape[1])]
    ours = model.maps(context, tokens, heads)[..., ::150].reshape(maps.shape)
    np.testing.assert_allclose(ours, maps, atol=5e-6)


def recording(clip):
    if not (SOUNDS / f"{clip}.wav").exists():
        pytest.skip(f"no recordings in {SOUNDS}: apt install asterisk-core-sounds-en-wav")
    return read_sound(SOUNDS / f"{clip}.wav")


def transcript(model, sound, strategy):
    language = "en" if model.special.languages else None
    return model.transcribe(sound, language=language, strategy=strategy)


@pytest.mark.slow
def test_heads_and_languages(loaded):
    name, model = loaded
    assert len(model.special.languages) == (0 if name.endswith(".en") else 99)
    assert len(model.alignment_heads) == 8
