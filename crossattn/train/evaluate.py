"""Evaluation: one compiled program per variant; splits, knock-outs and captions are data."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.data.batches import gather
from crossattn.data.examples import Examples
from crossattn.models.decoder import VisionLanguageDecoder
from crossattn.ops import Trace
from crossattn.shapes import Array, Bool, Float
from crossattn.train.step import Batch, forward

ROWS_PER_BATCH = 128


class Predictions(NamedTuple):
    """What a model says of E rows of T tokens.

    Attributes:
      words: (E, T) the most likely word at each position given the true words before it.
      log_likelihood: (E,) of all words to predict.
      attention: (L, E, T-1, P) mean over heads, by the position that attends; None for variants
        that do not attend to patches.
    """

    words: np.ndarray
    log_likelihood: np.ndarray
    attention: np.ndarray | None


def mean_over_heads(trace: Trace) -> Float[Array, "B T S"]:
    """The attention map of a layer."""
    return trace.rows().mean(axis=1)


def evaluation_step(
    model: VisionLanguageDecoder, params: Any, batch: Batch, visible: Bool[Array, "B P"]
) -> tuple[Array, Array, Array]:
    """Most likely words (B, T-1), log-likelihood of the targets (B,), attention (L, B, T-1, S)."""
    logits, attention = forward(model, params, batch, visible, mean_over_heads)
    log_probability = jax.nn.log_softmax(logits)
    words = batch.tokens[:, 1:]
    of_word = jnp.take_along_axis(log_probability, words[..., None], axis=-1)[..., 0]
    likelihood = jnp.where(batch.target[:, 1:], of_word, 0.0).sum(axis=1)
    return jnp.argmax(logits, axis=-1), likelihood, attention


class Evaluator:
    """Predicts with the parameters of any seed of one variant."""

    def __init__(self, model: VisionLanguageDecoder):
        self.patches_seen = model.fusion in ("cross-attention", "oracle-attention")
        self.program = jax.jit(functools.partial(evaluation_step, model))

    def predict(
        self,
        params: Any,
        examples: Examples,
        visible: Bool[np.ndarray, "E P"] | None = None,
        *,
        attention: bool = True,
    ) -> Predictions:
        """Predict all rows; `visible` (E, P) knocks out patches; the maps are kept on request."""
        count, patches = len(examples), examples.coverage.shape[-1]
        words, likelihood, maps = [], [], []
        for start in range(0, count, ROWS_PER_BATCH):
            # The last batch is filled up with its first row: one shape, one program.
            rows = np.arange(start, min(start + ROWS_PER_BATCH, count))
            filled = np.concatenate([rows, np.full(ROWS_PER_BATCH - len(rows), rows[0])])
            seen = visible[filled] if visible is not None else np.ones((len(filled), patches), bool)
            result = self.program(params, Batch(**gather(examples, filled)), seen)
            best, batch_likelihood, weights = (np.asarray(part) for part in result)
            words.append(best[: len(rows)])
            likelihood.append(batch_likelihood[: len(rows)])
            if attention and self.patches_seen:
                maps.append(weights[:, : len(rows)])
        predicted = np.pad(np.concatenate(words), ((0, 0), (1, 0)))
        kept = np.concatenate(maps, axis=1) if maps else None
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
