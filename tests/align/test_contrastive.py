"""Losses that compare pictures with texts: float64 definitions, Optax, planted truths."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crossattn.align import (
    contrastive_loss,
    equal_captions,
    hard_negatives,
    matching_loss,
    recall_at,
    recall_chance_of,
    recall_of,
    retrieval_accuracy,
)

I, TEXTS, D, SCALE = 5, 2, 7, 3.0  # noqa: E741 - I counts images
random = np.random.default_rng(0)


def unit(*shape):
    x = random.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


IMAGE, TEXT = unit(I, D), unit(I * TEXTS, D)
# Two texts of each image; text 3 says what text 0 says, text 5 is no caption.
TOKENS = np.arange(2 * I * TEXTS).reshape(-1, 2)
TOKENS[3] = TOKENS[0]
COUNTED = np.arange(I * TEXTS) != 5


def truth():
    """Row by row, as it is said."""
    right = np.zeros((I, I * TEXTS), bool)
    for image in range(I):
        own = [t for t in range(I * TEXTS) if t // TEXTS == image and COUNTED[t]]
        for text in range(I * TEXTS):
            same = any((TOKENS[text] == TOKENS[one]).all() for one in own)
            right[image, text] = COUNTED[text] and same
    return right


def definition(image, text, scale, right):
    """Mean cross-entropy of both directions, of targets that are spread evenly, in float64."""
    scores, ways = scale * image @ text.T, []
    for table, true, there in ((scores, right, right.any(0)), (scores.T, right.T, None)):
        losses = []
        for row, own in zip(table, true, strict=True):
            if not own.any():
                continue
            among = row if there is None else row[there]
            losses.append(np.mean([np.log(np.exp(among).sum()) - s for s in row[own]]))
        ways.append(np.mean(losses))
    return np.mean(ways)


def test_equal_captions_are_true_of_the_same_images():
    found = equal_captions(jnp.asarray(TOKENS), jnp.asarray(COUNTED), I)
    np.testing.assert_array_equal(found, truth())
    assert truth().sum() == I * TEXTS - 1 + 2


def test_the_definition_in_float64(x64):
    right = truth()
    found = contrastive_loss(jnp.asarray(IMAGE), jnp.asarray(TEXT), SCALE, jnp.asarray(right))
    np.testing.assert_allclose(found, definition(IMAGE, TEXT, SCALE, right), rtol=1e-12)
    # In any order of texts and of images.
    order, texts = random.permutation(I), random.permutation(I * TEXTS)
    moved = IMAGE[order], TEXT[texts], SCALE, right[order][:, texts]
    np.testing.assert_allclose(contrastive_loss(*map(jnp.asarray, moved)), found, rtol=1e-12)


def test_pairs_are_as_clip_has_them():
    """Radford et al. 2021, figure 3, with Optax's cross-entropy."""
    image, text = jnp.asarray(IMAGE, jnp.float32), jnp.asarray(TEXT[:I], jnp.float32)
    logits, labels = SCALE * image @ text.T, jnp.arange(I)
    entropy = optax.softmax_cross_entropy_with_integer_labels
    clip = (entropy(logits, labels).mean() + entropy(logits.T, labels).mean()) / 2
    np.testing.assert_allclose(contrastive_loss(image, text, SCALE), clip, rtol=1e-6)


def test_halves_are_compared_in_single_precision():
    halves = jnp.asarray(IMAGE, jnp.bfloat16)
    assert contrastive_loss(halves, halves, 1.0).dtype == jnp.float32


def test_captions_of_equal_words_do_not_push_each_other_away():
    """Two scenes that look alike and are told alike: nothing is left to learn."""
    image = jnp.asarray([[1.0, 0], [1, 0], [0, 1]])
    tokens = jnp.asarray([[1, 2], [1, 2], [3, 4]])
    right = equal_captions(tokens, jnp.ones(3, bool), 3)
    loss = lambda image, right: contrastive_loss(image, image, 30.0, right)
    # The entropy of the target is what remains: log 2 of two in three.
    np.testing.assert_allclose(loss(image, right), 2 / 3 * np.log(2), rtol=1e-6)
    assert float(retrieval_accuracy(image, image, right)) == 1
    # Were they negatives, features would be torn apart.
    gradient = jax.grad(loss)(image + jnp.asarray([[0, 0.01], [0, -0.01], [0, 0]]), right)
    torn = jax.grad(lambda image: contrastive_loss(image, image, 30.0))(
        image + jnp.asarray([[0, 0.01], [0, -0.01], [0, 0]])
    )
    assert gradient[0, 1] > 0 > torn[0, 1]


def test_a_batch_without_captions_has_no_loss_and_no_gradient():
    nothing = jnp.zeros((I, I), bool)
    image, text = (jnp.asarray(x, jnp.float32) for x in (IMAGE, TEXT[:I]))
    loss = lambda image: contrastive_loss(image, text, SCALE, nothing)
    value, gradient = jax.value_and_grad(loss)(image)
    assert float(value) == 0
    assert not gradient.any()


