"""What the viewer shows: words, the weights of each word over keys, and what is known of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from crossattn.viewer import checks

Readings = Literal["", "consumed", "predicted", "both"]


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What a model answered while some of its keys were hidden: a knock-out.

    Attributes:
      hidden: what was hidden, in words, such as "nothing" or "the true region".
      word: what the model then predicted.
      probability: that it gave to this word, in 0..1.
      keys: the hidden keys (S,), bool; the page covers them while the answer is chosen.
      position: which word of the text the model predicted here; the page shows its map, and
        marks an answer that differs from the first one for this word.

    Raises:
      ValueError: the probability is none.

    Example:
      >>> Answer("the true region", "blue", 0.31).word
      'blue'
    """

    hidden: str
    word: str
    probability: float
    keys: Any = None
    position: int | None = None

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"a probability lies in 0..1, got {self.probability}")
        if self.keys is not None:
            object.__setattr__(self, "keys", np.asarray(self.keys, bool))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Example:
    """One text of T words and its attention to S keys, of any model, in L layers with H heads.

    Arrays may be of numpy, JAX or PyTorch, or lists; they are kept as numpy's.

    Attributes:
      words: the T words, in order.
      weights: attention (L, H, T, S); without heads (T, S), without layers (H, T, S). A row over S
        adds up to at most 1, to less where the rest went to keys that are left out here.
      image: the picture (h, w, 3), or grey (h, w), uint8 or floats in 0..1. The keys are patches
        of it, row by row, or its columns where it is the spectrogram of a sound. None: no picture
        is shown.
      grid: rows and columns of patches, S = rows * columns; None where S is a square.
      tokens: names of the S keys where they are words.
      seconds: length of the sound of which the keys are S equal frames.
      waveform: its samples (N,), of any scale.
      regions: true region of each word: pixels (T, h, w), bool, empty for a word without one, or
        the share of each key that lies in the region (T, S), in 0..1.
      region_name: what they are, where they are not known to be true.
      caption: a line about the example; the words are shown anyway.
      readings: what row t of `weights` belongs to. "": word t. In a causal decoder, which reads a
        word and predicts the next: "consumed", the position that read word t; "predicted", the
        position that predicted word t; "both", the position that read word t and predicted word
        t + 1, so that a reader can choose (T rows or, without the last position, T - 1).
      answers: knock-outs, the answer with nothing hidden first (of each position).
      generated: which words the model wrote itself: T truth values, or one for all.

    Raises:
      ValueError: shapes do not fit, or weights are negative, no numbers, or add up to more than 1;
        one line says what was expected.

    Example:
      >>> example = Example(["a", "ring"], np.full((4, 8, 2, 9), 1 / 9))
      >>> example.grid, example.weights.shape, Example(["a"], [[0.5, 0.5]], tokens=["x", "y"]).grid
      ((3, 3), (4, 8, 2, 9), (1, 2))
    """

    words: Sequence[str]
    weights: Any
    image: Any = None
    grid: tuple[int, int] | None = None
    tokens: Sequence[str] | None = None
    seconds: float | None = None
    waveform: Any = None
    regions: Any = None
    region_name: str = "true region"
    caption: str = ""
    readings: Readings = ""
    answers: Sequence[Answer] = ()
    generated: bool | Sequence[bool] = False

    def __post_init__(self):
        words = checks.checked_texts("words", self.words)
        weights = checks.checked_weights(self.weights)
        T, S = len(words), weights.shape[-1]
        checks.check_rows(weights, T, self.readings)
        if self.tokens is not None and self.seconds is not None:
            raise ValueError("keys are named tokens or frames of sound: give tokens or seconds")
        if self.image is not None and self.kind == "tokens":
            raise ValueError("keys are patches of an image, or tokens: give one of them")
        image = None if self.image is None else checks.checked_image(self.image)
        self._keep(
            words=words,
            weights=weights,
            image=image,
            tokens=checks.checked_tokens(self.tokens, S),
            grid=checks.checked_grid(self.grid, S) if self.kind == "grid" else (1, S),
            waveform=checks.checked_waveform(self.waveform, self.seconds),
            generated=checks.checked_generated(self.generated, T),
            answers=tuple(self.answers),
        )
        if self.regions is not None:
            size = None if image is None else image.shape[:2]
            self._keep(regions=checks.checked_regions(self.regions, T, S, size, self.kind))
        for answer in self.answers:
            if answer.keys is not None and answer.keys.shape != (S,):
                raise ValueError(f"keys of an answer must be ({S},), got {answer.keys.shape}")
            if answer.position is not None and not 0 <= answer.position < T:
                raise ValueError(f"an answer's position is one of {T}, got {answer.position}")

    def __repr__(self) -> str:
        return f"Example({len(self.words)} words, weights {self.weights.shape}, {self.kind})"

    def _keep(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def kind(self) -> str:
        """What the keys are: "grid" of patches, "tokens" or "sound"."""
        return "tokens" if self.tokens is not None else "grid" if self.seconds is None else "sound"
