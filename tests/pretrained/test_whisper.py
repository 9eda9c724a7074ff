"""A whole Whisper by one call says what transformers' says; of either format the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.data.audio.spectrogram import RATE
from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.files import WeightsError
from crossattn.models.generate import Beam
from crossattn.pretrained import load_model
from crossattn.pretrained.sound_windows import TENTH, quiet_windows, window_length
from crossattn.pretrained.transcriber import encode, read
from crossattn.pretrained.whisper import whisper_model
from tests.support.whisper import (
    END,
    PROMPT,
    TIED,
    packed,
    peer,
    variables_of,
    write_ctranslate2,
    write_folder,
)

pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")


@pytest.fixture(scope="module")
def said():
    return peer()


@pytest.fixture(scope="module")
def model(said, tmp_path_factory):
    about, _, state = said
    return load_model(write_folder(tmp_path_factory.mktemp("whisper"), about, state))


def test_logits(said, model):
    _, arrays, _ = said
    context = encode(model.model, model.params, jnp.asarray(arrays["frames"]))
    np.testing.assert_allclose(context, arrays["context"], atol=1e-5)
    tokens = jnp.asarray(arrays["tokens"], jnp.int32)
    logits, _ = read(model.model, model.params, tokens, context)
    np.testing.assert_allclose(logits, arrays["logits"], atol=1e-5)
    again, _ = model.model.apply(model.params, jnp.asarray(arrays["frames"]), tokens)
    np.testing.assert_allclose(again, logits, atol=1e-5)


def test_greedy(said, model):
    """Suppressed tokens included: some are the likeliest without the rule."""
    _, arrays, _ = said
    for frames, wanted in zip(arrays["frames"], arrays["greedy"], strict=True):
        transcript = model.transcribe(frames, language="de", length=9)
        (window,) = transcript.segments
        wanted = [token for token in wanted[len(PROMPT) :] if token != END]
        assert window.prompt == PROMPT
        assert window.tokens.tolist() == wanted
        assert transcript.text == window.text == " ".join(f"w{token}" for token in wanted)


def test_ctranslate2_says_the_same(said, model, tmp_path):
    about, _, state = said
    other = load_model(write_ctranslate2(tmp_path, about, state))
    assert other.model == model.model
    assert other.special == model.special
    assert other.alignment_heads == model.alignment_heads == ((1, 2), (0, 1))
    jax.tree.map(np.testing.assert_array_equal, other.params, model.params)


def test_maps_are_of_the_heads_that_are_asked_for(said, model):
    _, arrays, _ = said
    frames = arrays["frames"][0]
    heads = [(1, 0), (0, 1), (1, 2), (0, 0)]
    (window,) = model.transcribe(frames, language="de", length=9, heads=heads).segments
    assert window.maps.shape == (4, len(PROMPT) + len(window.tokens), 11)
    np.testing.assert_allclose(window.maps.sum(axis=-1), 1, atol=1e-5)
    row = jnp.array([[*PROMPT, *window.tokens]])
    observe = {"observe": lambda trace: trace.weights()}
    _, every = model.model.apply(model.params, jnp.asarray(frames)[None], row, **observe)
    for one, (layer, head) in zip(window.maps, heads, strict=True):
        np.testing.assert_allclose(one, every[layer, 0, head], atol=1e-6)
    with pytest.raises(ValueError, match="there is no head 3 in layer 1: there are 2 layers of 3"):
        model.transcribe(frames, heads=[(1, 3)])


def test_the_language_is_the_likeliest_one(said, model):
    _, arrays, _ = said
    for frames in arrays["frames"]:
        context = encode(model.model, model.params, jnp.asarray(frames)[None])
        logits, _ = read(model.model, model.params, jnp.array([[21]]), context)
        wanted = ("en", "de")[int(np.argmax(logits[0, 0, jnp.array([22, 23])]))]
        assert model.language(context) == wanted
    assert model.transcribe(frames, length=9).language == wanted
    # Of nothing, nothing is said, as openai/whisper has it, which writes "you" of silence.
    nothing = model.transcribe(np.zeros(0, np.float32))
    assert (nothing.text, nothing.language, nothing.segments) == ("", None, ())
    with pytest.raises(ValueError, match="unknown language 'dee', did you mean 'de'"):
        model.transcribe(frames, language="dee")


def test_long_sounds_end_windows_at_the_quietest_place():
    """30 s of 55 s are read first, or what stands before the silence in the last 5 of them."""
    rng = np.random.default_rng(0)
    sound = rng.normal(size=55 * RATE).astype(np.float32) * 0.1
    sound[27 * RATE : 27 * RATE + TENTH] = 0
    windows = list(quiet_windows(sound, 80))
    assert [round(start, 2) for start, _, _ in windows] == [0, 27.05]
    assert [round(end, 2) for _, end, _ in windows] == [27.05, 55]
    assert {frames.shape for _, _, frames in windows} == {(3000, 80)}
    assert not list(quiet_windows(sound[:0], 80))
    # A second at least is left for the next one.
    short = np.ones(30 * RATE + RATE // 2, np.float32)
    for start, loud in ((27.0, 0.5), (29.9, 0.0)):
        short[round(start * RATE) : round(start * RATE) + TENTH] = loud
    assert window_length(short) == round(27.05 * RATE)
    with pytest.raises(ValueError, match=r"samples \(N,\) or a spectrogram \(F, 80\), got \(\)"):
        list(quiet_windows(np.array(1, np.float32), 80))
    with pytest.raises(ValueError, match=r"a spectrogram \(F, 80\), got \(0, 80\)"):
        list(quiet_windows(np.zeros((0, 80), np.float32), 80))


def _transcriber(said):
    from crossattn.pretrained.transcriber import SpeechTokens, Transcriber

    model = whisper_model(said[0]["config"])
    return Transcriber(model, None, SpeechTokens(21, END), None)


def test_one_language_has_no_other(said):
    with pytest.raises(ValueError, match="this model writes English only, got language='de'"):
        _transcriber(said).special.prompt("de", "transcribe")
    assert _transcriber(said).special.prompt(None, "transcribe") == [21]


def test_beam(said, model):
    """The best of several texts is no worse than the greedy one, of the same rules."""
    _, arrays, _ = said
    given = {"language": "de", "length": 9}
    for frames in arrays["frames"]:
        (one,) = model.transcribe(frames, strategy=Beam(4, length_penalty=0.0), **given).segments
        (other,) = model.transcribe(frames, **given).segments
        assert one.score >= other.score - 1e-5


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        ({"d_model": None}, "config.json is not Whisper's"),
        ({"d_model": 0}, "config.json is not Whisper's: division by zero"),
        ({"d_model": float("inf")}, "config.json is not Whisper's: cannot convert float infinity"),
        ({"encoder_attention_heads": 5}, "encoder_attention_heads 5 do not divide d_model 12"),
        ({"activation_function": ["gelu"]}, "activation_function is"),
        ({"scale_embedding": True}, "scale_embedding is on"),
        ({"activation_function": "tanh"}, "activation_function is 'tanh', expected one of gelu"),
        ({"model_type": "whisperer"}, "which is not loaded: there are"),
    ],
)
def test_configs_that_are_refused(said, tmp_path, change, said_of_it):
    about, _, state = said
    with pytest.raises(WeightsError, match=said_of_it) as error:
        load_model(write_folder(tmp_path, about, state, **change))
    assert "\n" not in str(error.value)


def test_a_config_that_lacks_something(said):
    for name in ("encoder_layers", "num_mel_bins", "vocab_size", "decoder_attention_heads"):
        config = dict(said[0]["config"])
        del config[name]
        with pytest.raises(WeightsError, match=rf"config\.json has no '{name}'"):
            whisper_model(config)


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        ({"suppress_tokens": 5}, "suppress_tokens is no list of tokens below 27: 5"),
        ({"suppress_tokens": [3, -1]}, "suppress_tokens is no list of tokens below 27"),
        ({"begin_suppress_tokens": [27]}, "begin_suppress_tokens is no list of tokens below 27"),
        ({"alignment_heads": [[9, 9]]}, "alignment_heads are of 2 layers of 3 heads"),
        (
            {"decoder_start_token_id": 20},
            r"model's: it has '<\|startof.* at 21, expected 20",
        ),
        (
            {"eos_token_id": [19, 18]},
            r"model's: it has '<\|endof.* at 20, expected \[19",
        ),
    ],
)
def test_settings_of_another_model(said, tmp_path, change, said_of_it):
    about, _, state = said
    about = about | {"generation_config": about["generation_config"] | change}
    with pytest.raises(WeightsError, match=said_of_it) as error:
        load_model(write_folder(tmp_path, about, state))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "said_of_it"),
    [
        ("transcribe|", "transcribed|", r"has no token '<\|transcribe\|>'"),
        (
            '"w19": 19',
            '"w19": 19, "<|endoftext|>": 28',
            "model's: .* at 28, expected below 27: copy",
        ),
        ('"id": 20', '"id": 19', r"at 19, expected one of begin_suppress_tokens \[20, 7\]"),
    ],
)
def test_a_tokenizer_of_another_model(said, tmp_path, old, new, said_of_it):
    about, _, state = said
    folder = write_ctranslate2(tmp_path, about, state)
    file = folder / "tokenizer.json"
    text = file.read_text().replace(old, new, 1)
    file.write_text(text.replace(', "w19": 19', "") if "id" in new else text)
    with pytest.raises(WeightsError, match=said_of_it):
        load_model(folder)


@pytest.mark.parametrize("heads", [(2, 5), (5, 3)])
def test_heads_of_ctranslate2_that_do_not_divide(said, tmp_path, heads):
    about, _, state = said
    folder = write_ctranslate2(tmp_path, about, state)
    (folder / "model.bin").write_bytes(packed(variables_of(state, heads), TIED))
    with pytest.raises(WeightsError, match=r"attention_heads 5 do not divide d_model 12"):
        load_model(folder)


@pytest.mark.parametrize("change", [{"decoder_layers": 3}, {"num_mel_bins": 8}])
def test_weights_that_say_otherwise(said, tmp_path, change):
    about, _, state = said
    with pytest.raises((ImportMismatchError, WeightsError)):
        load_model(write_folder(tmp_path, about, state, **change))


def test_tensors_that_nobody_knows(said, tmp_path):
    about, _, state = said
    more = state | {"model.adapter.weight": np.ones((2, 2), np.float32)}
    with pytest.raises(ImportMismatchError, match=r"unknown  model\.adapter\.weight"):
        load_model(write_folder(tmp_path, about, more))


def test_the_encoder_goes_both_ways(said):
    """Byte for byte, and with wrong heads it is refused with a table."""
    about, _, state = said
    encoder = whisper_model(about["config"]).encoder
    params = huggingface.load(state, "whisper_encoder", module=encoder)
    back = huggingface.tensors(params, "whisper_encoder")
    assert back.keys() == {name for name in state if name.startswith("model.encoder.")}
    for name, tensor in back.items():
        assert tensor.tobytes() == state[name].tobytes(), name
    like = jax.eval_shape(encoder.init, jax.random.key(0), jnp.ones((1, 22, 7)))
    same_shape = lambda one, other: np.testing.assert_equal(np.shape(one), other.shape)
    jax.tree.map(same_shape, params, like)


def test_wrong_heads_are_refused_with_the_table(said, tmp_path):
    about, _, state = said
    folder = write_folder(tmp_path, about, state)
    encoder = whisper_model(about["config"] | {"encoder_attention_heads": 3}).encoder
    with pytest.raises(ImportMismatchError, match=r"module +heads +3 +2, as config\.json has enc"):
        huggingface.load(folder, "whisper_encoder", module=encoder)
