"""Vision towers: ViT of transformers, and what a tower refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import huggingface
from crossattn.models.image_tower import ImageTower
from crossattn.models.text_tower import TextTower
from crossattn.nn import Stack, presets
from tests.support.fixtures import float64
from tests.support.pretrained import fixture

VIT = replace(presets.TEXT.residual, epsilon=1e-12)
STACK = Stack(
    2, 12, 3, replace(presets.TEXT, residual=VIT, mlp=replace(presets.TEXT.mlp, expansion=20 / 12))
)
TOWER = ImageTower(STACK, patch_size=4, grid=(3, 3), epsilon=1e-12)


@pytest.mark.slow
def test_the_tokens_of_a_vision_transformer(x64):
    arrays, state, config = fixture("vit")
    assert config["num_attention_heads"] == STACK.heads
    params = float64(huggingface.load(state, "vit", module=TOWER))
    images = jnp.asarray(arrays["in/images"], jnp.float64)
    tokens = jax.jit(TOWER.apply)(params, images)
    # The class takes its softmax in float32.
    np.testing.assert_allclose(tokens, arrays["out/tokens"], atol=2e-6)
    # 14 pixels are 3 patches of 4: the last two rows and columns are not seen.
    cut = images.at[:, 12:].set(9).at[:, :, 12:].set(9)
    np.testing.assert_array_equal(jax.jit(TOWER.apply)(params, cut), tokens)
    pooled = jax.eval_shape(lambda: TOWER.apply(params, images, method="pooled"))
    assert pooled.shape == (3, 12)


def test_a_file_comes_back_but_for_its_head():
    _, state, _ = fixture("vit")
    back = huggingface.tensors(huggingface.load(state, "vit"), "vit")
    assert state.keys() - back.keys() == {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(back[name].tobytes() == state[name].tobytes() for name in back)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            jnp.ones((1, 12, 16, 3)),
            r"12 x 16 pixels, .* 3 x 3 patches of 4: resize them to 12 x 12",
        ),
        (jnp.ones((1, 12, 12, 4)), r"pixels are \(B, h, w, 3\), got \(1, 12, 12, 4\)"),
        (jnp.ones((12, 12, 3)), r"pixels are \(B, h, w, 3\), got \(12, 12, 3\)"),
    ],
)
def test_pictures_that_it_does_not_read(images, message, unchecked):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: TOWER.init(jax.random.key(0), images))


def test_a_tower_reads_nothing_else():
    tower = ImageTower(Stack(1, 8, 2), patch_size=4, grid=(1, 1))
    with pytest.raises(ValueError, match="ImageTower: its blocks read no context"):
        jax.eval_shape(lambda: tower.init(jax.random.key(0), jnp.ones((1, 4, 4, 3))))


def test_texts_that_a_tower_does_not_read():
    tower = TextTower(Stack(1, 8, 2, presets.TEXT), vocab_size=11, length=4)
    for tokens, message in (
        (jnp.ones((1, 5), int), "5 tokens, but this tower has positions for 4"),
        (jnp.full((1, 3), 11), "token 11 of a table of 11"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda tokens=tokens: tower.init(jax.random.key(0), tokens))


@pytest.mark.slow
def test_words_that_are_not_there_change_nothing():
    tower = TextTower(Stack(1, 8, 2, presets.TEXT), vocab_size=11, length=4)
    tokens, there = (
        jnp.array([[1, 2, 3, 4], [1, 2, 5, 6]]),
        jnp.array([[True, True, False, False]] * 2),
    )
    run = jax.jit(lambda: tower.init_with_output(jax.random.key(0), tokens, there=there))
    (states, _), _ = run()
    np.testing.assert_array_equal(states[0, :2], states[1, :2])
    assert (states[0, 2:] != states[1, 2:]).any()
