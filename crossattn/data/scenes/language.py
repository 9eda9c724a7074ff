"""The grammar of `scenes`: its words, and what every word of a text refers to."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

__all__ = [
    "COLOURS",
    "CONTENT",
    "GROUPS",
    "HELD_OUT",
    "LENGTH",
    "PAIRS",
    "RELATIONS",
    "SHAPES",
    "VOCABULARY",
    "Question",
]

COLOURS = ("red", "yellow", "green", "blue", "pink", "white")
SHAPES = ("circle", "square", "triangle", "ring", "cross", "star")
NUMBERS = ("one", "two", "three", "four")
# A relation compares the centres along one axis (0: x, 1: y, downwards); sign -1: smaller is true.
RELATIONS = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}

SPECIAL = ("<pad>", "<bos>", "<eos>")
FUNCTION = (
    "describe",
    "what",
    "colour",
    "shape",
    "is",
    "are",
    "the",
    "there",
    "a",
    "how",
    "of",
    "?",
)
POINTING = ("many", "thing", "things", "yes", "no")
VOCABULARY = (*SPECIAL, *FUNCTION, *POINTING, *COLOURS, *SHAPES, *RELATIONS, *NUMBERS)

# What a word does. Words of relation point weakly: to both things that they relate. The verdict is
# "yes" or "no"; "thing" and "things" stand where a shape word could stand.
GROUPS = ("none", "colour", "shape", "relation", "count", "thing", "verdict")
CONTENT = ("colour", "shape")
# The longest text is the caption of six objects: <bos> describe, six times two words, <eos>.
LENGTH = 15

GROUP_OF = {
    **dict.fromkeys(COLOURS, "colour"),
    **dict.fromkeys(SHAPES, "shape"),
    **dict.fromkeys(RELATIONS, "relation"),
    **dict.fromkeys((*NUMBERS, "many"), "count"),
    **dict.fromkeys(("thing", "things"), "thing"),
    **dict.fromkeys(("yes", "no"), "verdict"),
}

TEMPLATES = {
    "colour": "what colour is the FIRST ?",
    "shape": "what shape is the FIRST thing ?",
    "exist": "is there a FIRST ?",
    "count": "how many FIRST things are there ?",
    "relation": "is the FIRST RELATION the SECOND ?",
    "refer": "the FIRST thing RELATION the SECOND ?",
    "match": "are there FIRST SECOND ?",
}

Pair = tuple[str, str]  # the colour and the shape of one object
Phrase = tuple[str | None, str | None]  # what a text says of it; None: nothing
Place = Sequence[int]  # x and y of a centre

# A Latin square: every colour misses one shape and every shape one colour.
HELD_OUT: tuple[Pair, ...] = tuple(
    (colour, SHAPES[(number + 1) % 6]) for number, colour in enumerate(COLOURS)
)
PAIRS: tuple[Pair, ...] = tuple(
    pair for pair in itertools.product(COLOURS, SHAPES) if pair not in HELD_OUT
)


def held_out_relation(first: str, relation: str, second: str) -> bool:
    """Say whether training never asks if shape `first` stands in `relation` to shape `second`.

    A Latin rule: for every relation each shape is held out once as first and once as second.

    Example:
        >>> held_out_relation("circle", "left", "square")
        True
        >>> held_out_relation("square", "left", "circle")
        False
    """
    step = tuple(RELATIONS).index(relation) + 1
    return (SHAPES.index(second) - SHAPES.index(first) - step) % 6 == 0


def holds(first: Place, relation: str, second: Place) -> bool:
    """Say whether a centre stands in `relation` to another, (x, y) with y downwards."""
    axis, sign = RELATIONS[relation]
    return (first[axis] - second[axis]) * sign > 0


@dataclasses.dataclass(frozen=True)
class Question:
    """One question: its kind, the phrases in it, and the answer.

    Example:
        >>> Question("relation", ("red", "ring"), "no", "left", ("blue", "star")).text()
        'is the red ring left of the blue star ?'
    """

    kind: str
    first: Phrase
    answer: str
    relation: str = ""
    second: Phrase = (None, None)

    def text(self) -> str:
        """Spell the question without its answer."""
        return " ".join(word for word, _ in self._parts())

    def _parts(self) -> Iterable[tuple[str, str]]:
        """Yield the words, each with the name of what it refers to."""
        for word in TEMPLATES[self.kind].split():
            if word == "FIRST":
                yield from ((part, "first") for part in self.first if part)
            elif word == "SECOND":
                yield from ((part, "second") for part in self.second if part)
            elif word == "RELATION":
                yield self.relation, "both"
                if self.relation in ("left", "right"):
                    yield "of", ""
            else:
                yield word, "first" if word in ("many", "thing", "things") else ""

    def words(self, objects: Sequence[Pair], places: Sequence[Place]) -> list[tuple[str, int]]:
        """Give the whole row, with the objects of every word as bits.

        Args:
            objects: colour and shape of each object of the scene.
            places: the centre of each object, (x, y).

        Returns:
            words from `<bos>` to `<eos>`; bit o is set where the word refers to object o. The
            answer is the last but one. A word about nothing in the scene has no bit.
        """
        first, second = matching(self.first, objects), matching(self.second, objects)
        if self.kind == "refer":  # of the red things, the one that stands left of the ring
            landmark = places[second[0]]
            first = [o for o in first if holds(places[o], self.relation, landmark)]
        second_bits = bits(second) if any(self.second) else 0
        meaning = {"": 0, "first": bits(first), "second": second_bits}
        meaning["both"] = meaning["first"] | second_bits
        both = self.kind in ("relation", "match")
        answer = meaning["both"] if both else meaning["first"]
        inner = [(word, meaning[about]) for word, about in self._parts()]
        return [("<bos>", 0), *inner, (self.answer, answer), ("<eos>", 0)]


def matching(phrase: Phrase, objects: Sequence[Pair]) -> list[int]:
    """Find the objects that fit a phrase."""
    colour, shape = phrase
    return [o for o, (c, s) in enumerate(objects) if colour in (None, c) and shape in (None, s)]


def bits(numbers: Iterable[int]) -> int:
    """Write a set of objects as bits."""
    return sum(1 << number for number in numbers)


def caption_words(caption: Sequence[Pair], objects: Sequence[Pair]) -> list[tuple[str, int]]:
    """Give the row of a caption that names `caption`, with what each word means in `objects`.

    Args:
        caption: colour and shape of each object that is named, from left to right.
        objects: those of the scene that the row is about: the same ones, except where a caption
            is set beside the other scene of a swap pair.

    Returns:
        words from `<bos>` to `<eos>` with the bits of their objects.
    """
    row = [("<bos>", 0), ("describe", 0)]
    own = list(caption) == list(objects)
    for position, pair in enumerate(caption):
        # Of two equal objects each is named in its turn.
        meaning = 1 << position if own else bits(matching(pair, objects))
        row += [(word, meaning) for word in pair]
    return [*row, ("<eos>", 0)]
