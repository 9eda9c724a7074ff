"""easy-VQA (Victor Zhou, MIT licence): real third-party images and questions, with region truth.

4,000 + 1,000 images of 64 x 64 pixels, each with one shape in one colour, and 38,575 + 9,673
questions with 13 answers, read from the package `easy_vqa` (the extra `easy-vqa`). With one
object an image, a model that averages the image answers as well as one that looks: accuracy
alone does not show alignment here; pointing and knock-out do.

*Region.* Every channel of the ground is drawn at random from [220, 255], and every colour has a
channel far below that: the object is where min(R, G, B) < 220, its anti-aliased edge included.
In all 5,000 images that is one connected blob without a speck.

*Words.* A colour or shape word points to the object where it is true of the object, and to
nothing where it is not; "shape" in "a teal shape" goes with "teal". That needs no reading of
pixels: an open question ("what color is the circle?") presupposes its words, a yes/no question
decides them by its answer and its negation. "what shape ..." asks and points to nothing. The
answer points to the object, "no" too: the one object is what shows that nothing is teal.

*Splits.* `test` is the package's; `validation` (to choose layers and heads on) is every 20th
training image, `train` is the others.
"""

import dataclasses
from types import ModuleType

import numpy as np
from jaxtyping import UInt8

from crossattn.data import pictures
from crossattn.data.examples import Examples
from crossattn.data.regions import grid_side, window_coverage
from crossattn.data.words import split_words
from crossattn.shapes import Bool

__all__ = ["KINDS", "OPEN", "SPLITS", "read_split", "region"]

SPLITS = ("train", "validation", "test")
KINDS = ("shape", "colour", "shape yes/no", "colour yes/no")
# The kinds that yes or no does not answer: what published figures call open questions.
OPEN = ("shape", "colour")

GROUPS = ("none", "colour", "shape", "thing", "verdict")
CONTENT = ("colour", "shape")
SIDE = 64
GROUND = 220
HELD_OUT_EVERY = 20
# Windows overlap and are large: at a quarter a random one is in the region in 18 % of cases.
COVERED = 0.25
SHAPES = frozenset({"circle", "rectangle", "triangle"})
YES_NO = frozenset({"yes", "no"})
NEGATIONS = frozenset({"no", "not"})


@dataclasses.dataclass(frozen=True)
class _Rows:
    """One split: per question its image's number, and indices into the wordings and answers."""

    image: np.ndarray
    wording: np.ndarray
    answer: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> "_Rows":
        return _Rows(self.image[keep], self.wording[keep], self.answer[keep])


@dataclasses.dataclass(frozen=True)
class _Text:
    """The 107 wordings as tables (one row each, in the order of `wordings`), and the answers."""

    wordings: tuple[str, ...]
    answers: tuple[str, ...]
    vocabulary: tuple[str, ...]
    tokens: np.ndarray  # (W, T) int32, the answer's place still empty
    group: np.ndarray  # (W, T) int8
    length: np.ndarray  # (W,) also the position of the answer
    negated: np.ndarray  # (W,) bool


def read_split(split: str, *, cell: int = 8, window: int = 2, limit: int | None = None) -> Examples:
    """Read the images and questions of one split, with exact regions for the words.

    A row reads "is there a teal shape ? no": the question in lower case, then its answer, which
    is the only target. Images stay pixels, (N, 64, 64, 3) uint8; `coverage` is (N, 1, P) over
    windows of `window` x `window` cells of `cell` x `cell` pixels, one cell apart, so that P is
    (64 / cell - window + 1)^2. The model must cut the image into the same windows.

    `chance` is the accuracy, on the whole split, of the best predictor that sees the question
    only: the commonest answer to each wording in `train`.

    Args:
        split: "train" (3,800 images), "validation" (200) or "test" (1,000).
        cell: pixels a side of a cell; divides 64.
        window: cells a side of a window; 1 gives plain patches.
        limit: how many images to read, the first ones of the split; None reads all.

    Raises:
        ValueError: unknown split, windows that do not fit the image, a limit under 1.
        DataError: a picture of the package is damaged.
        ModuleNotFoundError: the package `easy_vqa` is not installed.

    Example:
        >>> data = read_split("validation", limit=3)
        >>> data.images.shape, data.coverage.shape, data.grid
        ((3, 64, 64, 3), (3, 1, 49), (7, 7))
        >>> data.words(0)
        'what is the blue shape ? rectangle'
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: easy-VQA has {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is a number of images, at least 1, or None; got {limit}")
    side = grid_side(SIDE, cell, window)
    package = _package()
    text, learnt, rows = _read(package, split)
    kind = _kinds(text, rows)
    chance = _chance(text, learnt, rows, kind)
    numbers = np.unique(rows.image)[:limit]
    keep = np.isin(rows.image, numbers)
    rows, kind = rows[keep], kind[keep]
    test = split == "test"
    images = _pixels(
        package.get_test_image_paths() if test else package.get_train_image_paths(), numbers
    )
    return Examples(
        images=images,
        coverage=window_coverage(region(images), cell=cell, window=window)[:, None],
        image=np.searchsorted(numbers, rows.image).astype(np.int32),
        kind=kind,
        answer=text.length[rows.wording],
        vocabulary=text.vocabulary,
        kinds=KINDS,
        groups=GROUPS,
        content=CONTENT,
        grid=(side, side),
        chance=chance,
        covered=COVERED,
        **_words(text, rows),
    )


def region(images: UInt8[np.ndarray, "N height width 3"]) -> Bool[np.ndarray, "N height width"]:
    """Where the object is: pixels darker than the ground in some channel, min(R, G, B) < 220.

    Example:
        >>> ground, teal = (220, 255, 231), (0, 128, 128)
        >>> region(np.array([[[ground, teal]]], np.uint8))
        array([[[False,  True]]])
    """
    return images.min(axis=-1) < GROUND


def _package() -> ModuleType:
    """The package is an extra, so it is imported only when its data are asked for."""
    try:
        import easy_vqa
    except ModuleNotFoundError as error:
        if error.name != "easy_vqa":
            raise
        raise ModuleNotFoundError(
            "easy-VQA is not installed; type: make setup, or pip install easy-vqa==1.0",
            name=error.name,
        ) from None
    return easy_vqa


def _read(package: ModuleType, split: str) -> tuple[_Text, _Rows, _Rows]:
    """The wordings of the package's training questions, the rows of `train`, those of `split`."""
    asked = package.get_train_questions()
    text = _tabulate(tuple(sorted(set(asked[0]))), tuple(sorted(package.get_answers())))
    everything = _rows(text, asked)
    held_out = everything.image % HELD_OUT_EVERY == 0
    learnt = everything[~held_out]
    if split == "test":
        # No wording is new in the test questions, so the training tables serve them too.
        return text, learnt, _rows(text, package.get_test_questions())
    return text, learnt, everything[held_out] if split == "validation" else learnt


