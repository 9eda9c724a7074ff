"""From raw times to medians, ratios and geometric means; their tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossattn.report.render.blocks import DASH, Table
from crossattn.train.utilization import peak_flops

from .cases import Case, shape_of
from .ceilings import Ceilings

# One query: what its call costs outside of the products weighs more than the products.
NOT_IN_MEANS = ("decode",)


def summarise(case: Case, result: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a case for results.json: the case, raw times, medians, quartiles, ratios.

    A ratio is the median of the ratios within a round, so that a change of the machine's speed
    between rounds does not matter.
    """
    found = {}
    for name, contestant in result["contestants"].items():
        found[name] = dict(contestant)
        if "reason" in contestant:
            continue
        found[name]["median"], *found[name]["quartiles"] = _middle(contestant["seconds"])
        reference = case.reference(name)
        if (against := ratio(result["contestants"], name, reference)) is not None:
            found[name]["beside"] = reference
            found[name]["ratio"], *found[name]["ratio_quartiles"] = against
        if "call_seconds" in contestant:
            found[name]["call_median"] = _middle(contestant["call_seconds"])[0]
        if contestant.get("work") and "ceilings" in result:
            median, work = found[name]["median"], tuple(contestant["work"])
            ceilings = Ceilings(**result["ceilings"])
            found[name]["flops_per_second"] = work[0] / median
            found[name]["ceiling_share"] = ceilings.share(work, median)
            if peak := peak_flops(ceilings.kind):
                found[name]["mfu"] = work[0] / median / peak
    fields = dataclasses.asdict(case)
    del fields["contestants"], fields["beside"]
    return {**fields, "title": case.title, "unit": case.unit, **result, "contestants": found}


def ratio(contestants: Mapping[str, Any], name: str, other: str) -> list[float] | None:
    """Median and quartiles of name's time / other's, round by round; None where one has none.

    >>> ratio({"a": {"seconds": [2.0, 9.0]}, "b": {"seconds": [1.0, 3.0]}}, "a", "b")
    [2.5, 2.25, 2.75]
    """
    pair = [contestants.get(n, {}).get("seconds") for n in (name, other)]
    return _middle(np.divide(*pair)) if all(pair) else None


def _middle(values: Any) -> list[float]:
    return [float(x) for x in np.quantile(values, [0.5, 0.25, 0.75])]


def geometric_means(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each contestant: geometric mean over the shapes but decode.

    Of a peer that XLA compiles, peer / ours; of torch, ours / torch.
    """
    ours = next(iter(records[0]["contestants"]))
    lines = []
    for name in records[0]["contestants"]:
        ratios = [
            record["contestants"][name].get("ratio")
            for record in records
            if record["shape"]["name"] not in NOT_IN_MEANS
        ]
        logs = np.log([r for r in ratios if r is not None])
        if name == ours or not len(logs):
            continue
        mean = float(np.exp(logs.mean()))
        text = (
            f"{ours} / {name} {1 / mean:.2f}" if name == "torch" else f"{name} / {ours} {mean:.2f}"
        )
        lines.append(f"{text} ({len(logs)} shape{'s' * (len(logs) > 1)})")
    return lines


def overview(records: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each shape: our time, and what multiple of it the others take."""
    ours, *others = records[0]["contestants"]
    has_choice = any("chosen" in record["contestants"][ours] for record in records)
    header = ["shape B,T,S,H,D", *["chosen"] * has_choice, f"{ours}, ms", *others]
    rows = []
    for record in records:
        first = record["contestants"][ours]
        cells = [str(shape_of(record["shape"])), *[first.get("chosen", DASH)] * has_choice]
        cells.append(_milliseconds(first.get("median")))
        cells += [_times(record["contestants"][name].get("ratio")) for name in others]
        rows.append(cells)
    return header, rows


def details(record: Mapping[str, Any]) -> Table:
    """A row for each contestant of one case: all that was measured."""
    contestants, also = record["contestants"], record["also"]
    # A number of keys is the name of a contestant that is timed by the key.
    by_key = record["unit"] == "key"
    header = ["keys", "ns a key"] if by_key else ["contestant", f"ms a {record['unit']}"]
    more = {
        key: title for key, title in MORE.items() if any(key in c for c in contestants.values())
    }
    if "call_median" in more:
        header[1] = "ms inside a program"
    header += ["quartiles", *more.values(), "beside", "ratio", "quartiles"]
    header += [f"to {also}"] if also else []
    header += ["temporary MiB", "error"]
    rows = []
    for name, found in contestants.items():
        if "reason" in found:
            rows.append([name, *[DASH] * (len(header) - 1)])
            continue
        scale = 1e6 if by_key else 1.0
        times = [_milliseconds(scale * x) for x in (found["median"], *found["quartiles"])]
        cells = [name, times[0], f"{times[1]} to {times[2]}"]
        cells += [_SHOWN.get(key, _times)(found.get(key)) for key in more]
        quartiles = [_times(x) for x in found.get("ratio_quartiles", ())]
        cells += [found.get("beside", DASH), _times(found.get("ratio"))]
        cells.append(" to ".join(quartiles) or DASH)
        if also:
            against = ratio(contestants, name, also)
            cells.append(_times(against[0] if against else None))
        cells += [_mebibytes(found["temporary_bytes"]), _error(found["error"])]
        rows.append(cells)
    return header, rows


def reasons(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who did not take part, and why; a line for each reason, with the shapes it is about."""
    lines: dict[str, list[str]] = {}
    for record in records:
        for name, found in record["contestants"].items():
            if "reason" in found:
                lines.setdefault(f"{name}: {found['reason']}", []).append(record["shape"]["name"])
    return [
        line if len(shapes) == len(records) > 1 else f"{line} [{', '.join(dict.fromkeys(shapes))}]"
        for line, shapes in lines.items()
    ]


def _milliseconds(seconds: float | None) -> str:
    """Three digits or more, in ms.

    >>> _milliseconds(0.0012345), _milliseconds(0.12345), _milliseconds(12.345), _milliseconds(None)
    ('1.23', '123', '12,345', '-')
    >>> _milliseconds(0.0000512)
    '0.051'
    """
    if seconds is None:
        return DASH
    ms = 1000 * seconds
    return f"{ms:,.{3 if ms < 1 else 2 if ms < 10 else 1 if ms < 100 else 0}f}"


def _teraflops(value: float | None) -> str:
    return DASH if value is None else f"{value / 1e12:.3g}"


def _mebibytes(count: int | None) -> str:
    """Bytes in MiB.

    >>> _mebibytes(3 * 2**20), _mebibytes(None)
    ('3.0', '-')
    """
    return DASH if count is None else f"{count / 2**20:,.1f}"


def _times(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def _error(value: float | None) -> str:
    return DASH if value is None else f"{value:.0e}"


# Columns of what only some benchmarks measure.
MORE = {
    "call_median": "ms a plain call",
    "flops_per_second": "TFLOP/s",
    "mfu": "MFU",
    "ceiling_share": "of the ceiling",
}
_SHOWN = {"call_median": _milliseconds, "flops_per_second": _teraflops}
