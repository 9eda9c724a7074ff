"""A published model that reads one text and writes another."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.models.beam import Beam
from crossattn.models.encoder_decoder import EncoderDecoder
from crossattn.models.generate import Texts, generate
from crossattn.models.sampling import GREEDY, Greedy
from crossattn.ops import Mask
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.shapes import Array, Int

__all__ = ["TextToText"]


@dataclasses.dataclass(frozen=True)
class TextToText:
    """A model with its weights, and the tokens that begin, end and fill up its texts.

    Attributes:
      model: the module.
      params: its parameters.
      start: the token before the first word that is written.
      end: the token behind the last one.
      pad: the token behind the end.
      checkpoint: whose tokenizer it has.
    """

    model: EncoderDecoder
    params: Any
    start: int
    end: int
    pad: int
    checkpoint: Checkpoint

    def __call__(
        self, texts: Sequence[str], *, length: int = 64, strategy: Greedy | Beam = GREEDY
    ) -> list[str]:
        """What it writes for each text, of at most `length` tokens.

        Raises:
          WeightsError: the checkpoint has no tokenizer.json, or `tokenizers` is not installed.
        """
        if not texts:
            return []
        tokenizer = self.checkpoint.tokenizer
        read = [one.ids for one in tokenizer.encode_batch(list(texts))]
        lengths = np.array([len(one) for one in read], np.int32)
        source = np.full((len(read), lengths.max()), self.pad, np.int32)
        for row, one in zip(source, read, strict=True):
            row[: len(one)] = one
        found = self.write(source, lengths, length=length, strategy=strategy)
        rows = np.asarray(found.tokens).tolist()
        return tokenizer.decode_batch(
            [row[:count] for row, count in zip(rows, np.asarray(found.lengths), strict=True)]
        )

    def write(
        self,
        source: Int[Any, "B S"],
        lengths: Int[Any, " B"] | None = None,
        *,
        length: int = 64,
        strategy: Greedy | Beam = GREEDY,
    ) -> Texts:
        """The tokens that it writes for each row of tokens, of which the first `lengths` count.

        Raises:
          ValueError: the source is no rows of tokens.
        """
        source = jnp.asarray(source, jnp.int32)
        if source.ndim != 2 or not source.size:
            raise ValueError(f"source holds rows of tokens, (B, S), got {source.shape}")
        if lengths is None:
            lengths = np.full(source.shape[0], source.shape[1], np.int32)
        return self._written(self.params, source, jnp.asarray(lengths), length, strategy)

    @functools.cached_property
    def _written(self) -> Any:
        return jax.jit(self._write, static_argnums=(3, 4))

    def _write(
        self, params: Any, source: Array, lengths: Array, length: int, strategy: Greedy | Beam
    ) -> Texts:
        apply, B = self.model.apply, source.shape[0]
        projected = apply(params, source, mask=Mask.lengths(key=lengths), method="project")
        beams = strategy.beams if isinstance(strategy, Beam) else 1
        cache = apply(params, B * beams, length + 1, method="init_cache")

        def step(cache, tokens, position):
            return apply(params, tokens, projected, cache, position, method="decode_step")

        given: dict[str, Any] = {"eos_id": self.end, "pad_id": self.pad, "strategy": strategy}
        prompt = jnp.full((B, 1), self.start, jnp.int32)
        return generate(step, cache, prompt, length=length, **given)
