"""Results of a run held against what is wanted of them: a line for each bar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..benchmarks.attention import OURS
from ..cases import shape_of
from .cases import VISIBLE, DeviceCase

BEST_PEER = 0.9  # of the best peer's speed, everywhere
FEW_QUERIES = 1.2  # with gradients, where few queries read a long context
FEW, LONG = 256, 16384
WAN = (62208, 9, 128)  # (S, H, D) of which 2 to 64 queries take at most so many seconds
WAN_SECONDS = 0.12e-3
MASKED = 1.3  # times the call without a mask on what is visible


class Goal(NamedTuple):
    """Whether a bar is met; None where that was not measured."""

    met: bool | None
    text: str

    def __str__(self) -> str:
        word = {True: "met", False: "missed", None: "not measured"}[self.met]
        return f"{word}: {self.text}"


def verdicts(cases: Sequence[DeviceCase], records: Sequence[Mapping[str, Any]]) -> Iterator[Goal]:
    """A verdict for each bar that these cases are about, in their order."""
    measured = {_key(record): record["contestants"] for record in records}
    for case in cases:
        found = measured.get((str(case.shape), case.direction, case.dtype, case.mask), {})
        own = found.get(OURS, {}).get("median")
        if VISIBLE in case.contestants:
            yield _masked(case, own, found.get(VISIBLE, {}).get("median"))
            continue
        yield _beside_peers(case, own, found)
        _, T, *rest = case.shape.sizes
        if case.direction == "forward" and tuple(rest) == WAN and T <= 64:
            text = f"{case.label}: at most {1000 * WAN_SECONDS:.2f} ms"
            met = None if own is None else own <= WAN_SECONDS
            yield Goal(met, text if own is None else f"{text}, {1000 * own:.3f} measured")


def _key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    shape = str(shape_of(record["shape"]))
    return shape, record["direction"], record["dtype"], record["mask"]


def _masked(case: DeviceCase, own: float | None, alone: float | None) -> Goal:
    text = f"{case.label}: at most {MASKED} times {VISIBLE}"
    if own is None or alone is None:
        return Goal(None, text)
    return Goal(own <= MASKED * alone, f"{text}, {own / alone:.2f} measured")


def _beside_peers(case: DeviceCase, own: float | None, found: Mapping[str, Any]) -> Goal:
    few = case.shape.T <= FEW and case.shape.S >= LONG and case.direction == "backward"
    bar = FEW_QUERIES if few else BEST_PEER
    text = f"{case.label}: at least {bar} of the best peer's speed"
    peers = {
        name: one["median"]
        for name, one in found.items()
        if "median" in one and not name.startswith(OURS)
    }
    if own is None or not peers:
        return Goal(None, text)
    best = min(peers, key=peers.__getitem__)
    return Goal(peers[best] / own >= bar, f"{text}, {peers[best] / own:.2f} measured ({best})")
