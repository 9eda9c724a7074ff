"""Which pictures are trained on, chosen by, and judged by."""

from collections.abc import Sequence

from crossattn.data.errors import DataError

__all__ = ["by_column", "by_share"]

# Share of the pictures for each of validation and test, and how many there are at least.
SHARE, LEAST = 0.1, 5
# Fewer pictures cannot be divided.
FEWEST = 5
HASHES = 2**64
USUAL = ("train", "validation", "test")


def by_share(hashes: Sequence[int], what: str = "picture") -> list[str]:
    """The part of each picture by its hash, an integer of 64 bits: equal pictures, equal parts.

    A tenth each for validation and test, those with the lowest and the highest hashes; of fewer
    than fifty pictures five, or a fifth. The order of the pictures does not matter, and once a
    tenth is more than five, no picture changes its part when others are added.

    Raises:
        DataError: there are too few pictures.

    Example:
        >>> by_share([7, 2**63, 2**62, 2**64 - 1, 2**61, 7])
        ['validation', 'train', 'train', 'test', 'train', 'validation']
    """
    every = sorted(set(hashes))
    if (count := len(every)) < FEWEST:
        raise DataError(
            f"{count} different {what}s are too few to be split: expected at least {FEWEST}"
        )
    size = lambda share: min(max(share, min(LEAST, count // FEWEST)), count // FEWEST)
    low = size(sum(one < SHARE * HASHES for one in every))
    high = count - size(sum(one >= (1 - SHARE) * HASHES for one in every))
    part = {
        one: "validation" if rank < low else "test" if rank >= high else "train"
        for rank, one in enumerate(every)
    }
    return [part[one] for one in hashes]


def by_column(named: Sequence[str], hashes: Sequence[int], what: str = "picture") -> list[str]:
    """The part of each picture by what the file calls it, with what the file lacks.

    Without a test, that is every second picture of validation, by its hash; without validation, it
    is set aside from training as `by_share` does. Other parts stay as they are.

    Raises:
        DataError: nothing is to be trained on, or too little to be split.
    """
    usual = [number for number, name in enumerate(named) if name in USUAL]
    if len(usual) < len(named):
        own = by_column([named[one] for one in usual], [hashes[one] for one in usual], what)
        drawn = dict(zip(usual, own, strict=True))
        return [drawn.get(number, name) for number, name in enumerate(named)]
    there = set(named)
    if "train" not in there:
        raise DataError(
            f"no {what} is of the split train, all are of {' or '.join(sorted(there)) or 'others'}"
        )
    if there == {"train"}:
        return by_share(hashes, what)
    if "validation" not in there:
        learnt = [one for one, name in zip(hashes, named, strict=True) if name == "train"]
        shared = dict(zip(learnt, by_share(learnt, what), strict=True))
        aside = {one for one, part in shared.items() if part == "validation"}
        return ["validation" if one in aside and name == "train" else name
                for one, name in zip(hashes, named, strict=True)]  # fmt: skip
    if "test" in there:
        return list(named)
    judged = sorted({one for one, name in zip(hashes, named, strict=True) if name == "validation"})
    if len(judged) < 2:
        raise DataError(
            f"one {what} of validation cannot be shared with the test: add a split test"
        )
    test = set(judged[1::2])
    return ["test" if one in test and name == "validation" else name
            for one, name in zip(hashes, named, strict=True)]  # fmt: skip
