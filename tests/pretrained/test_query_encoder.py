"""BLIP-2's first stage by one call: what transformers made of the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.files import WeightsError
from crossattn.pretrained import load_model
from tests.support.pretrained import fixture, folder_of, write

PARTS = {"blip_vision": "vision_model.", "qformer": "", "blip2": ""}


def test_the_same_scores(tmp_path, x64):
    folder, arrays = folder_of("blip2", tmp_path)
    model = load_model(folder, dtype=jnp.float64)
    apply = jax.jit(model.module.apply, static_argnames="method")
    images, tokens, there = (
        jnp.asarray(arrays[f"in/{name}"], dtype)
        for name, dtype in (("images", "f8"), ("tokens", "i4"), ("there", bool))
    )
    image = apply(model.params, images, method="image_features")
    text = apply(model.params, tokens, there, method="text_features")
    np.testing.assert_allclose(image, arrays["out/image"], atol=1e-10)
    np.testing.assert_allclose(text, arrays["out/text"], atol=1e-10)
    found = apply(model.params, image, text, method="compare")
    np.testing.assert_allclose(found, arrays["out/contrast"], atol=1e-10)
    assert np.ptp(arrays["out/contrast"]) > 0.01


@pytest.mark.slow
def test_the_same_matches(tmp_path, x64):
    folder, arrays = folder_of("blip2", tmp_path)
    model = load_model(folder, dtype=jnp.float64)
    given = (("images", "f8"), ("tokens", "i4"), ("there", bool))
    inputs = [jnp.asarray(arrays[f"in/{name}"], dtype) for name, dtype in given]
    matched = jax.jit(model.module.apply)(model.params, *inputs)
    np.testing.assert_allclose(matched, arrays["out/match"], atol=1e-10)
    assert np.ptp(arrays["out/match"][:, 0]) > 0.01


@pytest.mark.slow
def test_pictures_and_texts(tmp_path):
    model = load_model(folder_of("blip2", tmp_path)[0])
    pictures = list(np.random.default_rng(0).integers(256, size=(2, 9, 12, 3), dtype=np.uint8))
    assert model.tokens(["w5 w7", "w9"])[:, :5].tolist() == [[2, 5, 7, 3, 0], [2, 9, 3, 0, 0]]
    found = model.match(pictures, ["w5 w7", "w9"])
    assert ((found > 0) & (found < 1)).all()
    seen = model.looks(pictures)
    assert seen.shape == (2, 1, 2, 3, 9)
    with pytest.raises(ValueError, match="2 pictures and 1 texts: give pairs"):
        model.match(pictures, ["w5"])
    assert repr(model) == (
        "QueryEncoder(3 x 3 patches of 4, 2 layers; 3 queries, 2 layers; 6 features)"
    )


def test_byte_for_byte():
    _, state, _ = fixture("blip2")
    back = {}
    for layout, prefix in PARTS.items():
        params = huggingface.load(state, layout, prefix=prefix)
        back |= huggingface.tensors(params, layout, prefix=prefix)
    assert back.keys() == state.keys()
    assert all(back[key].tobytes() == state[key].tobytes() for key in state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s, c: s.pop("itm_head.bias"), ImportMismatchError, r"missing +itm_head\.bias"),
        (
            lambda s, c: [s.pop(f"itm_head.{name}") for name in ("weight", "bias")],
            WeightsError,
            "has no tensors of an itm_head: Blip2ForImageTextRetrieval is loaded",
        ),
        (
            lambda s, c: s.update({"language_model.weight": np.ones(2, "f4")}),
            ImportMismatchError,
            r"unknown +language_model\.weight",
        ),
        (lambda s, c: c.update(num_query_tokens=4), ImportMismatchError, "misshaped +query_tokens"),
        (
            lambda s, c: c["qformer_config"].update(num_attention_heads=3),
            WeightsError,
            "num_attention_heads 3: expected a divisor of hidden_size 8",
        ),
    ],
)
def test_what_does_not_fit(change, error, message, tmp_path):
    _, state, config = fixture("blip2")
    change(state, config)
    with pytest.raises(error, match=message):
        load_model(write(tmp_path / "broken", state, config))
