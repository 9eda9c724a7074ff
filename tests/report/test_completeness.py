"""What is no whole suite says so on top, and what was a quick run concludes nothing."""

import copy

import pytest

from crossattn.report.document import write_report
from crossattn.report.results.completeness import banner, conclusive
from crossattn.report.stats.comparisons import winner_of
from crossattn.report.tables.main import terminal_report
from tests.support.made_up import BASELINE, CLAIMS, make_results

CONCLUDING = ("is better than", "| better |", "Supported:")


def changed(results, **asked):
    return {**results, "asked": {**results["asked"], **asked}}


def written(results, folder, claims=CLAIMS):
    path = write_report(results, folder, title="four ways", claims=claims, command="make")
    methods = (folder / "tables" / "methods.tex").read_text()
    return path.read_text(), (folder / "report.html").read_text(), methods


def test_a_whole_suite_has_no_banner(suite, tmp_path, undrawn):
    assert banner(suite[0]) == []
    markdown, html, _ = written(suite[0], tmp_path)
    assert "\n> " not in markdown
    assert 'class="banner"' not in html
    assert all(words in markdown for words in CONCLUDING)
    assert "QUICK" not in terminal_report(suite[0])


def test_a_quick_run_says_so_and_concludes_nothing(suite, tmp_path, undrawn):
    results = changed(suite[0], quick=True)
    assert any(map(winner_of, results["comparisons"]))
    markdown, html, methods = written(results, tmp_path)
    first, second, *_ = markdown.split("\n\n")
    assert first == "# fusion: four ways"
    assert second.startswith("> **QUICK RUN: few steps and little data")
    assert html.index('<p class="banner" role="note"><strong>QUICK RUN') < html.index(
        "<p>4 variants"
    )
    assert methods.startswith("QUICK RUN")
    assert terminal_report(results).startswith("QUICK RUN")
    for text in (markdown, html):
        assert not any(words in text for words in CONCLUDING)
    assert "is ahead of **blind** by" in markdown
    assert "no conclusion." in markdown
    assert "| ahead (no conclusion) |" in markdown
    assert "| verdict (no conclusion) |" in markdown
    # A table of it that is pasted into a paper says it, too.
    for path in (tmp_path / "tables").glob("*.tex"):
        assert "QUICK RUN" in path.read_text(), path


def test_missing_runs_are_named(suite, tmp_path, undrawn):
    results = copy.deepcopy(suite[0])
    asked = [*results["asked"]["variants"], "late"]
    results = changed(results, variants=asked, suite=asked)
    markdown = written(results, tmp_path)[0]
    assert "> **UNFINISHED: 5 of 25 runs are missing (late seed 0, late seed 1, " in markdown
    assert not conclusive(results)
    assert not any(words in markdown for words in CONCLUDING)
    more = changed(results, seeds=7)
    assert "15 of 35 runs are missing (blind seed 5, " in banner(more)[0]
    assert "and 9 more)" in banner(more)[0]


def test_a_part_of_a_suite_says_so(suite):
    results = changed(suite[0], suite=[*suite[0]["asked"]["variants"], "other", "another"])
    (said,) = banner(results)
    assert said.startswith("PART OF A SUITE: 4 of its 6 variants")
    assert conclusive(results)


@pytest.mark.parametrize(("seeds", "words"), [(1, "1 seed"), (2, "2 seeds"), (3, None)])
def test_few_seeds_are_said(seeds, words):
    results, _ = make_results(seeds, (BASELINE, "blind"))
    said = banner(results)
    assert said == [] if words is None else said[0].startswith(f"FEW SEEDS: with {words} there")


def test_results_of_older_runs_have_no_banner(suite):
    older = {name: value for name, value in suite[0].items() if name != "asked"}
    assert banner(older) == []
    assert conclusive(older)


def test_a_claim_that_was_not_compared_is_an_error_when_all_runs_are_there(suite, tmp_path):
    with pytest.raises(ValueError, match="were not compared"):
        written(suite[0], tmp_path, claims=[("mean-pool", "oracle-attention")])
