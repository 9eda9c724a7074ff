"""What every data set of text about images hands to the trainer and to the evaluator."""

import dataclasses
from typing import Any, SupportsIndex

import numpy as np

__all__ = ["Examples"]

ROWS = ("image", "tokens", "target", "grounded", "group", "kind", "answer")
TYPES = {
    **dict.fromkeys(("image", "tokens", "group", "kind", "answer"), ("iu", "integers")),
    **dict.fromkeys(("target", "grounded"), ("b", "bool")),
    "coverage": ("f", "float32"),
}
JUDGED = ("answers", "sentence")
WORDS = ("tokens", "target", "grounded", "group")


@dataclasses.dataclass(frozen=True)
class Examples:
    """N images and E rows of text about them, with the regions of the words.

    Attributes:
        images: (N, P, F) float32 features of patches, or (N, height, width, 3) uint8 pixels.
        coverage: (N, O, P) float32, the fraction of patch p that region o covers. Regions do not
            overlap, so that the coverage of a set of regions is the sum.
        image: (E,) int32, the image that a row of text is about.
        tokens: (E, T) int32, 0 is `<pad>`.
        target: (E, T) bool, the tokens that a model has to predict: an answer, or the words of a
            caption and its `<eos>`.
        grounded: (E, T, O) bool, the regions of a word, or of the phrase that it is part of; none
            where it has no region.
        kind: (E,) int8, index into `kinds`.
        answer: (E,) int32, position of the answer in `tokens`; 0 where a row has none (captions).
        vocabulary: the words, by token.
        kinds: the names of the kinds of rows.
        grid: rows and columns of patches, P = rows * columns in row-major order.
        chance: kind to the accuracy of the best predictor that reads only the text, where that
            is known; captions have no entry.
        group: (E, T) int8, index into `groups`; None where words are not told apart.
        groups: what the source calls groups of words, as "colour"; the first are all other words.
        content: the groups that name what is in the picture and have an exact region: what the
            measures of pointing, of slots and of knock-outs are about.
        covered: a patch belongs to a region when at least this share of it is covered.
        boxes: (N, O, 3) float32, horizontal and vertical place and size of each region in (0, 1],
            0 where there is none: a third modality beside text and image; or None.
        answers: (E, A) int32, what A people answered, -1 for what training has not; or None where
            one answer is right.
        sentence: (E,) int64, the same for rows that are judged together; or None.
        places: (N, O, 4) float32, ymin, xmin, ymax, xmax of each region that is one box, as shares
            of the sides, NaN for others; or None.
        shown: (N, P) bool, patches that show the image: the others are hidden from every model; or
            None where all do.

    Raises:
        ValueError: where shapes contradict one another or an index points outside.
    """

    images: np.ndarray
    coverage: np.ndarray
    image: np.ndarray
    tokens: np.ndarray
    target: np.ndarray
    grounded: np.ndarray
    kind: np.ndarray
    answer: np.ndarray
    vocabulary: tuple[str, ...]
    kinds: tuple[str, ...]
    grid: tuple[int, int]
    chance: dict[str, float]
    group: Any = None
    groups: tuple[str, ...] = ("other",)
    content: tuple[str, ...] = ()
    covered: float = 0.1
    boxes: np.ndarray | None = None
    answers: np.ndarray | None = None
    sentence: np.ndarray | None = None
    places: np.ndarray | None = None
    shown: np.ndarray | None = None

    def __post_init__(self):
        rows, length = self.tokens.shape
        count, things, patches = self.coverage.shape
        if self.group is None:
            object.__setattr__(self, "group", np.zeros((rows, length), np.int8))
        expected = {
            "image": (rows,),
            "target": (rows, length),
            "grounded": (rows, length, things),
            "group": (rows, length),
            "kind": (rows,),
            "answer": (rows,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} has shape {getattr(self, name).shape}, "
                    f"expected {shape} beside tokens {self.tokens.shape}"
                )
        if len(self.images) != count or self.grid[0] * self.grid[1] != patches:
            raise ValueError(
                f"images {self.images.shape} and grid {self.grid} do not fit "
                f"coverage {self.coverage.shape} (images, regions, patches)"
            )
        if self.boxes is not None and self.boxes.shape[:2] != (count, things):
            raise ValueError(
                f"boxes {self.boxes.shape} does not fit coverage {self.coverage.shape}: "
                "both begin with images, regions"
            )
        beside = {"answers": (rows,), "sentence": (rows,), "places": (count, things, 4)}
        beside["shown"] = (count, patches)
        for name, shape in beside.items():
            values = getattr(self, name)
            if values is not None and values.shape[: len(shape)] != shape:
                raise ValueError(f"{name} has shape {values.shape}, expected {shape} to begin with")
        limits = {
            "image": count,
            "tokens": len(self.vocabulary),
            "group": len(self.groups),
            "kind": len(self.kinds),
            "answer": length,
        }
        for name, limit in limits.items():
            values = getattr(self, name)
            if values.size and not (values.min() >= 0 and values.max() < limit):
                raise ValueError(f"{name} must lie in 0 to {limit - 1}")

    def check(self) -> None:
        """Make sure of what shapes and indices do not show; costs a look at every value.

        Raises:
            ValueError: values are of another type, a region lies outside of the picture, or a text
                cannot be predicted.
        """
        for name, (kinds, words) in TYPES.items():
            if (found := getattr(self, name).dtype).kind not in kinds:
                raise ValueError(f"{name} is {found}, expected {words}")
        if not len(self):
            raise ValueError("it has no text")
        for name, shares in (("coverage", self.coverage), ("boxes", self.boxes)):
            if shares is not None and not (shares.min() >= 0 and shares.max() <= 1 + 1e-5):
                raise ValueError(
                    f"{name} has values from {shares.min():g} to {shares.max():g}: regions lie "
                    "inside the picture, as shares of 0 to 1"
                )
        if self.shown is not None:
            if self.shown.dtype != bool or not self.shown.any(axis=1).all():
                raise ValueError("shown is bool, and each image has a patch that shows it")
            if (self.coverage.max(axis=1) > 0)[~self.shown].any():
                raise ValueError("coverage is above 0 in a patch that shows nothing")
        asked = np.flatnonzero(self.answer)
        if not self.target[asked, self.answer[asked]].all():
            raise ValueError("an answer is no target")
        if self.target[:, 0].any() or (self.target & (self.tokens == 0)).any():
            raise ValueError("a target is the first token or padding, which nothing predicts")

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, chosen) -> "Examples":
        """Keep the `chosen` rows of text (indices, a slice or a mask); the images stay as they are.

        Example:
            >>> from crossattn.data import scenes
            >>> data = scenes.examples("iid", 100, seed=0)
            >>> captions = data.rows(data.kind == data.kinds.index("caption"))
            >>> len(data), len(captions), len(captions.images)
            (200, 100, 100)
        """
        own = {name: getattr(self, name) for name in (*ROWS, *JUDGED)}
        kept = {name: values[chosen] for name, values in own.items() if values is not None}
        return dataclasses.replace(self, **kept)

    def cut(self, length: int) -> "Examples":
        """Keep the first `length` tokens of every row.

        What follows the last target of a row never matters to a causal model.

        Raises:
            ValueError: where a target would be lost.

        Example:
            >>> from crossattn.data import scenes
            >>> data = scenes.examples("iid", 100, seed=0)
            >>> data.cut(12).tokens.shape
            (200, 12)
        """
        if self.target[:, length:].any():
            raise ValueError(f"rows cut to {length} tokens would lose words to predict")
        return dataclasses.replace(
            self, **{name: getattr(self, name)[:, :length] for name in WORDS}
        )

    def regions(self, chosen=slice(None)) -> np.ndarray:
        """Give the fraction of each patch that the regions of each word cover.

        Args:
            chosen: rows of text: indices, a slice or a mask; all rows by default.

        Returns:
            (E, T, P) float32; zero where a word has no region.
        """
        sets = self.grounded[chosen].astype(np.float32)
        return sets @ self.coverage[self.image[chosen]]

    def naming(self) -> np.ndarray:
        """Words (E, T) bool that name what is in the picture: those of the `content` groups.

        Where a source tells no groups apart, all words that have a region.
        """
        if len(self.groups) == 1:
            return np.asarray(self.grounded.any(axis=-1))
        return np.isin(self.group, [self.groups.index(name) for name in self.content])

    def counts(self) -> dict[str, int]:
        """How many rows there are of each kind.

        Example:
            >>> from crossattn.data import scenes
            >>> scenes.examples("count", 4, seed=0, tasks=("question",)).counts()
            {'count': 4}
        """
        found = np.bincount(self.kind, minlength=len(self.kinds)).tolist()
        return {kind: number for kind, number in zip(self.kinds, found, strict=True) if number}

    def words(self, row: SupportsIndex) -> str:
        """Spell one row of text, without padding."""
        return " ".join(self.vocabulary[token] for token in self.tokens[row] if token)
