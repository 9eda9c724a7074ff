"""The main tables of a report, and what the terminal shows of them.

`results` is the content of results.json: {suite, primary, runs, comparisons, chance, environment}.
A table is a pair (header, rows) of strings; a dash stands where a variant has no such number.
"""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crossattn.align.measures import FAMILIES, MEASURES, metric_name
from crossattn.align.verdict import judge_use
from crossattn.report.render.blocks import DASH, Table
from crossattn.report.render.escaping import plain_names
from crossattn.report.render.terminal import terminal_table
from crossattn.report.results.completeness import banner, conclusive, missing_runs
from crossattn.report.results.runs import (
    Results,
    chance_of,
    metric_values,
    metrics_in,
    place_of,
    references_of,
    variants_of,
)
from crossattn.report.stats.claims import Verdict, judge_claims
from crossattn.report.stats.comparisons import shown_equivalent, winner_of
from crossattn.report.stats.paired import FEWEST_SEEDS
from crossattn.report.stats.ranges import lower_is_better
from crossattn.report.tables.cells import (
    baseline_of,
    format_of,
    on_primary,
    p_value,
    p_value_of,
    plain_mean,
    signed_interval,
    student_limits,
    with_interval,
)
from crossattn.shapes import Float

# What is timed and counted: the head of its column, and the factor to its unit.
COSTS: dict[str, tuple[str, float]] = {
    "parameters": ("parameters", 1),
    "step_flops": ("GFLOP of a step", 1e-9),
    "step_seconds": ("step [ms]", 1e3),
    "teraflops": ("TFLOP/s", 1),
    "mfu": ("MFU", 1),
    "seeds_together": ("seeds in a program", 1),
}
Comparisons = Sequence[Mapping[str, Any]]
INTACT = "knockout/intact"


def terminal_report(results: Results) -> str:
    """What a suite prints when it ends, within 120 columns: two tables, and its banner, if any."""
    results = plain_names(results)
    shown = [terminal_table(table(results)) for table in (main_table, alignment_table)]
    return "\n\n".join([*(textwrap.fill(text, 110) for text in banner(results)), *shown])


def main_table(results: Results) -> Table:
    """Cost, primary metric with its 95 % interval, and corrected difference to the baseline."""
    primary = results["primary"]
    header = ["variant", "parameters", "step", f"{primary} [95 %]"]
    header += ["difference [corrected]", "Holm p"]
    baseline = baseline_of(results)
    rows = []
    for variant in variants_of(results["runs"]):
        timings = _timings(results).get(variant, {})
        cells = [variant, _parameters(timings), _step(timings)]
        cells.append(with_interval(metric_values(results["runs"], variant, primary), primary))
        found = _against(results, variant, baseline)
        if found is None:
            cells += ["baseline" if variant == baseline else DASH, DASH]
        else:
            cells += [signed_interval(found), p_value_of(found)]
        rows.append(cells)
    return header, rows


def alignment_table(results: Results) -> Table:
    """The headline of every measure that has one, and whether attention is used.

    Attention stands beside its chance level. A measure that no variant has is left out.
    """
    runs, there = results["runs"], {metric.name for metric in metrics_in(results)}
    columns = {
        name: (measure, column)
        for family in FAMILIES
        for measure in MEASURES.values()
        if measure.family == family
        for place, column in measure.headline.items()
        if (name := metric_name(measure, place_of(runs) if place == "*" else place)) in there
    }
    levels = {
        name: chance_of(results["chance"], name) if measure.family == "attention" else None
        for name, (measure, _) in columns.items()
    }
    rows = []
    for some in (references_of(results), runs):
        for variant in variants_of(some):
            row = [variant]
            for name, level in levels.items():
                mean = plain_mean(metric_values(some, variant, name), name)
                beside = "" if level is None or mean == DASH else f" ({level:{format_of(name)}})"
                row.append(mean + beside)
            rows.append([*row, attention_verdict({**results, "runs": some}, variant)])
    header = [
        column + ("" if levels[name] is None else " (chance)")
        for name, (_, column) in columns.items()
    ]
    return ["variant", *header, "verdict"], rows


def attention_verdict(results: Results, variant: str) -> str:
    """`verdict_on_use` in intervals over seeds; how few seeds there are where they are under three.

    A dash where something is missing.
    """
    runs = results["runs"]
    pointing = metric_values(runs, variant, f"pointing/{place_of(runs)}")
    found = verdict_on_use(lambda metric: metric_values(runs, variant, metric), results)
    few = found != DASH and len(pointing) < FEWEST_SEEDS
    return ("one seed", "two seeds")[len(pointing) - 1] if few else found


