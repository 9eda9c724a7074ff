"""What a trained model says of a few rows and where it looks: every layer, every head."""

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
from crossattn.train.evaluate import write_greedily
from crossattn.train.step import forward
from crossattn.train.trained import TrainedRun

ROWS = 8


class Observed(NamedTuple):
    """What was seen of E rows of T tokens.

    Attributes:
      words: (E, T) int, the most likely word at each position given the true words before it; 0 at
        the first, which nothing predicts.
      probability: (E, T) float32, of that word.
      shares: (L, E, H, T-1, P) float32, of all the weight of the position that has read word t,
        what falls on each patch; the last word is not read.
    """

    words: np.ndarray
    probability: np.ndarray
    shares: np.ndarray


class Observer:
    """Observes one trained model through one compiled program, of `ROWS` rows at a time."""

    def __init__(self, trained: TrainedRun):
        self.model, self.params = trained.model, trained.params

    def observe(
        self, examples: Examples, visible: Bool[np.ndarray, "E P"] | None = None
    ) -> Observed:
        """What the model says and sees where only the `visible` patches of each image are there."""
        if visible is None:
            visible = np.ones((len(examples), examples.coverage.shape[-1]), bool)
        parts = []
        for start in range(0, len(examples), ROWS):
            rows = np.arange(start, min(start + ROWS, len(examples)))
            # Filled up with the first of them: one shape, one program.
            filled = np.concatenate([rows, np.full(ROWS - len(rows), start)])
            batch = Batch(**gather(examples, filled))
            seen = _observe(self.model, self.params, batch, visible[filled])
            parts.append(_cut(seen, len(rows)))
        words, probability, shares = zip(*parts, strict=True)
        first = ((0, 0), (1, 0))
        return Observed(
            np.pad(np.concatenate(words), first),
            np.pad(np.concatenate(probability), first),
            np.concatenate(shares, axis=1),
        )

    def write(self, examples: Examples) -> np.ndarray:
        """Greedy texts (E, T): the words to predict are written by the model itself."""
        return write_greedily(lambda draft: self.observe(draft).words, examples)


# Runs of one variant share its program.
@functools.partial(jax.jit, static_argnums=0)
def _observe(
    model: VisionLanguageDecoder, params: Any, batch: Batch, visible: Bool[Array, "B P"]
) -> tuple[Array, Array, Array]:
    logits, shares = forward(model, params, batch, visible, ImageAttention.shares)
    likely = jax.nn.softmax(logits)
    return jnp.argmax(logits, axis=-1), likely.max(axis=-1), shares


def _cut(observed: tuple[Array, Array, Array], count: int) -> tuple[np.ndarray, ...]:
    """Of the first rows, on the host."""
    words, probability, shares = map(np.asarray, observed)
    return words[:count], probability[:count], shares[:, :count]
