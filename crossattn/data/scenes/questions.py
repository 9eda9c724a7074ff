"""Questions first, scenes second: for one wording, one scene for every answer it can have.

A block is complete in its answers, and what else stands in its scenes is drawn without a look at
the answer. So whatever a predictor makes of the text alone, it is right once in every block.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from crossattn.data.scenes.language import (
    COLOURS,
    HELD_OUT,
    NUMBERS,
    PAIRS,
    RELATIONS,
    SHAPES,
    Pair,
    Place,
    Question,
    held_out_relation,
    holds,
)
from crossattn.data.splitmix import SplitMix64

__all__ = ["Case", "arrange", "cases", "swap_pairs"]

# A question (None: the scene has only captions) and the objects of its scene, in no spatial order:
# the objects that the question is about come first.
Case = tuple[Question | None, list[Pair]]
# The attribute that a question about the other one names.
KNOWN = {"colour": 1, "shape": 0}


def fill(stream: SplitMix64, pairs: list[Pair], count: int, choice: Sequence[Pair]) -> None:
    """Append pairs drawn from `choice` until there are `count`."""
    pairs += [stream.pick(choice) for _ in range(count - len(pairs))]


def attribute_block(
    stream: SplitMix64, number: int, sizes: Sequence[int], kind: str
) -> Iterator[Case]:
    """One shape (or colour), a scene for each colour (or shape) it can have."""
    known = KNOWN[kind]
    value = stream.pick((COLOURS, SHAPES)[known])
    for pair in [pair for pair in PAIRS if pair[known] == value]:
        yield attribute_case(stream, kind, pair, sizes)


def held_out_block(
    stream: SplitMix64, number: int, sizes: Sequence[int], kind: str
) -> Iterator[Case]:
    """The colour (or shape) of a held-out pair, by turns."""
    yield attribute_case(stream, kind, HELD_OUT[number % 6], sizes)


def attribute_case(stream: SplitMix64, kind: str, pair: Pair, sizes: Sequence[int]) -> Case:
    """Ask the colour or the shape of the only object that has the other attribute of `pair`."""
    known, pairs = KNOWN[kind], [pair]
    others = [other for other in PAIRS if other[known] != pair[known]]
    fill(stream, pairs, stream.pick(sizes), others)
    first = (None, pair[1]) if kind == "colour" else (pair[0], None)
    return Question(kind, first, pair[1 - known]), pairs


def exist_block(stream: SplitMix64, number: int, sizes: Sequence[int]) -> Iterator[Case]:
    """One pair, a scene with it and a scene without it.

    In every other block the scene without has both the colour and the shape, on different objects
    (a binding foil); in the rest it has the colour only or the shape only, by turns.
    """
    pair = stream.pick(PAIRS)
    colour, shape = pair
    pairs = [pair]
    fill(stream, pairs, stream.pick(sizes), [other for other in PAIRS if other != pair])
    yield Question("exist", pair, "yes"), pairs

    same_colour = [other for other in PAIRS if other[0] == colour and other != pair]
    same_shape = [other for other in PAIRS if other[1] == shape and other != pair]
    size = stream.pick(sizes)
    if number % 2 == 0:
        pairs = [stream.pick(same_colour), stream.pick(same_shape)]
        fill(stream, pairs, size, [other for other in PAIRS if other != pair])
    elif number % 4 == 1:
        pairs = [stream.pick(same_colour)]
        fill(stream, pairs, size, [other for other in PAIRS if other[1] != shape])
    else:
        pairs = [stream.pick(same_shape)]
        fill(stream, pairs, size, [other for other in PAIRS if other[0] != colour])
    yield Question("exist", pair, "no"), pairs


def count_block(stream: SplitMix64, number: int, sizes: Sequence[int]) -> Iterator[Case]:
    """One colour or one shape, a scene for each number of its things.

    The number of objects in the scene is drawn among those that leave room for the answer.
    """
    known = number % 2
    value = stream.pick((COLOURS, SHAPES)[known])
    first = (None, value) if known else (value, None)
    for count, word in enumerate(NUMBERS, start=1):
        size = stream.pick([size for size in sizes if size >= count])
        pairs: list[Pair] = []
        fill(stream, pairs, count, [pair for pair in PAIRS if pair[known] == value])
        fill(stream, pairs, size, [pair for pair in PAIRS if pair[known] != value])
        yield Question("count", first, word), pairs


def relation_block(
    stream: SplitMix64, number: int, sizes: Sequence[int], held_out: bool = False
) -> Iterator[Case]:
    """Two different pairs and a relation, a scene where it holds and one where it does not.

    With `held_out` the relation is between two shapes that training never asks for.
    """
    relation = tuple(RELATIONS)[number % 4]
    first = stream.pick(PAIRS)
    choice = [
        pair
        for pair in PAIRS
        if pair != first and held_out_relation(first[1], relation, pair[1]) == held_out
    ]
    second = stream.pick(choice)
    for answer in ("yes", "no"):
        pairs = [first, second]
        fill(stream, pairs, stream.pick(sizes), [p for p in PAIRS if p not in (first, second)])
        yield Question("relation", first, answer, relation, second), pairs


def refer_block(stream: SplitMix64, number: int, sizes: Sequence[int]) -> Iterator[Case]:
    """A colour, a relation and a landmark, a scene for each of four shapes that it can mean.

    A second thing of that colour stands on the other side of the landmark. Of the five shapes of
    the colour one is the landmark's, which nothing else in the scene has.
    """
    relation = tuple(RELATIONS)[number % 4]
    colour = stream.pick(COLOURS)
    own = [pair for pair in PAIRS if pair[0] == colour]
    mark = stream.pick(own)[1]
    choice = [pair for pair in own if pair[1] != mark]
    others = [pair for pair in PAIRS if pair[1] == mark and pair[0] != colour]
    for target in choice:
        pairs = [target, stream.pick(others), stream.pick(choice)]
        size = stream.pick([size for size in sizes if size >= 3])
        fill(stream, pairs, size, [p for p in PAIRS if p[0] != colour and p[1] != mark])
        yield Question("refer", (colour, None), target[1], relation, (None, mark)), pairs


def match_block(stream: SplitMix64, number: int, sizes: Sequence[int]) -> Iterator[Case]:
    """The caption of a scene of two objects, that scene, and the same one with colours swapped."""
    own, crossed = swapped_scenes(stream)
    for answer, pairs in (("yes", own), ("no", crossed)):
        yield Question("match", own[0], answer, "", own[1]), pairs


BLOCKS: dict[str, Callable[..., Iterator[Case]]] = {
    "colour": partial(attribute_block, kind="colour"),
    "shape": partial(attribute_block, kind="shape"),
    "exist": exist_block,
    "count": count_block,
    "relation": relation_block,
    "refer": refer_block,
    "match": match_block,
    "held-out colour": partial(held_out_block, kind="colour"),
    "held-out shape": partial(held_out_block, kind="shape"),
    "held-out relation": partial(relation_block, held_out=True),
}


def cases(stream: SplitMix64, block: str, count: int, sizes: Sequence[int]) -> list[Case]:
    """Draw `count` cases from blocks of one name, complete if `count` is a multiple of theirs.

    Args:
        stream: where the draws come from.
        block: a key of `BLOCKS`.
        count: how many.
        sizes: the numbers of objects that a scene may have.

    Returns:
        the cases, block after block.
    """
    blocks = (BLOCKS[block](stream, number, sizes) for number in itertools.count())
    return list(itertools.islice(itertools.chain.from_iterable(blocks), count))


def swap_pairs(stream: SplitMix64, count: int) -> list[Case]:
    """Draw `count` scenes of two objects, each second one the one before with its colours swapped.

    All four pairs are allowed ones; the shapes keep their places.
    """
    drawn: list[Case] = []
    while len(drawn) < count:
        drawn += [(None, pairs) for pairs in swapped_scenes(stream)]
    return drawn


def swapped_scenes(stream: SplitMix64) -> tuple[list[Pair], list[Pair]]:
    """Two objects, and the same shapes with their colours swapped, all of them allowed pairs."""
    while True:
        (colour, shape), (other, second) = stream.pick(PAIRS), stream.pick(PAIRS)
        crossed = [(other, shape), (colour, second)]
        if colour != other and shape != second and set(crossed) <= set(PAIRS):
            return [(colour, shape), (other, second)], crossed


def arrange(stream: SplitMix64, question: Question | None, places: Sequence[Place]) -> list[int]:
    """Choose the place of every object of a case, so that the answer becomes true.

    Args:
        stream: where the draws of `refer` come from.
        question: decides where its objects stand; others leave the places as they are.
        places: (x, y) of every place; no two are equal in x or in y.

    Returns:
        for each object the index of its place.
    """
    order = list(range(len(places)))
    if question is not None and question.kind == "match":  # as named, from left to right
        return sorted(order, key=lambda place: places[place][0])
    if question is None or not question.relation:
        return order
    if question.kind == "relation":
        if holds(places[0], question.relation, places[1]) != (question.answer == "yes"):
            order[:2] = [1, 0]
        return order
    axis, sign = RELATIONS[question.relation]
    ranked = sorted(order, key=lambda place: places[place][axis] * sign)  # the true end last
    mark = stream.pick(range(1, len(ranked) - 1))
    target, rival = stream.pick(ranked[mark + 1 :]), stream.pick(ranked[:mark])
    chosen = [target, ranked[mark], rival]
    return chosen + [place for place in order if place not in chosen]