def verdict_on_use(values: Callable[[str], Float[np.ndarray, " n"]], results: Results) -> str:
    """Whether a model attends to the truth, and whether its answers depend on it: `judge_use`.

    It attends if pointing at answers (`place_of`) exceeds chance, and uses what it attends to if
    taking the true region away costs more accuracy than taking an equal random region, in 95 %
    intervals (Student's). A model that even with the whole picture is right less often than chance
    does not answer such questions: it has nothing to lose, which says nothing of what it uses. A
    dash where something is missing.

    Args:
        values: of a metric, what intervals are over: seeds, or single answers.
        results: with the levels of chance, and runs, which say where pointing is read.
    """
    place = f"pointing/{place_of(results['runs'])}"
    pointing, intact = values(place), values(INTACT)
    truth, random = (values(f"knockout/{x}") for x in ("truth", "random"))
    chance, level = (chance_of(results["chance"], metric) for metric in (place, INTACT))
    if not len(pointing) or not len(truth) or not len(random) or chance is None:
        return DASH
    found = judge_use(student_limits(pointing - chance), student_limits(random - truth))
    unanswered = level is not None and len(intact) > 0 and student_limits(intact)[1] < level
    return "inconclusive" if unanswered and found == "attends but does not use" else found


def comparison_table(results: Results) -> Table:
    """Every comparison with its corrected interval, p-values and the better variant, if any.

    Results that allow no conclusion have one that is ahead instead.
    """
    header = ["comparison", "difference", "level", "p", "Holm p", "sign-flip p"]
    header += ["P(improvement)", "better" if conclusive(results) else "ahead (no conclusion)"]
    margin = next((found["margin"] for found in on_primary(results) if "margin" in found), None)
    rows = [
        [
            f"{found['variant']} minus {found['baseline']}{_other(found['metric'], results)}",
            signed_interval(found),
            DASH if found["low"] is None else f"{100 * found['confidence']:.2f} %",
            p_value_of(found, "p"),
            p_value_of(found),
            p_value_of(found, "p_sign_flip"),
            f"{found['probability_of_improvement']:.2f}",
            winner_of(found) or "not decided",
            *_equivalent(found, margin),
        ]
        for found in results["comparisons"]
    ]
    return [*header, *([f"within {margin:g}"] if margin else [])], rows


def _equivalent(found: Mapping[str, Any], margin: float | None) -> list[str]:
    """A cell on equivalence, where a margin was declared."""
    if not margin:
        return []
    if found["low"] is None or "margin" not in found:
        return [DASH]
    shown = "shown" if shown_equivalent(found) else "not shown"
    return [f"{shown} (p {p_value(found['p_equivalent'])})"]


def cost_table(results: Results) -> Table:
    """What was timed and counted of each variant, the time of a step beside its arithmetic."""
    timings = _timings(results)
    there = dict.fromkeys(name for timing in timings.values() for name in timing)
    names = [*(name for name in COSTS if name in there), *(n for n in there if n not in COSTS)]
    rows = [
        [variant, *(_amount(name, timing[name]) if name in timing else DASH for name in names)]
        for variant, timing in timings.items()
    ]
    return ["variant", *(COSTS.get(name, (name, 1))[0] for name in names)], rows


def verdicts_on(claims: Sequence[Sequence[str]], results: Results) -> list[Verdict]:
    """What the results say of each claim; it is open until all of its runs are there."""
    unfinished = bool(missing_runs(results))
    return judge_claims(claims, results["comparisons"], unfinished=unfinished)


def claim_table(claims: Sequence[Sequence[str]], results: Results) -> Table:
    """The verdict on every claim, its difference with the corrected interval, and its p-value.

    A lower perplexity, loss or cost is the better one: such a claim reads "a < b".
    """
    verdict_of = "verdict" if conclusive(results) else "verdict (no conclusion)"
    rows = [
        [
            _claimed(verdict, results),
            verdict.verdict,
            signed_interval(dataclasses.asdict(verdict)),
            p_value_of(dataclasses.asdict(verdict)),
        ]
        for verdict in verdicts_on(claims, results)
    ]
    return ["claim", verdict_of, "difference [corrected]", "Holm p"], rows


def _claimed(verdict: Verdict, results: Results) -> str:
    sign = "<" if lower_is_better(verdict.metric or results["primary"]) else ">"
    return f"{verdict.better} {sign} {verdict.worse}{_other(verdict.metric, results)}"


def _other(metric: str, results: Results) -> str:
    """Names a metric that is not the primary one."""
    return "" if metric in ("", results["primary"]) else f" ({metric})"


def _against(results, variant, baseline):
    for found in results["comparisons"]:
        if (found["variant"], found["baseline"]) == (variant, baseline):
            return found
    return None


def _timings(results):
    return results["environment"].get("timings", {})


def _parameters(timings):
    return f"{timings['parameters']:,}" if "parameters" in timings else DASH


def _step(timings):
    return f"{1000 * timings['step_seconds']:.1f} ms" if "step_seconds" in timings else DASH


def _amount(name, value):
    value = value * COSTS.get(name, (name, 1))[1]
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"
