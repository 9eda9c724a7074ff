"""The scenes of the data set `scenes`, before any text is written: splits, objects and places."""

import dataclasses
import functools
import math
from collections.abc import Collection
from typing import SupportsIndex

import numpy as np

from crossattn.data.scenes import images
from crossattn.data.scenes.language import COLOURS, SHAPES, Pair, Question
from crossattn.data.scenes.layout import GROUND, MOST, lay_out
from crossattn.data.scenes.questions import Case, arrange, cases, swap_pairs
from crossattn.data.splitmix import SplitMix64

__all__ = ["CHANCE", "SIZES", "SPLITS", "Scenes", "check_known", "draw_scenes"]

CHANCE = {
    "colour": 1 / 5,
    "shape": 1 / 5,
    "exist": 1 / 2,
    "count": 1 / 4,
    "relation": 1 / 2,
    "refer": 1 / 4,
    "match": 1 / 2,
}
TASKS = ("question", "caption", "refer", "match")
# Tasks that have scenes of their own.
APART = ("refer", "match")
SIZES = (32, 64)


@dataclasses.dataclass(frozen=True)
class _Split:
    """What a split asks, in blocks of `questions`, and how many objects its scenes have."""

    blocks: tuple[str, ...]
    objects: tuple[int, ...]
    chance: dict[str, float]


ALL = _Split(("colour", "shape", "exist", "count", "relation"), (2, 3, 4), CHANCE)
SPLITS = {
    "train": ALL,
    "validation": ALL,
    "iid": ALL,
    "pairs": _Split(
        ("held-out colour", "held-out shape"), (2, 3, 4), {"colour": 0.0, "shape": 0.0}
    ),
    "count": _Split(("count",), (5, 6), {"count": 1 / 4}),
    "relations": _Split(("held-out relation",), (2, 3, 4), {"relation": 1 / 2}),
    "swap": _Split(("swap",), (2,), {"match": 0.0}),
}
# Scenes in a complete block.
BLOCK = {"colour": 5, "shape": 5, "exist": 2, "count": 4, "relation": 2, "refer": 4, "match": 2}
BLOCK |= {"held-out colour": 1, "held-out shape": 1, "held-out relation": 2, "swap": 2}


@dataclasses.dataclass(frozen=True)
class Scenes:
    """N scenes of a split; objects are numbered from left to right.

    Attributes:
        split: the name of the split.
        seed: what everything was drawn from.
        size: pixels along one side of a picture.
        colour: (N, O) int8, index into `COLOURS`, -1 where there is no object.
        shape: (N, O) int8, index into `SHAPES`, -1 where there is no object.
        centre: (N, O, 2) int64, x and y (downwards) in units of 1/64 of a side.
        radius: (N, O) int64, in the same units; 0 where there is no object.
        questions: the question of each scene, None in `swap`.
    """

    split: str
    seed: int
    size: int
    colour: np.ndarray
    shape: np.ndarray
    centre: np.ndarray
    radius: np.ndarray
    questions: tuple[Question | None, ...]

    def __len__(self) -> int:
        return len(self.colour)

    def pairs(self, scene: SupportsIndex) -> list[Pair]:
        """Name colour and shape of the objects of one scene, from left to right."""
        both = zip(self.colour[scene].tolist(), self.shape[scene].tolist(), strict=True)
        return [(COLOURS[colour], SHAPES[shape]) for colour, shape in both if colour >= 0]

    @functools.cached_property
    def masks(self) -> np.ndarray:
        """(N, size, size) uint8: 0 for the ground, o + 1 for object o."""
        return images.masks(self.shape, self.radius, self.centre, self.size)

    @functools.cached_property
    def coverage(self) -> np.ndarray:
        """(N, O, P) float32: the fraction of patch p that object o covers."""
        return images.coverage(self.shape, self.radius, self.centre, self.size)

    @property
    def boxes(self) -> np.ndarray:
        """(N, O, 3) float32: x, y and radius of object o in sides of the image; 0 for no object."""
        parts = [self.centre, self.radius[..., None]]
        return (np.concatenate(parts, axis=-1) / GROUND).astype(np.float32)

    def render(self, indices: np.ndarray) -> np.ndarray:
        """Paint the scenes `indices`, (n, size, size, 3) uint8.

        Example:
            >>> draw_scenes("iid", 100, seed=0).render(np.array([3, 5])).shape
            (2, 64, 64, 3)
        """
        indices = np.asarray(indices)
        stream = self._stream(PIXELS)
        return images.render(self.outlines(indices), self.colour[indices], stream, indices)

    def outlines(self, indices: np.ndarray) -> np.ndarray:
        """Objects of the scenes `indices`, (n, size, size) uint8: 0 the ground, o + 1 object o."""
        chosen = self.shape[indices], self.radius[indices], self.centre[indices]
        return images.masks(*chosen, self.size)

    def features(self, indices: np.ndarray, *, noise: float) -> np.ndarray:
        """Describe the patches of scenes `indices` symbolically, (n, P, F) float32.

        See `images.features` for the meaning; `noise` is the standard deviation.
        """
        indices = np.asarray(indices)
        attributes = self.colour[indices], self.shape[indices]
        covered = images.cover(attributes[1], self.radius[indices], self.centre[indices], self.size)
        stream = self._stream(FEATURES)
        return images.features(covered, attributes, stream, indices, noise=noise)

    def _stream(self, purpose: int) -> SplitMix64:
        return _stream(self.seed, self.split, purpose)


