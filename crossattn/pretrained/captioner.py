"""A pretrained model that writes about pictures: captions, and answers to questions."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.interop.files import WeightsError
from crossattn.models.generate import Beam, Greedy, Texts, generate
from crossattn.models.image_tower import ImageTower
from crossattn.models.text_decoder import TextDecoder
from crossattn.models.text_tower import TextTower
from crossattn.pretrained.caption import Caption, pieces_of_words
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.picture_encoder import PictureEncoder
from crossattn.pretrained.towers import check_tokens
from crossattn.shapes import Array, Float, Int, UInt8

__all__ = ["Captioner"]

GREEDY = Greedy()
# Words that are written at most.
LENGTH = 30


class Captioner:
    """BLIP with its weights: it writes what is on a picture, or answers a question about it.

    Attributes:
      image: the tower.
      question: the encoder of questions, of a model that answers them; None of one that captions.
      decoder: reads the picture's tokens, or those of the question that has read the picture.
      params: {"image": ..., "decoder": ..., "question": ...}, variables of the three.
      start_id, end_id, pad_id: tokens that begin, end and fill up what is written.
      tower: what encodes pictures, by itself.

    Example:
      >>> from crossattn import viewer
      >>> from crossattn.pretrained import load_model
      >>> def page(folder, picture):  # on which the words of a caption light up their regions
      ...     return viewer.explore(load_model(folder).caption(picture).example())
    """

    def __init__(
        self,
        image: ImageTower,
        decoder: TextDecoder,
        params: Any,
        checkpoint: Checkpoint,
        *,
        question: TextTower | None = None,
        start_id: int,
        end_id: int,
        pad_id: int,
    ):
        self.image, self.decoder, self.question = image, decoder, question
        self.params = params
        self.start_id, self.end_id, self.pad_id = start_id, end_id, pad_id
        self._checkpoint = checkpoint
        self._write = jax.jit(self._written, static_argnames=("length", "strategy"))
        self._read = jax.jit(self._context)

    def __repr__(self) -> str:
        rows, columns = self.image.grid
        does = "captions" if self.question is None else "answers"
        return (
            f"Captioner({does}; {rows} x {columns} patches of {self.image.patch_size}, "
            f"{self.image.stack.layers} layers; texts of up to {self.decoder.length} tokens, "
            f"{self.decoder.stack.layers} layers)"
        )

    @functools.cached_property
    def tower(self) -> PictureEncoder:
        """What encodes pictures, by itself."""
        return PictureEncoder(self.image, self.params["image"], self._checkpoint)

    def caption(
        self,
        picture: UInt8[np.ndarray, "h w 3"],
        prompt: str = "",
        *,
        length: int = LENGTH,
        strategy: Greedy | Beam = GREEDY,
    ) -> Caption:
        """What is on a picture.

        Args:
          picture: (h, w, 3), uint8.
          prompt: how the text begins.
          length: words, or pieces of words, that are written at most.
          strategy: `Greedy()`, or `Beam(width)`.

        Raises:
          WeightsError: the model answers questions, or the text has no positions.
        """
        if self.question is not None:
            raise WeightsError(f"{self._checkpoint.where} answers questions: ask one")
        given = self._checkpoint.tokenizer.encode(prompt, add_special_tokens=False).ids
        ids = [self.start_id, *given]
        how: dict[str, Any] = {"length": length, "strategy": strategy}
        texts, seen = self.generate(self._pixels(picture), [ids], **how)
        tokens = self._without_end(texts)[1:]
        return self._caption(picture, tokens, seen[0], len(ids) - 1, self._text(tokens))

    def answer(
        self,
        picture: UInt8[np.ndarray, "h w 3"],
        question: str,
        *,
        length: int = LENGTH,
        strategy: Greedy | Beam = GREEDY,
    ) -> Caption:
        """The answer to a question about a picture; arguments as those of `caption`.

        Raises:
          WeightsError: the model writes captions, or there are no positions for the question.
        """
        if self.question is None:
            raise WeightsError(f"{self._checkpoint.where} writes captions: it takes no question")
        asked = self._checkpoint.tokenizer.encode(question)
        if len(asked.ids) > self.question.length:
            found = f"a question of {len(asked.ids)} tokens"
            raise WeightsError(f"{found}, but there are positions for {self.question.length}")
        check_tokens(np.asarray(asked.ids), self.question.vocab_size)
        how: dict[str, Any] = {"length": length, "strategy": strategy}
        context, looked = self.read(self._pixels(picture), jnp.asarray([asked.ids]))
        texts, seen = self._of_context(context, [[self.start_id]], **how)
        answer = self._without_end(texts)[1:]
        through = np.einsum("lhtq,qs->lhts", seen[0][:, :, : len(answer)], looked[0].mean((0, 1)))
        kept = [place for place, own in enumerate(asked.special_tokens_mask) if not own]
        maps = np.concatenate([looked[0][:, :, kept], through], axis=2)
        tokens = [*(asked.ids[place] for place in kept), *answer]
        return self._caption(picture, tokens, maps, len(kept), self._text(answer), readings="")

    def read(
        self, pixels: Float[Array, "B h w 3"], question: Int[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B S M"], Any]:
        """What the decoder reads, and where the words of questions looked (B, L, H, T, S)."""
        context, seen = self._read(self.params, jnp.asarray(pixels), question)
        return context, None if seen is None else np.asarray(seen.swapaxes(0, 1))

    def generate(
        self,
        pixels: Float[Array, "B h w 3"],
        prompt: Sequence[Sequence[int]],
        question: Int[Array, "B T"] | None = None,
        *,
        length: int = LENGTH,
        strategy: Greedy | Beam = GREEDY,
    ) -> tuple[Texts, np.ndarray]:
        """Write behind prompts of tokens.

        Returns:
          The texts, and where the decoder looked at each position, to write the token behind it,
          (B, L, H, P + length, S).
        """
        context, _ = self.read(pixels, question)
        return self._of_context(context, prompt, length=length, strategy=strategy)

    def _of_context(self, context, prompt, *, length, strategy):
        prompt = jnp.asarray(prompt, jnp.int32)
        if prompt.ndim != 2 or len(prompt) != len(context):
            rows = f"{len(context)} rows of tokens, one for each picture"
            raise ValueError(f"prompt holds {rows}, got {prompt.shape}")
        if length < 1 or prompt.shape[1] + length > self.decoder.length:
            raise WeightsError(
                f"{prompt.shape[1]} tokens and {length} more, but there are positions for "
                f"{self.decoder.length}: give a length of 1 to "
                f"{max(1, self.decoder.length - prompt.shape[1])}"
            )
        check_tokens(np.asarray(prompt), self.decoder.vocab_size)
        texts = self._write(self.params, context, prompt, length=length, strategy=strategy)
        return texts, np.moveaxis(np.asarray(texts.observed), 1, 3)

    def _context(self, params, pixels, question):
        tokens = self.image.apply(params["image"], pixels)
        if self.question is None:
            return tokens, None
        weights = lambda trace: trace.weights()
        states: Any = self.question.apply(params["question"], question, tokens, observe=weights)
        return states

    def _written(self, params, context, prompt, *, length, strategy):
        apply = functools.partial(self.decoder.apply, params["decoder"])
        projected = apply(context, method="project")
        rows, room = prompt.shape[0] * strategy.beams, prompt.shape[1] + length
        # What is the same for all beams is read by all of them.
        cache = apply(rows, room, method="init_cache")

        def step(cache, tokens, position):
            given: Any = {"observe": lambda trace: trace.weights(), "method": "decode_step"}
            found: Any = apply(tokens, projected, cache, position, **given)
            logits, cache, seen = found
            seen = seen.reshape(seen.shape[0], tokens.shape[0], -1, *seen.shape[3:])
            seen = jnp.moveaxis(seen, (1, 3), (0, 1))  # (N, T, L, H, S)
            return logits, cache, seen if tokens.ndim == 2 else seen[:, 0]

        how: dict[str, Any] = {"length": length, "strategy": strategy, "prefill": step}
        return generate(step, cache, prompt, eos_id=self.end_id, pad_id=self.pad_id, **how)

    def _pixels(self, picture):
        return jnp.asarray(self.tower.pixels([picture]))

    def _without_end(self, texts):
        """The tokens of the first text."""
        tokens = np.asarray(texts.tokens)[0, : int(texts.lengths[0])].tolist()
        return tokens[:-1] if tokens[-1] == self.end_id else tokens

    def _text(self, tokens):
        return self._checkpoint.tokenizer.decode(list(tokens), skip_special_tokens=True)

    def _caption(self, picture, tokens, maps, given, text, **readings):
        """Of the maps those of patches; of a word that has several pieces their mean."""
        words, places = pieces_of_words(self._checkpoint.tokenizer, tokens)
        maps = maps[..., int(self.image.class_token) :]
        rows = [maps[:, :, of].mean(axis=2) for of in places]
        shown = self.tower.processor.shown(np.asarray(picture))
        written = tuple(of[0] >= given for of in places)
        weights = np.stack(rows, axis=2)
        return Caption(text, words, weights, written, shown, self.image.grid, **readings)
