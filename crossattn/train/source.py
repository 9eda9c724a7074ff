"""The data of a run: training examples, evaluation splits, and pictures to show."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from crossattn.data import easy_vqa, scenes
from crossattn.data.examples import Examples
from crossattn.train import features
from crossattn.train.feed import WHOLE, Feed
from crossattn.train.run import Run


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What a run learns from and is judged by; the same for all variants and seeds of a suite.

    Attributes:
      vocabulary: the words, by token.
      feed: a run, a seed and perhaps this process's share to its batches of that seed; a ValueError
        where the data do not fill one batch.
      splits: evaluation splits; "validation" chooses layers (and learning rates).
      main: the split on which attention, causal use and captions are measured.
      pictures: image numbers (n,) of the main split to pixels (n, h, w, 3) in uint8.
      masks: image numbers (n,) to pixels (n, h, w): 0 ground, o + 1 for object o.
      trained: number of images to train on; 0 where nobody counted.
      window: cells along a side of what a patch sees; patches overlap where it is over 1.
    """

    vocabulary: tuple[str, ...]
    feed: Callable[..., Feed]
    splits: dict[str, Examples]
    main: str
    pictures: Callable[[np.ndarray], np.ndarray]
    masks: Callable[[np.ndarray], np.ndarray]
    window: int = 1
    trained: int = 0


def load_dataset(run: Run) -> Dataset:
    """Read or generate the data that a run names, cut to the length that its texts need.

    Raises:
      ValueError: where the numbers of images, the tasks or the image encoder do not fit the source,
        or a directory cannot be read.
      ModuleNotFoundError: where the source needs a package that is not installed.
    """
    if "boxes" in run.model.contexts and run.data.source != "scenes":
        raise ValueError(f"model.contexts boxes is for scenes, not for {run.data.source}")
    if run.data.source == "tfds":
        # Here, because what the other file builds is a Source.
        from crossattn.train import source_tfds

        return source_tfds.load_tfds(run)
    return _scenes(run) if run.data.source == "scenes" else _easy_vqa(run)


def _in_memory(run: Run, train: Examples, splits: dict[str, Examples], **rest: Any) -> Dataset:
    """A source of which all parts are held in memory, cut to the length that its texts need."""
    if run.model.image_encoder == "features":
        train = features.with_features(train, run.data.features, "train")
        splits = {
            name: features.with_features(part, run.data.features, name)
            for name, part in splits.items()
        }
    every = (train, *splits.values())
    length = 1 + max(int(np.flatnonzero(part.target.any(axis=0))[-1]) for part in every)
    train = train.cut(length)
    return Dataset(
        vocabulary=train.vocabulary,
        feed=lambda run, seed, share=WHOLE: Feed(run, train, seed, share),
        splits={name: part.cut(length) for name, part in splits.items()},
        trained=len(train.images),
        **rest,
    )


def _scenes(run: Run) -> Dataset:
    data, image_encoder = run.data, run.model.image_encoder
    if image_encoder not in (known := (*scenes.PERCEPTIONS, "features")):
        raise ValueError(
            f"model.image_encoder {image_encoder!r} is not for scenes: "
            f"choose one of {', '.join(known)}"
        )

    def examples(split: str, count: int, tasks: tuple[str, ...]) -> Examples:
        return scenes.examples(
            split,
            count,
            seed=data.seed,
            tasks=tasks,
            perception="oracle" if image_encoder == "features" else image_encoder,
            noise=data.noise,
            boxes="boxes" in run.model.contexts,
        )

    # Where captions are all that is learnt, captions of every split are what is judged.
    count = data.evaluation_images
    judged = data.tasks if data.tasks == ("caption",) else ("question",)
    # The main split carries the captions; the foils need a few hundred scenes each.
    splits = {
        "validation": examples("validation", min(count, 400), judged),
        "iid": examples("iid", count, data.tasks),
        "pairs": examples("pairs", count, judged),
        "count": examples("count", min(count, 400), judged),
        "relations": examples("relations", min(count, 400), judged),
        "swap": examples("swap", min(count, 400), judged),
    }
    train = examples("train", data.images, data.tasks)
    drawn = scenes.draw_scenes("iid", count, seed=data.seed, tasks=data.tasks)
    return _in_memory(
        run,
        train,
        splits,
        main="iid",
        pictures=drawn.render,
        masks=lambda images: drawn.masks[images],
    )


def _easy_vqa(run: Run) -> Dataset:
    data, model = run.data, run.model
    # Features stand on the grid of the default image encoder, "window".
    windows = {"patch": 1, "window": 2, "features": 2}
    if model.image_encoder not in windows:
        raise ValueError(
            f"model.image_encoder {model.image_encoder!r} is not for easy_vqa: choose one of "
            f"{', '.join(windows)}"
        )

    window = windows[model.image_encoder]

    def examples(split: str, images: int) -> Examples:
        return easy_vqa.read_split(split, window=window, limit=images or None)

    splits = {
        "validation": examples("validation", data.evaluation_images),
        "test": examples("test", data.evaluation_images),
    }
    test = splits["test"].images
    return _in_memory(
        run,
        examples("train", data.images),
        splits,
        main="test",
        pictures=lambda images: test[images],
        masks=lambda images: easy_vqa.region(test[images]).astype(np.uint8),
        window=window,
    )