def test_training_on_it_finds_planted_pairs():
    """Images are a rotation of their texts, which the loss has to find."""
    rotation = np.linalg.qr(random.normal(size=(D, D)))[0]
    text = unit(40, D)
    image, text = jnp.asarray(text @ rotation, jnp.float32), jnp.asarray(text, jnp.float32)
    loss = jax.jit(jax.value_and_grad(lambda w: contrastive_loss(image @ w, text, 5.0)))
    weight = jnp.zeros((D, D))
    first = float(loss(weight)[0])
    for _ in range(100):
        weight -= 2.0 * loss(weight)[1]
    np.testing.assert_allclose(first, np.log(40), rtol=1e-5)
    assert float(retrieval_accuracy(image @ weight, text)) == 1
    assert (np.asarray(weight) * rotation.T).sum() > 0.9 * np.linalg.norm(weight) * D**0.5


def test_negatives_are_drawn_in_proportion_to_similarity():
    scores = jnp.asarray([0.0, np.log(2), np.log(5), 9.0])
    right = jnp.asarray([False, False, False, True])
    many = jnp.broadcast_to(scores, (8000, 4)), jnp.broadcast_to(right, (8000, 4))
    drawn, there = hard_negatives(jax.random.key(0), *many)
    share = np.bincount(np.asarray(drawn), minlength=4) / 8000
    np.testing.assert_allclose(share, [1 / 8, 2 / 8, 5 / 8, 0], atol=0.02)
    assert there.all()
    # Nothing flows back into what decides the draw.
    chosen = lambda s: jnp.take_along_axis(
        s, hard_negatives(jax.random.key(0), s, right[None])[0][:, None], 1
    )
    flow = jax.grad(lambda s: chosen(s).sum())(scores[None])
    assert sorted(flow[0].tolist()) == [0, 0, 0, 1]


def test_matching_is_binary_cross_entropy():
    logits, match = jnp.asarray(random.normal(size=6), jnp.float32), jnp.arange(6) % 2 == 0
    counted = jnp.arange(6) < 4
    want = optax.sigmoid_binary_cross_entropy(logits, match.astype(logits.dtype))
    np.testing.assert_allclose(matching_loss(logits, match), want.mean(), rtol=1e-6)
    np.testing.assert_allclose(matching_loss(logits, match, counted), want[:4].mean(), rtol=1e-6)
    assert float(matching_loss(jnp.asarray([900.0, -900.0]), jnp.asarray([True, False]))) == 0


def test_recall_where_captions_are_true_of_several_images():
    right = truth()[:, COUNTED]
    scores = random.normal(size=right.shape)
    for k in (1, 3):
        found = recall_of(scores, right, k)
        for name, table, true in (
            ("image_to_text", scores, right),
            ("text_to_image", scores.T, right.T),
        ):
            ranked = [own[np.argsort(-row)][:k].any() for row, own in zip(table, true, strict=True)]
            np.testing.assert_array_equal(found[name], np.array(ranked, float))
    # Random scores are right as often as chance says.
    many = [recall_of(random.normal(size=right.shape), right, 2) for _ in range(600)]
    for name, level in recall_chance_of(right, 2).items():
        np.testing.assert_allclose(np.mean([m[name] for m in many], 0), level, atol=0.08)
    # With one image each it is the recall of pairs.
    image_of = np.arange(I * TEXTS) // TEXTS
    pairs, scores = image_of == np.arange(I)[:, None], IMAGE @ TEXT.T
    for name, hits in recall_at(scores, image_of, 1).items():
        np.testing.assert_array_equal(recall_of(scores, pairs, 1)[name], hits)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: contrastive_loss(IMAGE, TEXT, 1.0), "5 images, 10 texts: give positives"),
        (lambda: contrastive_loss(IMAGE, TEXT[:, :3], 1.0), r"\(I, D\) and \(B, D\) are meant"),
        (
            lambda: contrastive_loss(IMAGE, IMAGE, 1.0, np.eye(I)),
            r"positives are bool\[5, 5\], images by texts, got float64\[5, 5\]",
        ),
        (lambda: matching_loss(jnp.zeros(2), jnp.ones(3, bool)), r"one shape \(N,\) is meant"),
        (lambda: recall_of(np.eye(2), np.eye(3, dtype=bool), 1), "images by captions are meant"),
        (lambda: recall_of(np.eye(2), np.zeros((2, 2), bool), 1), "each image has a caption"),
        (lambda: recall_of(np.eye(2), np.eye(2, dtype=bool), 0), "k is at least 1"),
    ],
)
def test_what_cannot_be_is_refused(unchecked, call, said):
    with pytest.raises(ValueError, match=said):
        call()
