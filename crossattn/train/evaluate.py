"""Evaluation: one compiled program per variant; splits, knock-outs and captions are data."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.data.batches import Batch, gather
from crossattn.data.examples import Examples
from crossattn.models.image_attention import ImageAttention
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.shapes import Array, Bool
from crossattn.train.parallel import EVALUATION_AXES, SINGLE_DEVICE, Parallelism
from crossattn.train.step import forward

ROWS_PER_BATCH = 128


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


class Evaluator:
    """Predicts with the parameters of any seed of one variant."""

    def __init__(self, model: VisionLanguageDecoder, parallel: Parallelism = SINGLE_DEVICE):
        self.layers = model.config.reading_layers
        self.patches_seen = model.config.attends
        self.program = parallel.evaluator(functools.partial(evaluation_step, model))
        shards = parallel.size(*EVALUATION_AXES)
        self.rows = -(-ROWS_PER_BATCH // shards) * shards

    def predict(
        self,
        params: Any,
        examples: Examples,
        visible: Bool[np.ndarray, "*L E P"] | None = None,
        *,
        attention: bool = True,
    ) -> Predictions:
        """Predict all rows; what the layers look at is kept on request.

        `visible` knocks patches out: (E, P) in all layers, (L, E, P) in each.
        """
        count = len(examples)
        shape = (self.layers, count, examples.coverage.shape[-1])
        visible = np.broadcast_to(np.ones((), bool) if visible is None else visible, shape)
        words, likelihood, looks = [], [], []
        for start in range(0, count, self.rows):
            # The last batch is filled up with its first row: one shape, one program.
            rows = np.arange(start, min(start + self.rows, count))
            filled = np.concatenate([rows, np.full(self.rows - len(rows), rows[0])])
            batch = Batch(**gather(examples, filled))
            best, batch_likelihood, look = self.program(params, batch, visible[:, filled])
            words.append(np.asarray(best)[: len(rows)])
            likelihood.append(np.asarray(batch_likelihood)[: len(rows)])
            if attention and self.patches_seen:
                looks.append(look.first(len(rows)))
        predicted = np.pad(np.concatenate(words), ((0, 0), (1, 0)))
        kept = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *looks) if looks else None
        return Predictions(predicted, np.concatenate(likelihood), kept)

    def write(self, params: Any, examples: Examples) -> np.ndarray:
        """Greedy texts (E, T): the words to predict are written by the model itself."""
        tokens = np.where(examples.target, 0, examples.tokens)
        for position in np.flatnonzero(examples.target.any(axis=0)):
            draft = dataclasses.replace(examples, tokens=tokens)
            said = self.predict(params, draft, attention=False).words[:, position]
            tokens[:, position] = np.where(examples.target[:, position], said, tokens[:, position])
        return tokens


def knockouts(
    truth: Bool[np.ndarray, "E P"], random: np.random.Generator
) -> dict[str, Bool[np.ndarray, "E P"]]:
    """What stays visible when a region is knocked out (Geva et al. 2023).

    Args:
      truth: patches that the true region touches at all, at most half of them.
      random: source of the random regions.

    Returns:
      "truth": all but the true region; "random": all but as many patches drawn outside of it;
      "rest": the true region alone.

    Raises:
      ValueError: where so many patches are true that there are not as many others.
    """
    if (2 * truth.sum(axis=1) > truth.shape[1]).any():
        raise ValueError("a region over half the patches leaves no room for a random one")
    # Order the patches of each row at random with the true ones last: the first n are the region.
    order = np.argsort(random.random(truth.shape) + truth, axis=1)
    rank = np.argsort(order, axis=1)
    return {"truth": ~truth, "random": rank >= truth.sum(axis=1, keepdims=True), "rest": truth}
