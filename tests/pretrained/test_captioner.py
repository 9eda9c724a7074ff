"""BLIP by one call: logits and texts that transformers made with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import viewer
from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.files import WeightsError
from crossattn.models.generate import Beam
from crossattn.pretrained import load_model
from crossattn.pretrained.image_processor import ImageProcessor
from tests.support.pretrained import fixture, folder_of, write

PARTS = {"blip_vision": "vision_model.", "blip_decoder": "text_decoder."}
ASKED = PARTS | {"blip_question": "text_encoder."}
PICTURE = np.random.default_rng(0).integers(256, size=(20, 30, 3), dtype=np.uint8)


def same_texts(texts, wanted, end):
    """Up to the first end, behind which both have filled up."""
    found = np.asarray(texts.tokens)
    counts = np.cumsum(np.cumsum(wanted[:, 1:] == end, axis=1), axis=1) < 2
    counts = np.pad(counts, ((0, 0), (1, 0)), constant_values=True)
    assert 0 < (~counts).any(axis=1).sum() < len(counts)
    np.testing.assert_array_equal(found[counts], wanted[counts])
    np.testing.assert_array_equal(texts.lengths, counts.sum(axis=1))


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    """Of a file as older versions wrote it: with what is not read, and what is there twice."""
    arrays, state, config = fixture("blip_caption")
    words = state["text_decoder.bert.embeddings.word_embeddings.weight"]
    state["text_decoder.cls.predictions.decoder.weight"] = words
    state["text_decoder.bert.embeddings.position_ids"] = np.arange(16)[None]
    folder = write(tmp_path_factory.mktemp("caption"), state, config)
    return load_model(folder), arrays


@pytest.fixture(scope="module")
def answerer(tmp_path_factory):
    folder, arrays = folder_of("blip_vqa", tmp_path_factory.mktemp("vqa"))
    return load_model(folder), arrays


def logits(model, tokens, context):
    apply = jax.jit(model.decoder.apply)
    return apply(model.params["decoder"], jnp.asarray(tokens, jnp.int32), context)[0]


@pytest.mark.parametrize("name", [pytest.param("blip_caption", marks=pytest.mark.slow), "blip_vqa"])
def test_the_same_logits(name, tmp_path, x64):
    """In float64, as the fixtures are; in float32 logits of 11 differ by 1.4e-5."""
    folder, arrays = folder_of(name, tmp_path)
    model = load_model(folder, dtype=jnp.float64)
    asked = jnp.asarray(arrays["in/question"], jnp.int32) if "in/question" in arrays else None
    context, _ = model.read(jnp.asarray(arrays["in/images"], jnp.float64), asked)
    states, tokens = ("tokens", "tokens") if asked is None else ("question", "answer")
    np.testing.assert_allclose(context, arrays[f"out/{states}"], atol=1e-10)
    found = logits(model, arrays[f"in/{tokens}"], context)
    np.testing.assert_allclose(found, arrays["out/logits"], atol=1e-10)
    assert np.ptp(arrays["out/logits"]) > 5


def test_a_caption_is_that_of_transformers(captioner):
    model, arrays = captioner
    pixels = jnp.asarray(arrays["in/images"])
    texts, seen = model.generate(pixels, [[model.start_id]] * len(pixels), length=10)
    same_texts(texts, arrays["out/greedy"], model.end_id)
    # Its maps are those of the whole text read at once.
    context, _ = model.read(pixels)
    read = jax.jit(lambda *given: model.decoder.apply(*given, observe=lambda t: t.weights())[1])
    whole = read(model.params["decoder"], texts.tokens[:, :-1], context)
    first = int(texts.lengths.min()) - 1
    assert seen.shape == (3, 2, 2, 11, 10)
    wanted = np.asarray(whole).swapaxes(0, 1)[:, :, :, :first]
    np.testing.assert_allclose(seen[:, :, :, :first], wanted, atol=1e-5)


@pytest.mark.slow
def test_behind_a_prompt(captioner):
    """Its first token is the start, its last one, which would end it, is left out."""
    model, arrays = captioner
    prompt = np.array(arrays["in/tokens"][:, :3])
    prompt[:, 0] = model.start_id
    texts, _ = model.generate(jnp.asarray(arrays["in/images"]), prompt.tolist(), length=8)
    found, wanted = np.asarray(texts.tokens), arrays["out/prompted"]
    for row, own in enumerate(found):
        length = int(texts.lengths[row])
        np.testing.assert_array_equal(own[:length], wanted[row, :length])


@pytest.mark.slow
def test_an_answer_is_that_of_transformers(answerer):
    model, arrays = answerer
    pixels, question = jnp.asarray(arrays["in/images"]), jnp.asarray(arrays["in/question"], "i4")
    _, seen = model.read(pixels, question)
    texts, _ = model.generate(pixels, [[model.start_id]] * len(pixels), question, length=8)
    same_texts(texts, arrays["out/greedy"], model.end_id)
    assert seen.shape == (3, 2, 2, 6, 10)


@pytest.mark.slow
def test_words_and_where_they_look(captioner):
    model, _ = captioner
    caption = model.caption(PICTURE, "w5 W7s", length=4)
    assert caption.words[:2] == ("w5", "w7s")
    assert caption.written[:3] == (False, False, True)
    assert caption.weights.shape == (2, 2, len(caption.words), 9)
    assert caption.text.split()[:2] == ["w5", "w7s"]
    # Word by word: the map of a word is that of the position which wrote it.
    ids = [model.start_id, 5, 7, 30]
    context, _ = model.read(jnp.asarray(model.tower.processor(PICTURE))[None])
    whole = model.decoder.apply(
        model.params["decoder"], jnp.array([ids]), context, observe=lambda trace: trace.weights()
    )[1]
    np.testing.assert_allclose(caption.weights[:, :, 0], whole[:, 0, :, 0, 1:], atol=1e-6)
    both = whole[:, 0, :, 1:3, 1:].mean(axis=2)
    np.testing.assert_allclose(caption.weights[:, :, 1], both, atol=1e-6)
    np.testing.assert_allclose(caption.weights[:, :, 2], whole[:, 0, :, 3, 1:], atol=1e-6)
    page = viewer.explore(caption.example())
    assert "w7s" in page.html
    beam = model.caption(PICTURE, length=4, strategy=Beam(2))
    assert beam.weights.shape[2] == len(beam.words)


@pytest.mark.slow
def test_a_question_and_its_answer(answerer):
    model, _ = answerer
    caption = model.answer(PICTURE, "w5 w7", length=3)
    assert caption.words[:2] == ("w5", "w7")
    assert caption.written[:3] == (False, False, True)
    assert caption.weights.shape == (2, 2, len(caption.words), 9)
    assert (caption.weights.sum(axis=-1) < 1 + 1e-5).all()
    assert viewer.explore(caption.example())
    with pytest.raises(WeightsError, match="blip_vqa answers questions: ask one"):
        model.caption(PICTURE)
    with pytest.raises(WeightsError, match=r"a question of 17 tokens, .* positions for 16"):
        model.answer(PICTURE, "w5 " * 15)


def test_what_a_captioner_refuses(captioner, monkeypatch):
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    model, _ = captioner
    with monkeypatch.context() as patch:
        patch.setitem(vars(model.tower), "processor", ImageProcessor(size=(20, 14)))
        with pytest.raises(WeightsError, match=r"makes pictures of 20 x 14 pixels, .* 12 x 12"):
            model.caption(PICTURE)
    with pytest.raises(WeightsError, match="writes captions: it takes no question"):
        model.answer(PICTURE, "w5 ?")
    for token in (40, -1):
        said = f"token {token} of the tokenizer: the model has words 0 to 39"
        with pytest.raises(WeightsError, match=said):
            model.generate(jnp.zeros((1, 14, 14, 3)), [[model.start_id, token]], length=10)
    with pytest.raises(ValueError, match=r"prompt holds 3 rows of tokens, .* got \(0,\)"):
        model.generate(jnp.zeros((3, 14, 14, 3)), [])
    with pytest.raises(WeightsError, match=r"1 tokens and 16 more, .* give a length of 1 to 15"):
        model.caption(PICTURE, length=16)
    assert repr(model) == (
        "Captioner(captions; 3 x 3 patches of 4, 2 layers; texts of up to 16 tokens, 2 layers)"
    )


@pytest.mark.parametrize(("name", "parts"), [("blip_caption", PARTS), ("blip_vqa", ASKED)])
def test_byte_for_byte(name, parts):
    _, state, _ = fixture(name)
    back = {}
    for layout, prefix in parts.items():
        params = huggingface.load(state, layout, prefix=prefix)
        back |= huggingface.tensors(params, layout, prefix=prefix)
    assert back.keys() == state.keys()
    assert all(back[key].tobytes() == state[key].tobytes() for key in state)


def without(prefix):
    return lambda state, config: [state.pop(key) for key in list(state) if key.startswith(prefix)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (without("text_decoder.cls.predictions.bias"), ImportMismatchError, "missing +text_decod"),
        (without("text_decoder."), WeightsError, "has no tensors of a text_decoder: BlipForCond"),
        (
            lambda s, c: c["text_config"].update(num_attention_heads=5),
            WeightsError,
            "num_attention_heads 5: expected a divisor",
        ),
        (
            lambda s, c: c["text_config"].update(max_position_embeddings=17),
            ImportMismatchError,
            "misshaped|max_position_embeddings",
        ),
        (
            lambda s, c: c["text_config"].update(hidden_size=8),
            WeightsError,
            "hidden_size 8: expected that of the pictures, 12",
        ),
    ],
)
def test_what_does_not_fit(change, error, message, tmp_path):
    _, state, config = fixture("blip_vqa")
    change(state, config)
    with pytest.raises(error, match=message):
        load_model(write(tmp_path / "broken", state, config))
