"""The first paragraph of a report: what was established, and what was not."""

from collections.abc import Mapping
from typing import Any

from crossattn.align.measures import find_metric
from crossattn.report.render.markdown import code, markdown_text
from crossattn.report.results.completeness import conclusive, missing_runs
from crossattn.report.results.counts import count
from crossattn.report.results.runs import Results, metric_values, variants_of
from crossattn.report.stats.comparisons import shown_equivalent, winner_of
from crossattn.report.stats.paired import FEWEST_SEEDS
from crossattn.report.stats.ranges import lower_is_better
from crossattn.report.tables.cells import baseline_of, on_primary, signed_interval, with_interval


def opening_paragraph(results: Results) -> str:
    """Markdown with a line for each comparison; it names no winner beyond what they allow.

    Results that allow no conclusion (a quick run, missing runs) say who is ahead, and nothing of
    better or worse.
    """
    runs, primary, baseline = results["runs"], results["primary"], baseline_of(results)
    variants = variants_of(runs)
    seeds = len({run["seed"] for run in runs})
    missing = len(missing_runs(results))
    said = f"{count(len(variants), 'variant')}, {count(seeds, 'seed')} each"
    if missing:
        said = f"{len(runs)} of {len(runs) + missing} runs finished"
    better = " (lower is better)" if lower_is_better(primary) else ""
    text = [f"{said}; primary metric {code(primary)}{_place(results)}{better}."]
    if baseline is None and missing:
        later = "Variants are compared when the baseline and they have all their seeds."
        return " ".join([*text, later])
    if baseline is None:
        return " ".join([*text, "There is one variant, so there is nothing to compare."])
    reached = with_interval(metric_values(runs, baseline, primary), primary)
    text.append(f"The baseline **{markdown_text(baseline)}** reaches {reached}.")
    if seeds < FEWEST_SEEDS:
        few = "One seed allows" if seeds == 1 else "Two seeds allow"
        return " ".join([*text, f"{few} no claim: no winner is named."])
    text.append("Brackets hold 95 % intervals, those of differences corrected for their number.")
    decided = [
        _sentence(found, winner, conclusive(results))
        for found in on_primary(results)
        if (winner := winner_of(found))
    ]
    undecided = [
        _undecided(found, conclusive(results))
        for found in on_primary(results)
        if not winner_of(found)
    ]
    return "\n".join([" ".join(text), "", *(f"- {line}" for line in (*decided, *undecided))])


def _place(results: Results) -> str:
    """On which part of the data the primary metric is, where the report tells of parts."""
    found = find_metric(results["primary"])
    if found is None or found.where not in results.get("data", {}).get("parts", {}):
        return ""
    return f", the {found.measure.words} on the split {markdown_text(found.where)} (see Data)"


def _sentence(found: Mapping[str, Any], better: str, concluded: bool) -> str:
    worse = found["baseline"] if better == found["variant"] else found["variant"]
    size = abs(found["difference"])
    low, high = sorted(abs(found[name]) for name in ("low", "high"))
    pair = f"**{markdown_text(better)}**", f"**{markdown_text(worse)}**"
    by = f"by {size:.3f} [{low:.3f}, {high:.3f}]"
    if concluded:
        return f"{pair[0]} is better than {pair[1]} {by}."
    return f"{pair[0]} is ahead of {pair[1]} {by}: no conclusion."


def _undecided(found: Mapping[str, Any], concluded: bool) -> str:
    pair = f"{markdown_text(found['variant'])} and {markdown_text(found['baseline'])}"
    equal = concluded and shown_equivalent(found)
    same = f"; they are equal within {found['margin']:g}" if equal else ""
    return f"No winner is named between {pair}: {signed_interval(found)}{same}."
