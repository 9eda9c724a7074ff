"""What stands on top of a report that is not the whole suite, or was only a quick run."""

from collections.abc import Mapping
from typing import Any

from crossattn.report.results.runs import Results
from crossattn.report.stats.paired import FEWEST_SEEDS

QUICK = (
    "QUICK RUN: few steps and little data show that everything works. Nothing here is a "
    "conclusion about the variants."
)
# Runs that a banner names one by one.
NAMED = 6


def conclusive(results: Results) -> bool:
    """Whether a winner may be called better: not in a quick run, nor while runs are missing.

    Example:
        >>> conclusive({"runs": [], "asked": {"quick": True}}), conclusive({"runs": []})
        (False, True)
    """
    return not _asked(results).get("quick") and not missing_runs(results)


def missing_runs(results: Results) -> list[tuple[str, int]]:
    """(variant, seed) of every run that was asked for and is not there.

    Example:
        >>> runs = [{"variant": "a", "seed": 0}]
        >>> missing_runs({"runs": runs, "asked": {"variants": ["a"], "seeds": 2}})
        [('a', 1)]
    """
    there = {(run["variant"], run["seed"]) for run in results["runs"]}
    asked = _asked(results)
    wanted = [(name, n) for name in asked.get("variants", []) for n in range(asked.get("seeds", 0))]
    return [pair for pair in wanted if pair not in there]


def banner(results: Results) -> list[str]:
    """Paragraphs of plain text; none for a whole suite.

    Example:
        >>> runs = [{"variant": "a", "seed": seed} for seed in range(3)]
        >>> asked = {"quick": False, "seeds": 3, "variants": ["a"], "suite": ["a", "b"]}
        >>> banner({"runs": runs, "asked": asked})[0]
        'PART OF A SUITE: 1 of its 2 variants; the correction covers only what is compared here.'
    """
    asked, said = _asked(results), []
    if asked.get("quick"):
        said.append(QUICK)
    missing = missing_runs(results)
    if missing:
        total = len(asked["variants"]) * asked["seeds"]
        names = ", ".join(f"{name} seed {seed}" for name, seed in missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        said.append(
            f"UNFINISHED: {len(missing)} of {total} runs are missing ({names}{more}). Nothing here "
            "is a conclusion before they are there."
        )
    here, whole = len(asked.get("variants", [])), len(asked.get("suite", []))
    if here < whole:
        said.append(
            f"PART OF A SUITE: {here} of its {whole} variants; the correction covers only what is "
            "compared here."
        )
    seeds = len({run["seed"] for run in results["runs"]})
    if asked and seeds < FEWEST_SEEDS:
        counted = "1 seed" if seeds == 1 else f"{seeds} seeds"
        said.append(f"FEW SEEDS: with {counted} there is no interval and no test, and no winner.")
    return said


def _asked(results: Results) -> Mapping[str, Any]:
    """What the command asked for; results of older runs do not say."""
    return results.get("asked", {})
