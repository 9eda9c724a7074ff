"""What a model says of rows of examples and where it looks: of one batch, and of many at once."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.data.batches import Batch
from crossattn.data.examples import Examples
from crossattn.models.image_attention import ImageAttention
from crossattn.models.joint_space import JointFeatures
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.shapes import Array, Bool, Int
from crossattn.train.step import forward


class Predictions(NamedTuple):
    """What a model says of E rows of T tokens.

    Attributes:
      words: (E, T) the most likely word at each position given the true words before it.
      log_likelihood: (E,) of all words to predict.
      look: what each layer saw by the position that attends, (L, E, ...); None for variants that
        do not attend to patches.
    """

    words: np.ndarray
    log_likelihood: np.ndarray
    look: "Look | None"


class Asked(NamedTuple):
    """Examples to predict.

    Attributes:
      examples: E rows of text.
      visible: patches that are not knocked out: (E, P) in all layers, (L, E, P) in each; None: all.
      attention: whether what the layers look at is kept.
    """

    examples: Examples
    visible: np.ndarray | None = None
    attention: bool = False


class Look(NamedTuple):
    """Where the words of a layer look in the image.

    Attributes:
      attention: (B, T, P) mean over heads.
      peak: (B, T, H) int16, the patch that each head attends to most, -1 where it sees none.
      mass: (B, T) share of the weight that falls on patches, mean over heads.
    """

    attention: Any
    peak: Any
    mass: Any

    def first(self, count: int) -> "Look":
        """The first rows of what several layers saw, (L, B, ...), on the host."""
        return Look(*(np.asarray(part)[:, :count] for part in self))


def look_at(attention: ImageAttention) -> Look:
    """What is kept of each layer."""
    rows = attention.weights()
    peak = jnp.where(rows.any(axis=-1), jnp.argmax(rows, axis=-1), -1).astype(jnp.int16)
    return Look(rows.mean(axis=1), peak.swapaxes(1, 2), attention.mass().mean(axis=1))


def evaluation_step(
    model: VisionLanguageDecoder, params: Any, batch: Batch, visible: Bool[Array, "*L B P"]
) -> tuple[Array, Array, Look]:
    """Most likely words (B, T-1), log-likelihood of the targets (B,), looks (L, B, T-1, ...)."""
    logits, look = forward(model, params, batch, visible, look_at)
    log_probability = jax.nn.log_softmax(logits)
    words = batch.tokens[:, 1:]
    of_word = jnp.take_along_axis(log_probability, words[..., None], axis=-1)[..., 0]
    likelihood = jnp.where(batch.target[:, 1:], of_word, 0.0).sum(axis=1)
    return jnp.argmax(logits, axis=-1), likelihood, look


def feature_step(
    model: VisionLanguageDecoder, params: Any, batch: Batch, visible: Bool[Array, "*L B P"]
) -> JointFeatures:
    """Features of the images of a batch and of its texts, which are captions."""
    return forward(model, params, batch, visible, compare=True)[2]


def evaluation_scan(
    model: VisionLanguageDecoder,
    params: Any,
    batches: Batch,
    visible: Bool[Array, "n L B P"],
    slots: Int[Array, " n"],
    *,
    kept: int,
) -> tuple[Array, Array, Any]:
    """`evaluation_step` of n batches (n, B, ...) as one program.

    Looks are written into a buffer of `kept` slots; the slot `kept` is for those that nobody wants.

    Returns:
      Words (n, B, T-1), log-likelihoods (n, B), looks (kept + 1, L, B, T-1, ...).
    """
    step = functools.partial(evaluation_step, model, params)
    look = jax.eval_shape(step, *jax.tree.map(lambda x: x[0], (batches, visible)))[2]
    empty = jax.tree.map(lambda x: jnp.zeros((kept + 1, *x.shape), x.dtype), look)

    def body(looks: Any, read: Any) -> tuple[Any, Any]:
        batch, seen, slot = read
        words, likelihood, look = step(batch, seen)
        put = lambda every, one: jax.lax.dynamic_update_index_in_dim(every, one, slot, 0)
        return jax.tree.map(put, looks, look), (words, likelihood)

    looks, (words, likelihood) = jax.lax.scan(body, empty, (batches, visible, slots))
    return words, likelihood, looks


def cut(words: Any, likelihood: Any, look: Look | None, count: int) -> Predictions:
    """What was predicted of the first rows of a batch, on the host."""
    kept = None if look is None else look.first(count)
    return Predictions(np.asarray(words)[:count], np.asarray(likelihood)[:count], kept)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """What was predicted of batches as of one; no word is predicted at the first position."""
    words = np.concatenate([part.words for part in parts])
    likelihood = np.concatenate([part.log_likelihood for part in parts])
    looks = [part.look for part in parts if part.look is not None]
    kept = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *looks) if looks else None
    return Predictions(np.pad(words, ((0, 0), (1, 0))), likelihood, kept)
