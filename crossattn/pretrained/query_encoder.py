"""A pretrained model that compares pictures and texts by learned queries: BLIP-2's."""

from collections.abc import Sequence

import numpy as np

from crossattn.pretrained.dual_encoder import DualEncoder, Pictures
from crossattn.shapes import Float

__all__ = ["QueryEncoder"]

# Texts are filled up to a multiple of so many tokens, so that few programs are compiled.
STEP = 16


class QueryEncoder(DualEncoder):
    """BLIP-2's tower and Q-Former with their weights.

    As a `DualEncoder` it makes vectors of pictures (R for each) and of texts, whose similarity is
    the largest cosine; besides, its queries read picture and text together.

    Attributes:
      module: the Flax module, a `QueryTowers`.
      others: as those of `DualEncoder`.
    """

    def __repr__(self) -> str:
        image, qformer = self.module.image, self.module.qformer
        rows, columns = image.grid
        return (
            f"QueryEncoder({rows} x {columns} patches of {image.patch_size}, {image.stack.layers} "
            f"layers; {qformer.queries} queries, {qformer.layers} layers; "
            f"{self.module.size} features)"
        )

    @property
    def length(self) -> int:
        """How many tokens there are positions for."""
        return self.module.length

    @property
    def words(self) -> int:
        """How many words the model has."""
        return self.module.vocab_size

    def match(self, pictures: Pictures, texts: Sequence[str]) -> Float[np.ndarray, " B"]:
        """The probability that each text is about its picture; there are as many of both.

        Raises:
          ValueError: there are not.
        """
        if len(pictures) != len(texts):
            raise ValueError(f"{len(pictures)} pictures and {len(texts)} texts: give pairs")
        logits = self._run("__call__")(self.params, self.pixels(pictures), *self._texts(texts))
        away = np.asarray(logits[:, 0] - logits[:, 1], np.float64)
        return (1 / (1 + np.exp(away))).astype(np.float32)

    def looks(self, pictures: Pictures) -> Float[np.ndarray, "I L H R P"]:
        """Where the queries look in each of the L layers that read the P patches, row by row."""
        seen = self._run("looks")(self.params, self.pixels(pictures))
        return np.stack([np.asarray(one) for one in seen], axis=1)[..., 1:]

    def _filled(self, longest: int) -> int:
        return min(self.length, -(-longest // STEP) * STEP)

    def _texts(self, texts: Sequence[str]) -> tuple[np.ndarray, ...]:
        tokens = self.tokens(texts)
        return tokens, tokens != self.pad_id
