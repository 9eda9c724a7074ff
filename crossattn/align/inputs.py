"""What measures read: arrays of one trained model, whose first axis is items.

Letters: N items, E texts of T words, P patches of an image, G parts of it, H heads.
"""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from crossattn.align.features import retrieval_ranks
from crossattn.shapes import Bool, Float, Int

__all__ = [
    "PERMUTATIONS",
    "Answers",
    "AttentionMaps",
    "CaptionContrasts",
    "CaptionLikelihoods",
    "ExplainedParts",
    "FeaturePairs",
    "Knockouts",
    "PeoplesAnswers",
    "PermutedImages",
    "RetrievalFolds",
    "RetrievalScores",
    "SwapPairs",
    "WrittenCaptions",
]

# How often the images of a split are permuted for the perceptual score.
PERMUTATIONS = 2


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers to N questions.

    Attributes:
      right: whether each is right, float (N,).
      chance: what a predictor that reads only the text reaches of each, float (N,).
      kinds: the kind of each question, texts (N,).
      is_open: whether the right answer names something that is in the picture, bool (N,).
      sentence: the same number for answers that are judged together, int (N,); or None.
    """

    item: ClassVar[str] = "question"
    right: Float[np.ndarray, " N"]
    chance: Float[np.ndarray, " N"]
    kinds: np.ndarray
    is_open: Bool[np.ndarray, " N"]
    sentence: Int[np.ndarray, " N"] | None = None

    def of_kind(self, kind: str) -> "Answers":
        """The answers to questions of one kind."""
        own = self.kinds == kind
        sentence = None if self.sentence is None else self.sentence[own]
        right, chance = self.right[own], self.chance[own]
        return Answers(right, chance, self.kinds[own], self.is_open[own], sentence)


@dataclasses.dataclass(frozen=True)
class PeoplesAnswers:
    """Answers to N questions beside those that A people gave: numbers of words, -1 for none.

    Attributes:
      said: by the model, int (N,).
      answers: of each person, int (N, A).
      kinds: the kind of each question, texts (N,).
    """

    item: ClassVar[str] = "question"
    said: Int[np.ndarray, " N"]
    answers: Int[np.ndarray, "N A"]
    kinds: np.ndarray

    def of_kind(self, kind: str) -> "PeoplesAnswers":
        """The answers to questions of one kind."""
        own = self.kinds == kind
        return PeoplesAnswers(self.said[own], self.answers[own], self.kinds[own])


@dataclasses.dataclass(frozen=True)
class CaptionContrasts:
    """Scores of N true captions and of N wrong ones with the same image.

    Attributes:
      score: of the true caption, then of the wrong one, float (N, 2).
      kinds: the part of the set that each is of, texts (N,).
    """

    item: ClassVar[str] = "pair"
    score: Float[np.ndarray, "N 2"]
    kinds: np.ndarray

    def of_kind(self, kind: str) -> "CaptionContrasts":
        """The captions of one part."""
        own = self.kinds == kind
        return CaptionContrasts(self.score[own], self.kinds[own])


@dataclasses.dataclass(frozen=True)
class CaptionLikelihoods:
    """How likely E captions are: natural logarithms (E,), and which words of them count."""

    item: ClassVar[str] = "text"
    log_likelihood: Float[np.ndarray, " E"]
    words: Int[np.ndarray, "E T"]
    target: Bool[np.ndarray, "E T"]


@dataclasses.dataclass(frozen=True)
class WrittenCaptions:
    """E captions that a model wrote beside the true ones.

    Attributes:
      predicted: the words written, int (E, T).
      words: the true ones, int (E, T).
      target: which of them the model had to write, bool (E, T).
      slots: which of those name what is in the picture, bool (E, T).
      groups: the group that each word belongs to (colours, shapes), for guesses among them, int
        (E, T).
    """

    item: ClassVar[str] = "caption"
    predicted: Int[np.ndarray, "E T"]
    words: Int[np.ndarray, "E T"]
    target: Bool[np.ndarray, "E T"]
    slots: Bool[np.ndarray, "E T"]
    groups: Int[np.ndarray, "E T"]


@dataclasses.dataclass(frozen=True)
class SwapPairs:
    """Scores of N pairs: score[n, c, i] of caption c with image i; caption c belongs to image c."""

    item: ClassVar[str] = "pair"
    score: Float[np.ndarray, "N 2 2"]


@dataclasses.dataclass(frozen=True)
class RetrievalScores:
    """How near I images and C captions are to each other.

    Attributes:
      score: of image i with caption c; larger is nearer, float (I, C).
      right: which captions are true of which image, bool (I, C): its own ones, and those of the
        same words.
    """

    item: ClassVar[str] = "retrieval"
    score: Float[np.ndarray, "I C"]
    right: Bool[np.ndarray, "I C"]

    @functools.cached_property
    def ranks(self) -> dict[str, Int[np.ndarray, " _"]]:
        """That of each image and of each caption, see `retrieval_ranks`."""
        return retrieval_ranks(self.score, self.right)


@dataclasses.dataclass(frozen=True)
class RetrievalFolds:
    """Equal parts of a gallery, each searched by itself (COCO's 1k: five of 1,000 images)."""

    item: ClassVar[str] = "retrieval"
    folds: tuple[RetrievalScores, ...]


@dataclasses.dataclass(frozen=True)
class FeaturePairs:
    """What a model makes of N captions and of the image of each, in one space of D dimensions."""

    item: ClassVar[str] = "pair"
    image: Float[np.ndarray, "N D"]
    text: Float[np.ndarray, "N D"]


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """What one layer looks at for N words of known region.

    Attributes:
      weights: attention over patches, mean over heads, float (N, P).
      peaks: the patch that each head attends to most, -1 where it sees none, int (N, H).
      image_mass: share of the attention that falls on the image, float (N,).
      region: patches that belong to the word's region, bool (N, P).
      coverage: share of each patch that the region covers, float (N, P).
      grid: rows and columns of patches.
      box: ymin, xmin, ymax, xmax of a region that is one box, in shares of the sides, float (N, 4),
        NaN for others; or None where boxes are not known.
      phrase: the same number for words of one phrase, int (N,); or None.
      shown: patches that show the picture, bool (N, P); None where all do.
    """

    item: ClassVar[str] = "item"
    weights: Float[np.ndarray, "N P"]
    peaks: Int[np.ndarray, "N H"]
    image_mass: Float[np.ndarray, " N"]
    region: Bool[np.ndarray, "N P"]
    coverage: Float[np.ndarray, "N P"]
    grid: tuple[int, int] = (0, 0)
    box: Float[np.ndarray, "N 4"] | None = None
    phrase: Int[np.ndarray, " N"] | None = None
    shown: Bool[np.ndarray, "N P"] | None = None

    @property
    def seen(self) -> Bool[np.ndarray, "N P"]:
        """Patches that show the picture of each word."""
        return np.ones(self.weights.shape, bool) if self.shown is None else self.shown


@dataclasses.dataclass(frozen=True)
class Knockouts:
    """Whether N words are right while part of the image is hidden, and the chance of each."""

    item: ClassVar[str] = "item"
    right: Float[np.ndarray, " N"]
    chance: Float[np.ndarray, " N"]


@dataclasses.dataclass(frozen=True)
class PermutedImages:
    """Whether N words are right, with their own images and after each of K permutations of all.

    Attributes:
      right: with the image of each, float (N,).
      permuted: with the image of another, float (N, K).
    """

    item: ClassVar[str] = "item"
    right: Float[np.ndarray, " N"]
    permuted: Float[np.ndarray, "N K"]


@dataclasses.dataclass(frozen=True)
class ExplainedParts:
    """How much G parts of a picture matter for N answers: as an explanation says, and as they do.

    Attributes:
      saliency: what the explanation says of each part, float (N, G).
      effect: by how much hiding the part lowers log P of the answer, float (N, G).
      deletion: area under P of the answer as the most salient parts go first (N,); or None.
      insertion: the same as they come first; or None.
    """

    item: ClassVar[str] = "answer"
    saliency: Float[np.ndarray, "N G"]
    effect: Float[np.ndarray, "N G"]
    deletion: Float[np.ndarray, " N"] | None = None
    insertion: Float[np.ndarray, " N"] | None = None
