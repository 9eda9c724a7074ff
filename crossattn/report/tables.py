"""The main tables of a report, and what the terminal shows of them.

`results` is the content of results.json: {suite, primary, runs, comparisons, chance, environment}.
A table is a pair (header, rows) of strings; a dash stands where a variant has no such number.
"""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossattn.report.banner import banner, conclusive
from crossattn.report.comparisons import judge, winner_of
from crossattn.report.escaping import plain_names
from crossattn.report.grids import DASH, Table, markdown, plain
from crossattn.report.ranges import lower_is_better
from crossattn.report.runs import (
    chance_of,
    mean_with_interval,
    metric_values,
    place_of,
    variants_of,
)
from crossattn.report.statistics import ALPHA, FEWEST_SEEDS, t_interval
from crossattn.shapes import Float

__all__ = [
    "DASH",
    "Table",
    "alignment_table",
    "baseline_of",
    "claim_table",
    "comparison_table",
    "cost_table",
    "main_table",
    "markdown",
    "metrics_of",
    "plain",
    "reading",
    "signed_interval",
    "terminal",
    "with_interval",
]

Results = Mapping[str, Any]
Comparisons = Sequence[Mapping[str, Any]]


def terminal(results: Results) -> str:
    """What a suite prints when it ends, within 120 columns: two tables, and its banner, if any."""
    results = plain_names(results)
    shown = [plain(table(results)) for table in (main_table, alignment_table)]
    return "\n\n".join([*(textwrap.fill(text, 110) for text in banner(results)), *shown])


def baseline_of(results: Results) -> str | None:
    """The baseline: the first comparison is made with it; None where nothing was compared."""
    comparisons = results["comparisons"]
    return comparisons[0]["baseline"] if comparisons else None


def metrics_of(results: Results, families: Sequence[str], *, without: bool = False) -> list[str]:
    """Names of the metrics whose first part is (or is not: `without`) one of `families`.

    Example:
        >>> runs = [{"metrics": {"iid/accuracy": 1.0, "mass/answer": 0.5}}]
        >>> metrics_of({"runs": runs}, ["mass"]), metrics_of({"runs": runs}, ["mass"], without=True)
        (['mass/answer'], ['iid/accuracy'])
    """
    names = dict.fromkeys(name for run in results["runs"] for name in run["metrics"])
    return [name for name in names if (name.split("/")[0] in families) != without]


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
            cells += [signed_interval(found), p_value(found["p_holm"])]
        rows.append(cells)
    return header, rows


def alignment_table(results: Results) -> Table:
    """Pointing beside chance, knock-outs, captions, and whether attention is used.

    The share of the attention that falls on the image has a column where any variant's attention
    may also fall on something else.
    """
    shared = metrics_of(results, ["image_mass"])
    columns = {
        **({"image mass": f"image_mass/{place_of(results['runs'])}"} if shared else {}),
        "intact": "knockout/intact",
        "no truth": "knockout/truth",
        "no random": "knockout/random",
        "caption slots": "caption/slot_accuracy",
    }
    header = ["variant", "pointing (chance)", *columns, "attention"]
    rows = []
    for variant in variants_of(results["runs"]):
        name = f"pointing/{place_of(results['runs'])}"
        pointing = _plain_mean(metric_values(results["runs"], variant, name))
        chance = chance_of(results["chance"], name)
        if pointing != DASH and chance is not None:
            pointing += f" ({chance:.3f})"
        values = [metric_values(results["runs"], variant, name) for name in columns.values()]
        rows.append([variant, pointing, *map(_plain_mean, values), reading(results, variant)])
    return header, rows