# Every use of a seed has its own stream, so that a change of one leaves the others as they are.
CONTENT, LAYOUT, ARRANGEMENT, PIXELS, FEATURES = range(5)


def _stream(seed: int, split: str, purpose: int) -> SplitMix64:
    return SplitMix64(seed, tuple(SPLITS).index(split), purpose)


def draw_scenes(
    split: str,
    count: int,
    *,
    seed: int,
    size: int = 64,
    tasks: tuple[str, ...] = ("question", "caption"),
) -> Scenes:
    """Draw scenes.

    Args:
        split: a key of `SPLITS`.
        count: number of scenes; complete blocks in equal shares for every kind of question ask for
            a multiple of 100 (120 with `refer` or `match`, 140 with both); 2 in `pairs`,
            `relations` and `swap`, 4 in `count`.
        seed: equal seeds, equal scenes. Two splits of one seed are independent of each other.
        size: pixels along one side, 32 or 64. The scenes are the same at both.
        tasks: which kinds of text the scenes will carry, of "question", "caption", "refer" and
            "match".

    Returns:
        the scenes in random order, except those of `swap`, where 2i and 2i + 1 are a pair.

    Raises:
        ValueError: for an unknown split, task or size, or an incomplete count.

    Example:
        >>> drawn = draw_scenes("iid", 100, seed=0)
        >>> drawn.pairs(0)
        [('white', 'ring'), ('white', 'triangle'), ('white', 'cross')]
        >>> drawn.questions[0].text()
        'how many white things are there ?'
    """
    blocks = _blocks(split, tasks)
    check_known("size", size, SIZES)
    cycle = len(blocks) * math.lcm(*(BLOCK[block] for block in blocks))
    if count <= 0 or count % cycle:
        raise ValueError(
            f"count is {count}; split {split!r} with tasks {tasks} is balanced only in complete "
            f"blocks: write a multiple of {cycle}"
        )
    drawn = _draw(split, blocks, count, _stream(seed, split, CONTENT))
    counts = np.array([len(pairs) for _, pairs in drawn])
    if split == "swap":  # both scenes of a pair have the same layout
        halves = lay_out(_stream(seed, split, LAYOUT), counts[::2])
        centre, radius = (np.repeat(half, 2, axis=0) for half in halves)
    else:
        centre, radius = lay_out(_stream(seed, split, LAYOUT), counts)
    return _settle(split, seed, size, drawn, (centre, radius))


def check_known(name: str, value: object, known: Collection) -> None:
    """Raise a ValueError that lists what is known, unless `value` is among it."""
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}: write one of {', '.join(map(repr, known))}")


def _blocks(split: str, tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Choose the blocks of questions that scenes of a split are made for."""
    check_known("split", split, tuple(SPLITS))
    for task in tasks:
        check_known("task", task, TASKS)
    own = SPLITS[split].blocks
    apart = tuple(task for task in APART if task in tasks)
    if not apart:
        return own
    if SPLITS[split] is not ALL:
        raise ValueError(
            f"split {split!r} has no task {apart[0]!r}: only train, validation and iid have"
        )
    return (*own, *apart) if "question" in tasks else apart


def _draw(split: str, blocks: tuple[str, ...], count: int, stream: SplitMix64) -> list[Case]:
    """Draw questions and the objects of their scenes, in random order."""
    if split == "swap":
        return swap_pairs(stream, count)
    share, sizes = count // len(blocks), SPLITS[split].objects
    drawn = [case for block in blocks for case in cases(stream, block, share, sizes)]
    return [drawn[place] for place in stream.order(count)]


def _settle(
    split: str,
    seed: int,
    size: int,
    drawn: list[Case],
    layout: tuple[np.ndarray, np.ndarray],
) -> Scenes:
    """Give every object its place, and number the objects from left to right."""
    count = len(drawn)
    colour, shape = (np.full((count, MOST), -1, np.int8) for _ in range(2))
    centre, radius = (np.zeros_like(part) for part in layout)
    stream = _stream(seed, split, ARRANGEMENT)
    for scene, (question, pairs) in enumerate(drawn):
        spots = layout[0][scene, : len(pairs)].tolist()
        where = arrange(stream, question, spots)
        ordered = sorted(zip(where, pairs, strict=True), key=lambda item: spots[item[0]][0])
        places = [place for place, _ in ordered]
        there = slice(len(pairs))
        colour[scene, there] = [COLOURS.index(name) for _, (name, _) in ordered]
        shape[scene, there] = [SHAPES.index(name) for _, (_, name) in ordered]
        centre[scene, there], radius[scene, there] = (part[scene, places] for part in layout)
    questions = tuple(question for question, _ in drawn)
    return Scenes(split, seed, size, colour, shape, centre, radius, questions)
