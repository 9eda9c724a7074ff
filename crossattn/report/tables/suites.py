"""Tables of several suites: the content of results.json by the name of a suite."""

from collections.abc import Mapping

import numpy as np

from crossattn.fields import flat
from crossattn.report.render.blocks import DASH, Table
from crossattn.report.results.completeness import conclusive
from crossattn.report.results.runs import Results, metric_values, variants_of
from crossattn.report.results.settings import in_figures
from crossattn.report.stats.aggregate import iqm_with_limits, probability_of_improvement
from crossattn.report.stats.comparisons import winner_of
from crossattn.report.stats.power import resolution
from crossattn.report.tables.cells import baseline_of, on_primary, with_interval, with_limits
from crossattn.report.tables.main import claim_table
from crossattn.shapes import Float

Suites = Mapping[str, Results]


def suites_table(suites: Suites) -> Table:
    """A row for each suite: what it asked, and what came of it."""
    header = ["suite", "what it asks", "judged by", "baseline", "better", "worse", "not decided"]
    return [*header, "claims"], [[name, *_found(results)] for name, results in suites.items()]


def _found(results: Results) -> list[str]:
    baseline = results.get("baseline") or baseline_of(results)
    asked = [results.get("title") or DASH, results["primary"], baseline or DASH]
    return [*asked, *_decided(results, baseline), _verdicts(results)]


def effort_table(suites: Suites) -> Table:
    """A row for each suite: how much ran, what that can resolve, on what, how long."""
    header = ["suite", "variants", "seeds", "resolves", "training [min]", "device", "date"]
    return header, [[name, *_effort(results)] for name, results in suites.items()]


def _effort(results: Results) -> list[str]:
    runs, environment = results["runs"], results["environment"]
    seeds = sorted({sum(run["variant"] == name for run in runs) for name in variants_of(runs)})
    found = resolution(results["comparisons"])
    return [
        str(len(variants_of(runs))),
        " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))),
        f"{found.difference:.3f}" if found else DASH,
        _minutes(results),
        environment.get("device") or DASH,
        environment.get("date") or DASH,
    ]


def _decided(results: Results, baseline: str | None) -> list[str]:
    """Variants better than the baseline, worse ones, and those of which neither is shown."""
    if not conclusive(results):
        return ["no conclusion"] * 3
    sides: dict[str, list[str]] = {"better": [], "worse": [], "neither": []}
    for found in on_primary(results):
        if found["baseline"] == baseline:
            won = winner_of(found)
            side = "neither" if won is None else "worse" if won == baseline else "better"
            sides[side].append(found["variant"])
    return [", ".join(names) or "none" for names in sides.values()]


def _verdicts(results: Results) -> str:
    claims = results.get("claims")
    if not claims:
        return DASH
    said = [row[1] for row in claim_table(claims, results)[1]]
    told = ", ".join(f"{said.count(one)} {one}" for one in dict.fromkeys(said))
    return told if conclusive(results) else f"{told} (no conclusion)"


def _minutes(results: Results) -> str:
    """Minutes of training steps of all runs, as far as their pace is known."""
    timings, total = results["environment"].get("timings", {}), 0.0
    for run in results["runs"]:
        pace = timings.get(run["variant"], {}).get("step_seconds")
        steps = results.get("settings", {}).get(run["variant"], {}).get("steps")
        if pace is None or steps is None:
            return DASH
        total += pace * steps
    return f"{total / 60:.1f}"


def claims_of_suites(suites: Suites) -> Table:
    """The verdict on every claim of every suite; results of older versions keep no claims."""
    header = ["suite", "claim", "verdict", "difference [corrected]", "Holm p"]
    rows = []
    for name, results in suites.items():
        open_ = "" if conclusive(results) else " (no conclusion)"
        for claim, verdict, *rest in claim_table(results.get("claims") or [], results)[1]:
            rows.append([name, claim, verdict + open_, *rest])
    return header, rows


def variants_measured(results: Results, metric: str | None) -> list[str]:
    """Variants that have a metric, the primary one if none is named."""
    runs, metric = results["runs"], metric or results["primary"]
    return [name for name in variants_of(runs) if len(metric_values(runs, name, metric))]


def values_table(suites: Suites, metric: str | None) -> Table:
    """Variants that two suites or more have: a row each, a column for each suite."""
    measured = {name: variants_measured(results, metric) for name, results in suites.items()}
    every = dict.fromkeys(variant for own in measured.values() for variant in own)
    several = [name for name in every if sum(name in own for own in measured.values()) > 1]
    header = ["variant"]
    header += [f"{name}: {metric or suites[name]['primary']} [95 %]" for name in suites]
    rows = [
        [variant, *(_value(results, variant, metric) for results in suites.values())]
        for variant in several
    ]
    return header, rows


def _value(results: Results, variant: str, metric: str | None) -> str:
    metric = metric or results["primary"]
    return with_interval(metric_values(results["runs"], variant, metric), metric)


def differing_table(suites: Suites) -> Table:
    """Settings in which the suites differ alike in every variant that all of them have."""
    settings = {name: results.get("settings", {}) for name, results in suites.items()}
    first, *others = settings.values()
    common = [variant for variant in first if all(variant in other for other in others)]
    known = [[flat(own[variant]) for own in settings.values()] for variant in common]
    fields = dict.fromkeys(field for row in known for own in row for field in own)
    rows = []
    for field in fields:
        values = [[in_figures(own.get(field), field) for own in row] for row in known]
        if all(row == values[0] for row in values) and len(set(values[0])) > 1:
            rows.append([field, *values[0]])
    return ["setting", *suites], rows


def iqm_of_suites(scores: Mapping[str, Float[np.ndarray, "seeds tasks"]], against: str) -> Table:
    """Interquartile mean of each variant, and its probability to beat one of them."""
    header = ["variant", "interquartile mean [95 %]", f"P(better than {against})"]
    improvement = lambda own: probability_of_improvement(own, scores[against])
    rows = [
        [
            variant,
            with_limits(*iqm_with_limits(own)),
            DASH if variant == against else f"{improvement(own):.2f}",
        ]
        for variant, own in scores.items()
    ]
    return header, rows
