"""Suites side by side: what the page says of each, of variants in several, of their rankings."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from crossattn import lab
from crossattn.lab.errors import LabError
from crossattn.report.stats.aggregate import iqm
from crossattn.report.tables.main import claim_table
from experiments import compare
from tests.support.made_up import BASELINE, CLAIMS, LEVELS, PRIMARY, make_results

SIZES = {"small": 32, "medium": 64, "large": 128}
POINTING = "pointing/answer"


def write(folder, name, *, width=64, worse=0.0, **changes):
    levels = {v: tuple(x * (1 - worse) for x in own) for v, own in LEVELS.items()}
    results, _ = make_results(levels=levels)
    for run in results["runs"]:
        run["cost"] = {"cost/step_seconds": 0.01}
    for own in results["settings"].values():
        own["model"] = {**own["model"], "width": width}
    results |= {"suite": name, "title": f"the {name} one", "claims": CLAIMS, "baseline": BASELINE}
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({**results, **changes}))
    return folder


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for i, (name, width) in enumerate(SIZES.items()):
        write(folder / name, name, width=width, worse=0.2 * (2 - i))
    write(folder / "again", "small", asked={"quick": True})
    runs = json.loads((folder / "large/results.json").read_text())["runs"]
    write(
        folder / "others",
        "others",
        runs=[{**run, "variant": "x"} for run in runs[:5]],
        comparisons=[],
        claims=[],
    )
    return folder


@pytest.fixture(scope="module")
def found(there):
    return lab.compare_suites(*(there / name for name in SIZES))


def content(there, name):
    return json.loads((there / name / "results.json").read_text())


def column(found, table, name):
    view = found.tables[table]
    return [row[view.header.index(name)] for row in view.rows]


def test_a_row_says_what_a_suite_found(found):
    assert column(found, "suites", "suite") == list(SIZES)
    assert column(found, "suites", "what it asks")[0] == "the small one"
    assert column(found, "suites", "judged by") == [PRIMARY] * 3
    assert column(found, "suites", "worse") == ["blind, mean-pool"] * 3
    assert column(found, "suites", "better") == ["none"] * 3
    assert column(found, "suites", "not decided") == ["oracle-attention"] * 3
    assert column(found, "suites", "claims")[2] == "2 supported, 1 not supported"
    # 4 variants, 5 seeds, 800 steps of 0.0123 s and a little more.
    assert float(column(found, "effort", "training [min]")[0]) == pytest.approx(3.7, abs=0.1)


def test_claims_are_judged_as_the_reports_judge_them(there, found):
    wanted = claim_table(CLAIMS, content(there, "large"))[1]
    assert found.tables["claims"].rows[6:] == [["large", *row] for row in wanted]


def test_variants_of_the_same_name_stand_side_by_side(there, found):
    view = found.tables["values"]
    assert view.header == ["variant", *(f"{name}: {PRIMARY} [95 %]" for name in SIZES)]
    runs = content(there, "medium")["runs"]
    values = [r["metrics"][PRIMARY] for r in runs if r["variant"] == "mean-pool"]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert view.rows[1][2] == f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"
    assert found.tables["settings"].rows == [["model.width", "32", "64", "128"]]


def test_another_metric_leaves_out_who_lacks_it(there):
    found = lab.compare_suites(there / "small", there / "large", metric=POINTING)
    assert column(found, "values", "variant") == ["cross-attention", "oracle-attention"]
    assert "rankings" not in found.tables
    seconds = lab.compare_suites(there / "small", there / "large", metric="iid/accuracy")
    assert len(seconds.tables["values"].rows) == 4


def test_rankings_equal_scipys(there, found):
    means = [
        [
            np.mean(
                [r["metrics"][PRIMARY] for r in content(there, name)["runs"] if r["variant"] == v]
            )
            for v in LEVELS
        ]
        for name in SIZES
    ]
    taus = [stats.kendalltau(means[i], means[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))]
    shown = column(found, "rankings", "Kendall's tau [95 %]")
    assert [float(cell.split()[0]) for cell in shown[:3]] == pytest.approx(taus, abs=1e-3)
    assert column(found, "rankings", "suites")[1] == "small, large"
    w = stats.friedmanchisquare(*np.transpose(means)).statistic / (3 * 3)
    assert column(found, "rankings", "Kendall's W [95 %]")[-1].startswith(f"{w:.3f} [")


def test_all_tasks_in_one_number(there, found):
    scores = [
        [
            [r["metrics"][f"{PRIMARY}/{kind}"] for kind in ("colour", "shape")]
            for r in content(there, name)["runs"]
            if r["variant"] == BASELINE
        ]
        for name in SIZES
    ]
    shown = column(found, "interquartile-means", "interquartile mean [95 %]")
    assert float(shown[2].split()[0]) == pytest.approx(iqm(np.concatenate(scores, 1)), abs=1e-3)
    assert any(getattr(block, "name", "") == "profiles" for block in found.blocks)


def test_nothing_in_common_is_said(there):
    found = lab.compare_suites(there / "small", there / "others")
    assert "values" not in found.tables
    assert "No two suites have a variant of the same name" in "".join(
        getattr(b, "markdown", "") for b in found.blocks
    )


def test_a_quick_suite_concludes_nothing_and_names_tell_suites_apart(there):
    found = lab.compare_suites(there / "small", there / "again")
    assert column(found, "suites", "suite") == ["small", "again"]
    assert column(found, "suites", "better")[1] == "no conclusion"
    assert repr(found).startswith("2 suites side by side\n\nagain: QUICK RUN")
    assert "again: QUICK RUN" in found._repr_html_()


def test_results_of_older_versions_have_no_claims(there, tmp_path):
    older = content(there, "small")
    for name in ("title", "claims", "baseline"):
        del older[name]
    (tmp_path / "results.json").write_text(json.dumps({**older, "suite": "older"}))
    found = lab.compare_suites(tmp_path, there / "large")
    assert column(found, "suites", "claims")[0] == column(found, "suites", "what it asks")[0] == "-"
    assert column(found, "suites", "baseline")[0] == BASELINE


def test_the_command_writes_a_page(there, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(there)
    compare.main([*SIZES, "--html", str(tmp_path / "page.html")])
    printed = capsys.readouterr().out
    assert printed.startswith("3 suites side by side\n\nsuites: Better, worse: the variants of ")
    assert "\n\nsuite   " in printed
    assert printed.endswith(f"\npage: {tmp_path / 'page.html'}\n")
    page = (tmp_path / "page.html").read_text()
    assert "<h1>3 suites side by side</h1>" in page
    assert page.count("<img ") == 1
    assert "http" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small", "nowhere", "large"], "nowhere holds no results of an ablation"),
        (["small", "torn", "large"], "is damaged: it is no JSON"),
        (["small", "bare", "large"], "is damaged: it has no suite"),
        (["small", "large", "uneven"], "4 of 5 seeds have the metric 'pairs/accuracy'"),
        (["small", "large", "small"], "a folder is named twice"),
        (["small", "large", "--html", "no/page.html"], "there is no folder no"),
        (["small", "large", "--html", "medium"], "medium is a folder: name a file in it"),
        (["small", "large", "medium", "--looks", "5", "10"], "are for two folders, without --html"),
        (["small", "large", "medium", "--metric", "pairs/acuracy"], "did you mean pairs/accuracy?"),
    ],
)
def test_a_command_says_in_one_line_what_is_wrong(there, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(there)
    uneven = content(there, "small")
    del uneven["runs"][0]["metrics"][PRIMARY]
    for name, text in (("torn", "{"), ("bare", "{}"), ("uneven", json.dumps(uneven))):
        Path(name).mkdir(exist_ok=True)
        Path(name, "results.json").write_text(text)
    with pytest.raises(SystemExit) as end:
        compare.main(arguments)
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("compare: ")
    assert printed.count("\n") == 1
    assert message in printed


def test_one_suite_is_not_compared(there):
    with pytest.raises(LabError, match="two or more, got 1"):
        lab.compare_suites(there / "small")
