"""results.json: what a suite asked for, with which settings, and what came of it."""

import dataclasses
import itertools
import json
import time
from collections.abc import Mapping
from typing import Any

from crossattn.align.measures import MEASURES, find_metric
from crossattn.files import write_atomically
from crossattn.launch.meanings import setting_meanings
from crossattn.report.stats.comparisons import compare_variants
from crossattn.train.finished import Finished
from crossattn.train.folder import Folder, FolderError
from crossattn.train.record import processor
from crossattn.train.run import replace
from crossattn.train.suite import Suite


def asked(whole: Suite, suite: Suite, *, seeds: int, quick: bool) -> dict[str, Any]:
    """What the command asked for, by which the report tells whether it is the whole suite."""
    return {
        "quick": quick,
        "seeds": seeds,
        "variants": list(suite.variants),
        "suite": list(whole.variants),
    }


def _settings(suite: Suite, finished: Finished) -> dict[str, Any]:
    """The settings of each variant as it ran, with the learning rate that a sweep chose."""
    settings = {}
    for variant in suite.variants:
        run = suite.run(variant)
        if variant in finished.sweep:
            rate = finished.sweep[variant]["learning_rate"]
            run = replace(run, {"optimizer.learning_rate": rate})
        settings[variant] = dataclasses.asdict(run)
    return settings


def _device(now: str, measured: list[str]) -> str:
    """What this command used, unless runs of an earlier one used something else.

    Example:
      >>> _device("2 x cpu", ["cpu"]), _device("2 x cpu", ["NVIDIA H200", "cpu"])
      ('2 x cpu', 'NVIDIA H200 and cpu')
    """
    return now if all(kind in now for kind in measured) else " and ".join(measured)


def _comparisons(suite: Suite, finished: Finished, *, seeds: int) -> list[dict[str, Any]]:
    """Of the variants that have all their seeds; none before the baseline has them."""
    ran = [run["variant"] for run in finished.runs]
    whole = [name for name in suite.variants if ran.count(name) == seeds]
    if suite.baseline not in whole:
        return []
    return compare_variants(
        [run for run in finished.runs if run["variant"] in whole],
        finished.items,
        primary=suite.primary,
        baseline=suite.baseline,
        claims=[claim for claim in suite.claims if {*claim[:2]} <= {*whole}],
        equivalence=suite.equivalence,
    )


def write_results(
    suite: Suite,
    folder: Folder,
    finished: Finished,
    device: str,
    seeds: str,
    wanted: dict[str, Any],
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write results.json: runs, comparisons, chance levels, settings, counts, environment.

    Runs may be missing, as in a report that is written while others run: what is compared are the
    variants that have all their seeds.

    Args:
      suite: with the variants that the report covers.
      folder: of the results.
      finished: what was read back from it.
      device: what the runs used.
      seeds: how seeds lay over the devices.
      wanted: what `asked` says of the command.
      data: what a `Dataset` says of itself, where a report should.
    """
    _check_metrics(folder, finished.runs)
    results: dict[str, Any] = {
        "suite": suite.name,
        "title": suite.title,
        "primary": suite.primary,
        "claims": suite.claims,
        "asked": wanted,
        "baseline": suite.baseline,
        **({} if data is None else {"data": {"source": suite.base.data.source, **data}}),
        "runs": finished.runs,
        "references": finished.references,
        "comparisons": _comparisons(suite, finished, seeds=wanted["seeds"]),
        "chance": finished.chance,
        "counts": finished.counts,
        "settings": _settings(suite, finished),
        "changes": {name: dict(changes) for name, changes in suite.variants.items()},
        "meanings": setting_meanings(suite),
        "learning_rate_sweep": finished.sweep,
        "environment": {
            "date": time.strftime("%Y-%m-%d"),
            "versions": finished.versions,
            "device": _device(device, finished.devices),
            "processor": " and ".join(finished.processors) or processor(),
            "threads": finished.threads,
            "seeds": seeds,
            "settings": dataclasses.asdict(suite.base),
            "timings": finished.timings,
        },
    }
    write_atomically(
        folder.path / "results.json",
        json.dumps(results, indent=1, allow_nan=False, default=dataclasses.asdict) + "\n",
    )
    return results


def _check_metrics(folder: Folder, runs: list[dict[str, Any]]) -> None:
    """Make sure that all seeds of a variant have the same metrics, or they would not be paired."""
    for variant in dict.fromkeys(run["variant"] for run in runs):
        own = {run["seed"]: run["metrics"].keys() for run in runs if run["variant"] == variant}
        every = set().union(*own.values())
        if lacking := [seed for seed, names in own.items() if every - names]:
            names = ", ".join(sorted(every - own[lacking[0]])[:3])
            where = " ".join(str(folder.run(variant, n) / "metrics.json") for n in lacking)
            raise FolderError(
                f"only some seeds of {variant} have {names}: a measure was registered between "
                f"runs; remove {where}, and the same command measures them again"
            )


def measured_before(suite: Suite, folder: Folder, seeds: int) -> list[str]:
    """What a command must say of measures that were registered after runs were measured.

    Those that read what such a run has: what it has, the measures of its metrics say.
    """
    lacking: dict[str, None] = {}
    count = 0
    for variant, seed in itertools.product(suite.variants, range(seeds)):
        if not folder.finished(variant, seed):
            continue
        record = json.loads((folder.run(variant, seed) / "metrics.json").read_text())
        measures = {found.measure for name in record["metrics"] if (found := find_metric(name))}
        read = {measure.reads for measure in measures}
        before = record.get("measures", MEASURES)
        late = [n for n, one in MEASURES.items() if n not in before and one.reads in read]
        lacking |= dict.fromkeys(late)
        count += bool(late)
    if not lacking:
        return []
    where = folder.path / "runs" / "*" / "seed*" / "metrics.json"
    return [
        f"{', '.join(lacking)}: registered after {count} run{'s were' if count > 1 else ' was'} "
        f"measured, so not among their metrics; remove {where}, and a next call measures them "
        "again without training"
    ]


def left_out(whole: Suite, suite: Suite) -> list[str]:
    """What a report of some variants must say of the others."""
    others = [variant for variant in whole.variants if variant not in suite.variants]
    if not others:
        return []
    return [
        f"This report covers {len(suite.variants)} of the suite's {len(whole.variants)} variants; "
        f"{', '.join(others)} {'was' if len(others) == 1 else 'were'} left out on request, and so "
        "were the claims about them."
    ]