def reading(results: Results, variant: str) -> str:
    """Whether a variant attends to the truth, and whether its answers depend on it.

    It attends if pointing at answers (`place_of`) exceeds chance, and uses what it attends to if
    taking the true region away costs more accuracy than taking an equal random region: in both
    cases the 95 % interval over seeds has to lie above 0. A dash where something is missing.
    """
    runs = results["runs"]
    place = f"pointing/{place_of(results['runs'])}"
    pointing = metric_values(runs, variant, place)
    truth, random = (metric_values(runs, variant, f"knockout/{x}") for x in ("truth", "random"))
    chance = chance_of(results["chance"], place)
    if not len(pointing) or not len(truth) or not len(random) or chance is None:
        return DASH
    if len(pointing) < FEWEST_SEEDS:
        return ("one seed", "two seeds")[len(pointing) - 1]
    attends = bool(t_interval(pointing - chance)[0] > 0)
    uses = bool(t_interval(random - truth)[0] > 0)
    return {
        (True, True): "attends and uses",
        (True, False): "attends, does not use",
        (False, True): "uses, does not attend",
        (False, False): "neither",
    }[attends, uses]


def comparison_table(results: Results) -> Table:
    """Every comparison with its corrected interval, p-values and the better variant, if any.

    Results that allow no conclusion have one that is ahead instead.
    """
    header = ["comparison", "difference", "level", "p", "Holm p", "sign-flip p"]
    header += ["P(improvement)", "better" if conclusive(results) else "ahead (no conclusion)"]
    rows = [
        [
            f"{found['variant']} minus {found['baseline']}",
            signed_interval(found),
            f"{100 * found['confidence']:.2f} %",
            p_value(found["p"]),
            p_value(found["p_holm"]),
            p_value(found["p_sign_flip"]),
            f"{found['probability_of_improvement']:.2f}",
            winner_of(found) or "not decided",
        ]
        for found in results["comparisons"]
    ]
    return header, rows


def cost_table(results: Results) -> Table:
    """All that was timed or counted of each variant."""
    timings = _timings(results)
    names = list(dict.fromkeys(name for timing in timings.values() for name in timing))
    rows = [
        [variant, *(_amount(timing[name]) if name in timing else DASH for name in names)]
        for variant, timing in timings.items()
    ]
    return ["variant", *names], rows


def claim_table(claims: Sequence[Sequence[str]], results: Results) -> Table:
    """The verdict on every claim, its difference with the corrected interval, and its p-value.

    A lower perplexity or loss is the better one: such a claim reads "a < b".
    """
    sign = "<" if lower_is_better(results["primary"]) else ">"
    verdict_of = "verdict" if conclusive(results) else "verdict (no conclusion)"
    rows = [
        [
            f"{verdict.better} {sign} {verdict.worse}",
            verdict.verdict,
            signed_interval(dataclasses.asdict(verdict)),
            p_value(verdict.p_holm),
        ]
        for verdict in judge(claims, results["comparisons"])
    ]
    return ["claim", verdict_of, "difference [corrected]", "Holm p"], rows


def signed_interval(found: Mapping[str, Any]) -> str:
    """Difference with its interval, as in "+0.120 [+0.080, +0.160]".

    Example:
        >>> signed_interval({"difference": 0.1, "low": None, "high": None})
        '+0.100'
    """
    if found["low"] is None:
        return f"{found['difference']:+.3f}"
    return f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def p_value(p: float | None) -> str:
    """A p-value with three digits, or four where three would put it on the other side of ALPHA.

    Example:
        >>> p_value(0.0321), p_value(0.04996), p_value(0.0001), p_value(None)
        ('0.032', '0.0499', '<0.001', '-')
    """
    if p is None:
        return DASH
    if p < 0.001:
        return "<0.001"
    # Cut, not rounded: 0.04999 is below 0.05 however many digits are shown.
    return f"{int(1e4 * p) / 1e4:.4f}" if round(p, 3) == ALPHA > p else f"{p:.3f}"


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


def with_interval(values: Float[np.ndarray, " seeds"], metric: str = "") -> str:
    """Mean over seeds with its interval, as tables print it; a dash without values.

    Example:
        >>> with_interval(np.array([0.98, 1.0, 1.0])), with_interval(np.array([0.8, 0.8]))
        ('0.993 [0.965, 1.000]', '0.800')
    """
    if not len(values):
        return DASH
    mean, low, high = mean_with_interval(values, metric)
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _plain_mean(values):
    return f"{values.mean():.3f}" if len(values) else DASH


def _amount(value):
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
