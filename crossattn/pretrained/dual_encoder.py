"""A pretrained model that compares pictures and texts."""

import functools
import string
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from crossattn.interop.files import WeightsError
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.picture_encoder import PictureEncoder
from crossattn.pretrained.towers import check_tokens
from crossattn.shapes import Float, Int, UInt8

__all__ = ["DualEncoder", "canonical"]

# Classes of tokenizers that change texts in a way of their own.
CANONICAL = ("SiglipTokenizer", "SiglipTokenizerFast")
Pictures = Sequence[UInt8[np.ndarray, "_ _ 3"]]


def canonical(text: str, settings: Mapping[str, Any]) -> str:
    """A text as SigLIP was trained with: small letters, no punctuation, single spaces.

    The class of its tokenizer does so before its vocabulary is asked; tokenizer.json need not say.

    >>> canonical(" A cat,  on\ta Mat. ", {})
    'a cat on a mat'
    """
    text = text.lower() if settings.get("do_lower_case", True) else text
    return " ".join(text.translate(str.maketrans("", "", string.punctuation)).split())


class DualEncoder:
    """CLIP or SigLIP with its weights: vectors of pictures and of texts, and how alike they are.

    Attributes:
      module: the Flax module, a `DualTowers`.
      params: its variables.
      tower: what encodes pictures, by itself.
      pad_id: the token with which texts are filled up to the length that there are positions for.

    Example:
      >>> from crossattn.pretrained import load_model
      >>> def best(folder, picture, texts):  # the text that a picture is most like
      ...     return texts[load_model(folder).similarity([picture], texts)[0].argmax()]
    """

    def __init__(self, module: Any, params: Any, checkpoint: Checkpoint, *, pad_id: int = 0):
        self.module, self.params = module, params
        self._checkpoint, self._pad_id = checkpoint, pad_id

    def __repr__(self) -> str:
        image, text = self.module.image, self.module.text
        rows, columns = image.grid
        return (
            f"DualEncoder({rows} x {columns} patches of {image.patch_size}, {image.stack.layers} "
            f"layers; texts of {text.length} tokens, {text.stack.layers} layers; "
            f"{self.module.size} features)"
        )

    @functools.cached_property
    def pad_id(self) -> int:
        """What fills texts up: as tokenizer_config.json says, or else config.json."""
        named = self._tokenizer_config.get("pad_token")
        word = named.get("content") if isinstance(named, dict) else named
        known = self._checkpoint.tokenizer.token_to_id(word) if isinstance(word, str) else None
        return self._pad_id if known is None else known

    @property
    def length(self) -> int:
        """How many tokens there are positions for."""
        return self.module.text.length

    @property
    def words(self) -> int:
        """How many words the model has."""
        return self.module.text.vocab_size

    @functools.cached_property
    def tower(self) -> PictureEncoder:
        """What encodes pictures, by itself."""
        params = self.params["params"]
        own, projected = {"params": params["image"]}, getattr(self.module, "project_image", False)
        projection = params["image_projection"]["kernel"] if projected else None
        return PictureEncoder(self.module.image, own, self._checkpoint, projection)

    def pixels(self, pictures: Pictures) -> Float[np.ndarray, "I h w 3"]:
        """Pictures (h, w, 3), uint8, as the tower reads them."""
        return self.tower.pixels(pictures)

    def tokens(self, texts: Sequence[str]) -> Int[np.ndarray, "B T"]:
        """The numbers of the words of texts, filled up.

        Raises:
          WeightsError: a text is longer than there are positions for.
        """
        tokenizer = self._checkpoint.tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if self._tokenizer_config.get("tokenizer_class") in CANONICAL:
            texts = [canonical(text, self._tokenizer_config) for text in texts]
        found = [tokenizer.encode(text).ids for text in texts]
        for ids, text in zip(found, texts, strict=True):
            if len(ids) > self.length:
                raise WeightsError(
                    f"a text of {len(ids)} tokens, but there are positions for {self.length}: "
                    f"shorten {text[:40]!r}"
                )
        filled = self._filled(max(map(len, found), default=1))
        rows = np.full((len(texts), filled), self.pad_id, np.int32)
        for row, ids in zip(rows, found, strict=True):
            row[: len(ids)] = ids
        check_tokens(rows, self.words)
        return rows

    def image_features(self, pictures: Pictures) -> Float[np.ndarray, "I D"]:
        """A vector of length 1 for each picture."""
        return np.asarray(self._run("image_features")(self.params, self.pixels(pictures)))

    def text_features(self, texts: Sequence[str]) -> Float[np.ndarray, "B D"]:
        """A vector of length 1 for each text."""
        return np.asarray(self._run("text_features")(self.params, *self._texts(texts)))

    def similarity(self, pictures: Pictures, texts: Sequence[str]) -> Float[np.ndarray, "I B"]:
        """Logits: cosines times the learned scale, with the learned bias where there is one.

        Their softmax over texts is what CLIP means by the probability of a text, their sigmoid
        what SigLIP does.
        """
        features = self.image_features(pictures), self.text_features(texts)
        return np.asarray(self._run("compare")(self.params, *features))

    @functools.cached_property
    def _tokenizer_config(self) -> dict[str, Any]:
        return self._checkpoint.settings("tokenizer_config.json", missing={})

    def _filled(self, longest: int) -> int:
        """How long all texts are, of which the longest has so many tokens."""
        return self.length

    def _texts(self, texts: Sequence[str]) -> tuple[np.ndarray, ...]:
        """What the module reads of texts."""
        return (self.tokens(texts),)

    @functools.lru_cache  # noqa: B019 - lives as long as the model
    def _run(self, method: str) -> Any:
        """A method of the module, compiled once."""
        return jax.jit(functools.partial(self.module.apply, method=method))
