"""Evaluation: one compiled program per variant; splits, knock-outs and captions are data."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from crossattn.data.batches import Batch, gather
from crossattn.data.examples import Examples
from crossattn.models.joint_space import JointFeatures
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.shapes import Bool
from crossattn.train.memory import tree_bytes
from crossattn.train.parallel import EVALUATION_AXES, SINGLE_DEVICE, Parallelism
from crossattn.train.predictions import (
    Asked,
    Predictions,
    cut,
    evaluation_scan,
    evaluation_step,
    feature_step,
    joined,
)

ROWS_PER_BATCH = 128
# Of the batches and looks of one dispatch of many batches, at most.
DISPATCH_BYTES = 2**30


class Evaluator:
    """Predicts with the parameters of any seed of one variant.

    Attributes:
      program: of one batch of `rows` rows.
      scan: of many batches, where a program of training makes many steps; else None.
      compare: of features of images and captions; None of models without.
    """

    scan: Callable[..., Any] | None = None
    compare: Callable[..., Any] | None = None

    def __init__(self, model: VisionLanguageDecoder, parallel: Parallelism = SINGLE_DEVICE):
        self.layers = model.config.reading_layers
        self.patches_seen = model.config.attends
        self.program = parallel.evaluator(functools.partial(evaluation_step, model))
        if parallel.chunking and parallel.chunking.steps > 1:
            self.scan = jax.jit(functools.partial(evaluation_scan, model), static_argnames="kept")
        if model.config.embedding:
            self.compare = parallel.evaluator(functools.partial(feature_step, model))
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
        asked = Asked(examples, visible, attention)
        parts = []
        for rows in self._batches(asked):
            words, likelihood, look = self.program(params, *self._filled(asked, rows))
            parts.append(cut(words, likelihood, look if self._kept(asked) else None, len(rows)))
        return joined(parts)

    def features(self, params: Any, examples: Examples) -> JointFeatures:
        """Features (E, D) of each caption and of its image, on the host.

        Raises:
          ValueError: the model has none.
        """
        if self.compare is None:
            raise ValueError("this model has no features of images and texts: model.embedding is 0")
        asked, parts = Asked(examples), []
        for rows in self._batches(asked):
            found = self.compare(params, *self._filled(asked, rows))._replace(scale=None)
            parts.append(jax.tree.map(lambda x, rows=rows: np.asarray(x)[: len(rows)], found))
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    def predict_all(self, params: Any, every: Sequence[Asked]) -> list[Predictions]:
        """`predict` for each; where there is a program of many batches, in one dispatch.

        Or in as few as keep its inputs and looks within `DISPATCH_BYTES`.
        """
        if self.scan is None:
            return [
                self.predict(params, one.examples, one.visible, attention=one.attention)
                for one in every
            ]
        places = [(one, rows) for one in every for rows in self._batches(one)]
        each = max(map(self._bytes, every))
        pieces = -(-len(places) // max(1, DISPATCH_BYTES // each))
        size = -(-len(places) // pieces)
        # One more batch with looks is another program: as many for all pieces.
        kept = size if pieces > 1 else sum(self._kept(one) for one, _ in places)
        parts = []
        for start in range(0, len(places), size):
            parts += self._dispatch(params, places[start : start + size], size, kept)
        counts = [len(self._batches(one)) for one in every]
        ends = np.cumsum(counts)
        return [joined(parts[end - n : end]) for end, n in zip(ends, counts, strict=True)]

    def _dispatch(
        self, params: Any, places: list[tuple[Asked, np.ndarray]], size: int, kept: int
    ) -> list[Predictions]:
        """Predictions of batches by the program of `size` batches."""
        assert self.scan is not None
        filled = [self._filled(*place) for place in places]
        filled += [filled[-1]] * (size - len(filled))
        wanted = [self._kept(one) for one, _ in places] + [False] * (size - len(places))
        slots = np.where(wanted, np.cumsum(wanted) - 1, kept).astype(np.int32)
        batches, visible = jax.tree.map(lambda *x: np.stack(x), *filled)
        words, likelihood, looks = self.scan(params, batches, visible, slots, kept=kept)
        words, likelihood = np.asarray(words), np.asarray(likelihood)
        looks = jax.tree.map(np.asarray, looks) if any(wanted) else None
        at = lambda slot: jax.tree.map(lambda x: x[slot], looks)
        return [
            cut(words[i], likelihood[i], at(slots[i]) if wanted[i] else None, len(rows))
            for i, (_, rows) in enumerate(places)
        ]

    def _batches(self, asked: Asked) -> list[np.ndarray]:
        """The rows of each batch."""
        count = len(asked.examples)
        return [np.arange(i, min(i + self.rows, count)) for i in range(0, count, self.rows)]

    def _filled(self, asked: Asked, rows: np.ndarray) -> tuple[Batch, np.ndarray]:
        """A batch, and what is visible in it; it is filled up with its first row.

        One shape, one program.
        """
        examples = asked.examples
        shape = (self.layers, len(examples), examples.coverage.shape[-1])
        visible = np.ones((), bool) if asked.visible is None else asked.visible
        filled = np.concatenate([rows, np.full(self.rows - len(rows), rows[0])])
        return Batch(**gather(examples, filled)), np.broadcast_to(visible, shape)[:, filled]

    def _kept(self, asked: Asked) -> bool:
        return asked.attention and self.patches_seen

    def _bytes(self, asked: Asked) -> int:
        """Bytes of a batch, of what is visible in it, and of what is seen."""
        batch, visible = self._filled(asked, np.arange(1))
        return tree_bytes(batch) + visible.size * (1 + 4 * batch.tokens.shape[1])

    def write(self, params: Any, examples: Examples) -> np.ndarray:
        """Greedy texts (E, T), see `write_greedily`."""
        said = lambda draft: self.predict(params, draft, attention=False).words
        return write_greedily(said, examples)


def write_greedily(said: Callable[[Examples], np.ndarray], examples: Examples) -> np.ndarray:
    """Greedy texts (E, T): the words to predict are written by the model itself.

    Args:
      said: the most likely words (E, T) of drafts, each given the words before it.
      examples: with the words that are given.
    """
    tokens = np.where(examples.target, 0, examples.tokens)
    for position in np.flatnonzero(examples.target.any(axis=0)):
        words = said(dataclasses.replace(examples, tokens=tokens))[:, position]
        tokens[:, position] = np.where(examples.target[:, position], words, tokens[:, position])
    return tokens