def _rows(text: _Text, asked: tuple[list[str], list[str], list[int]]) -> _Rows:
    questions, answers, images = asked
    wording = {name: index for index, name in enumerate(text.wordings)}
    answer = {name: index for index, name in enumerate(text.answers)}
    return _Rows(
        np.array(images),
        np.array([wording[question] for question in questions]),
        np.array([answer[name] for name in answers]),
    )


def _tabulate(wordings: tuple[str, ...], answers: tuple[str, ...]) -> _Text:
    split = [split_words(wording) for wording in wordings]
    vocabulary = ("<pad>", *sorted({word for said in split for word in said} | set(answers)))
    token = {word: index for index, word in enumerate(vocabulary)}
    shape = (len(wordings), max(map(len, split)) + 1)
    tokens, group = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
    for row, said in enumerate(split):
        tokens[row, : len(said)] = [token[word] for word in said]
        group[row, : len(said)] = _question_groups(said, answers)
    return _Text(
        wordings=wordings,
        answers=answers,
        vocabulary=vocabulary,
        tokens=tokens,
        group=group,
        length=np.array([len(said) for said in split], np.int32),
        negated=np.array([not NEGATIONS.isdisjoint(said) for said in split]),
    )


def _question_groups(said: list[str], answers: tuple[str, ...]) -> list[int]:
    groups = []
    for before, word in zip(["", *said], said, strict=False):
        if word in answers and word not in YES_NO:  # "no" before the answer is a negation
            groups.append(_answer_group(word))
        else:
            is_thing = word == "shape" and before != "what"
            groups.append(GROUPS.index("thing" if is_thing else "none"))
    return groups


def _answer_group(answer: str) -> int:
    if answer in YES_NO:
        return GROUPS.index("verdict")
    return GROUPS.index("shape" if answer in SHAPES else "colour")


def _kinds(text: _Text, rows: _Rows) -> np.ndarray:
    """(E,) int8: an open question asks for its answer's group, a yes/no question for its word's."""
    shape, verdict = GROUPS.index("shape"), GROUPS.index("verdict")
    by_answer = np.array([_answer_group(answer) for answer in text.answers])[rows.answer]
    is_open = by_answer != verdict
    asks_shape = np.where(is_open, by_answer == shape, (text.group == shape).any(1)[rows.wording])
    open_kind = np.where(asks_shape, KINDS.index("shape"), KINDS.index("colour"))
    closed_kind = np.where(asks_shape, KINDS.index("shape yes/no"), KINDS.index("colour yes/no"))
    return np.where(is_open, open_kind, closed_kind).astype(np.int8)


def _chance(text: _Text, learnt: _Rows, rows: _Rows, kind: np.ndarray) -> dict[str, float]:
    counts = np.zeros((len(text.wordings), len(text.answers)), np.int64)
    np.add.at(counts, (learnt.wording, learnt.answer), 1)
    right = counts.argmax(1)[rows.wording] == rows.answer
    return {name: float(right[kind == index].mean()) for index, name in enumerate(KINDS)}


def _words(text: _Text, rows: _Rows) -> dict[str, np.ndarray]:
    """The fields of `Examples` with one entry a token, the answer put after the question."""
    token = {word: index for index, word in enumerate(text.vocabulary)}
    place = np.arange(len(rows.answer)), text.length[rows.wording]
    tokens, group = text.tokens[rows.wording], text.group[rows.wording]
    # Words of an open question are presupposed; else "yes" affirms and a negation turns it round.
    is_open = np.array([answer not in YES_NO for answer in text.answers])[rows.answer]
    is_yes = np.array([answer == "yes" for answer in text.answers])[rows.answer]
    true = is_open | (is_yes != text.negated[rows.wording])
    grounded = (group != 0) & true[:, None]
    target = np.zeros(tokens.shape, bool)
    tokens[place] = np.array([token[answer] for answer in text.answers], np.int32)[rows.answer]
    group[place] = np.array([_answer_group(answer) for answer in text.answers], np.int8)[
        rows.answer
    ]
    grounded[place] = True
    target[place] = True
    return {"tokens": tokens, "group": group, "grounded": grounded[..., None], "target": target}


def _pixels(paths: dict[int, str], numbers: np.ndarray) -> np.ndarray:
    images = np.empty((len(numbers), SIDE, SIDE, 3), np.uint8)
    for index, number in enumerate(numbers):
        images[index] = pictures.read_picture(paths[int(number)])
    return images
