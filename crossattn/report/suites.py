"""What several suites found, side by side: a page of its own beside their reports."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from crossattn.report import prose_of_suites as prose
from crossattn.report.figures.profiles import performance_profiles
from crossattn.report.figures.style import png
from crossattn.report.render.blocks import (
    DASH,
    Banner,
    Block,
    FigureBlock,
    Heading,
    TableBlock,
    TextBlock,
)
from crossattn.report.render.escaping import plain_names
from crossattn.report.render.markdown import markdown_text
from crossattn.report.results.completeness import banner
from crossattn.report.results.counts import count
from crossattn.report.results.runs import Results, metric_values, scores_of_variants
from crossattn.report.results.settings import listed
from crossattn.report.stats.agreement import FEWEST_TO_RANK, concordance, ranking_agreement
from crossattn.report.stats.ranges import lower_is_better
from crossattn.report.tables import suites as tables
from crossattn.report.tables.cells import baseline_of, with_limits
from crossattn.shapes import Float

Suites = Mapping[str, Results]


def suite_blocks(suites: Suites, metric: str | None = None) -> list[Block]:
    """The page as blocks.

    Args:
      suites: the content of results.json by the name that the page gives a suite.
      metric: on which variants stand side by side; the primary one of each suite if none is given.
    """
    suites = plain_names(dict(suites))
    return [
        Heading(f"{count(len(suites), 'suite')} side by side", 1),
        *(
            Banner(f"{name}: {text}")
            for name, results in suites.items()
            for text in banner(results)
        ),
        TextBlock(prose.OPENING),
        Heading("Suites"),
        TableBlock("suites", prose.SUITES, tables.suites_table(suites)),
        TableBlock("effort", prose.EFFORT, tables.effort_table(suites)),
        *_claims(suites),
        *_side_by_side(suites, metric),
        *_rankings(suites, metric),
        *_profiles(suites, metric),
        Heading("Limits"),
        TextBlock(prose.LIMITS),
    ]


def _claims(suites: Suites) -> Iterator[Block]:
    table = tables.claims_of_suites(suites)
    if table[1]:
        yield Heading("Claims")
        yield TableBlock("claims", prose.CLAIMS, table)


def _side_by_side(suites: Suites, metric: str | None) -> Iterator[Block]:
    yield Heading("Variants side by side")
    table = tables.values_table(suites, metric)
    if not table[1]:
        yield TextBlock(prose.NOTHING_COMMON)
        return
    yield TableBlock("values", prose.VALUES, table)
    settings = tables.differing_table(suites)
    if settings[1]:
        yield TableBlock("settings", prose.SETTINGS, settings)


def _rankings(suites: Suites, metric: str | None) -> Iterator[Block]:
    """Whether variants rank alike in every two suites, and in all."""
    names, rows = list(suites), []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            common = common_variants({name: suites[name] for name in (first, second)}, metric)
            if len(common) >= FEWEST_TO_RANK:
                sides = [ranked(suites[name], common, metric) for name in (first, second)]
                found = ranking_agreement(*sides)
                values = [with_limits(*one) for one in (found.kendall, found.spearman)]
                rows.append([f"{first}, {second}", str(len(common)), *values])
    if not rows:
        return
    header = ["suites", "variants in all", "Kendall's tau [95 %]", "Spearman's rho [95 %]"]
    common = common_variants(suites, metric)
    if len(suites) > 2 and len(common) >= FEWEST_TO_RANK:
        together = concordance([ranked(results, common, metric) for results in suites.values()])
        header.append("Kendall's W [95 %]")
        rows = [[*row, DASH] for row in rows]
        last = [f"all {len(suites)}", str(len(common)), DASH, DASH, with_limits(*together)]
        rows.append(last)
    yield Heading("Do variants rank alike?")
    yield TableBlock("rankings", prose.RANKINGS, (header, rows))


def common_variants(suites: Suites, metric: str | None) -> list[str]:
    """Variants that every suite has, with the metric, in the order of the first.

    Example:
        >>> runs = [{"variant": name, "seed": 0, "metrics": {"x/y": 1.0}} for name in "ab"]
        >>> one, two = ({"primary": "x/y", "runs": own} for own in (runs, runs[1:]))
        >>> common_variants({"one": one, "two": two}, None)
        ['b']
    """
    first, *others = (tables.variants_measured(results, metric) for results in suites.values())
    return [variant for variant in first if all(variant in other for other in others)]


def ranked(
    results: Results, variants: Sequence[str], metric: str | None
) -> Float[np.ndarray, "seeds variants"]:
    """Values by seed and variant, larger ones better; of the seeds that all of them have."""
    metric = metric or results["primary"]
    columns = [metric_values(results["runs"], variant, metric) for variant in variants]
    sign = -1 if lower_is_better(metric) else 1
    return sign * np.stack([column[: min(map(len, columns))] for column in columns], axis=1)


def _profiles(suites: Suites, metric: str | None) -> Iterator[Block]:
    """Scores of all suites in one number and one curve, where chance is known."""
    common = common_variants(suites, metric)
    scored = {
        name: found
        for name, results in suites.items()
        if (found := scores_of_variants(results, common, metric or results["primary"]))
    }
    if not scored:
        return
    seeds = min(len(one) for own in scored.values() for one in own.values())
    scores = {
        variant: np.concatenate([own[variant][:seeds] for own in scored.values()], axis=1)
        for variant in common
    }
    tasks = scores[common[0]].shape[1]
    if tasks < 2:
        return
    yield Heading("All tasks in one number")
    left = [name for name in suites if name not in scored]
    said = prose.AGGREGATE.format(
        tasks=count(tasks, "task"),
        suites=listed(list(scored)),
        seeds=count(seeds, "seed"),
    )
    said += prose.LEFT_OUT.format(suites=listed(left)) if left else ""
    yield TextBlock(markdown_text(said))
    first = next(iter(suites.values()))
    baseline = first.get("baseline") or baseline_of(first)
    against = baseline if baseline in scores else common[0]
    yield TableBlock("interquartile-means", prose.IQM, tables.iqm_of_suites(scores, against))
    yield FigureBlock("profiles", prose.PROFILES, png(performance_profiles(scores)))
