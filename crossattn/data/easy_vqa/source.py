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

import functools
from types import ModuleType

import numpy as np
from jaxtyping import UInt8

from crossattn.data import pictures
from crossattn.data.dataset import Dataset
from crossattn.data.easy_vqa.language import CONTENT, GROUPS, KINDS, Questions, Wordings
from crossattn.data.examples import Examples
from crossattn.data.regions import grid_side, window_coverage
from crossattn.data.sources import PictureData, Settings, Source
from crossattn.shapes import Bool

__all__ = ["EASY_VQA", "KINDS", "OPEN", "SPLITS", "read_split", "region"]

SPLITS = ("train", "validation", "test")
# The kinds that yes or no does not answer: what published figures call open questions.
OPEN = ("shape", "colour")

SIDE = 64
GROUND = 220
HELD_OUT_EVERY = 20
# Windows overlap and are large: at a quarter a random one is in the region in 18 % of cases.
COVERED = 0.25


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
    chance = text.chance(learnt, rows)
    numbers = np.unique(rows.image)[:limit]
    rows = rows[np.isin(rows.image, numbers)]
    test = split == "test"
    images = _pixels(
        package.get_test_image_paths() if test else package.get_train_image_paths(), numbers
    )
    return Examples(
        images=images,
        coverage=window_coverage(region(images), cell=cell, window=window)[:, None],
        image=np.searchsorted(numbers, rows.image).astype(np.int32),
        kind=text.kinds(rows),
        answer=text.length[rows.wording],
        vocabulary=text.vocabulary,
        kinds=KINDS,
        groups=GROUPS,
        content=CONTENT,
        grid=(side, side),
        chance=chance,
        covered=COVERED,
        **text.words(rows),
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


def _read(package: ModuleType, split: str) -> tuple[Wordings, Questions, Questions]:
    """The wordings of the package's training questions, the rows of `train`, those of `split`."""
    asked = package.get_train_questions()
    text = Wordings(tuple(sorted(set(asked[0]))), tuple(sorted(package.get_answers())))
    everything = text.questions(asked)
    held_out = everything.image % HELD_OUT_EVERY == 0
    learnt = everything[~held_out]
    if split == "test":
        # No wording is new in the test questions, so the training tables serve them too.
        return text, learnt, text.questions(package.get_test_questions())
    return text, learnt, everything[held_out] if split == "validation" else learnt


def _pixels(paths: dict[int, str], numbers: np.ndarray) -> np.ndarray:
    images = np.empty((len(numbers), SIDE, SIDE, 3), np.uint8)
    for index, number in enumerate(numbers):
        images[index] = pictures.read_picture(paths[int(number)])
    return images


ABOUT = (
    "easy-VQA by Victor Zhou: pictures of 64 x 64 pixels with one shape in one colour on a light "
    "ground, and questions about them with 13 answers in all. The region of the shape is found "
    "exactly, by its colour."
)
PARTS_ABOUT = {
    "train": "The training pictures of the package but for every 20th.",
    "validation": "Every 20th training picture of the package: what has to be chosen, such as the "
    "layer whose attention is shown, is chosen here.",
    "test": "The test pictures of the package, drawn as those of training. No wording of a "
    "question is new.",
}


def _load(settings: Settings) -> Dataset:
    data: PictureData = settings.data
    asked = {"train": data.images, **dict.fromkeys(("validation", "test"), data.evaluation_images)}
    parts = {
        name: read_split(name, window=settings.window, limit=images or None)
        for name, images in asked.items()
    }
    # Also where features of another encoder take the place of the images.
    pixels = {name: part.images for name, part in parts.items()}
    return Dataset(
        parts.pop("train"),
        parts,
        main="test",
        draw={name: own.__getitem__ for name, own in pixels.items()},
        outline={name: functools.partial(_outline, own) for name, own in pixels.items()},
        about=ABOUT,
        parts_about=PARTS_ABOUT,
    )


def _outline(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return region(images[chosen]).astype(np.uint8)


# Features stand on the grid of the default image encoder, "window".
EASY_VQA = Source(
    "easy_vqa",
    _load,
    image_encoders={"patch": 1, "window": 2, "features": 2},
    tasks=("question",),
)
