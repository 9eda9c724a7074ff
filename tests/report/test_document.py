"""The report says what the results say, no more, also where numbers are missing."""

import copy
import re

import pytest

from crossattn.report.document import write_report
from crossattn.report.render.markdown import markdown_table
from crossattn.report.results.runs import metric_values
from crossattn.report.stats.comparisons import winner_of
from crossattn.report.tables.main import alignment_table, attention_verdict, terminal_report
from crossattn.report.tables.measures import measure_blocks
from tests.support.made_up import (
    ALL_LEVELS,
    BASELINE,
    CLAIMS,
    LEVELS,
    PRIMARY,
    make_results,
)

COMMAND = "python -m experiments.ablate fusion"
FIGURES = {"accuracy", "differences", "gallery", "heads", "knockout", "learning", "scatter"}
FIGURES |= {"profiles"}


def written(results, folder, **details):
    details = {"title": "four ways", "command": COMMAND, **details}
    return write_report(results, folder, **details).read_text()


def rows_of(text):
    """Cells of all Markdown tables by their first cell; later tables do not hide earlier ones."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first, *rest = line.strip("| ").split(" | ")
            found.setdefault(first, []).append(rest)
    return found


def tables_of(results, family):
    return {block.name: block.table for block in measure_blocks(results, family)}


@pytest.fixture(scope="module")
def report(suite, curves, shown, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    details = {"notes": ["One object a scene."], "explorer": "attend, seed 0"}
    text = written(suite[0], folder, claims=CLAIMS, curves=curves, shown=shown, **details)
    return text, folder


def test_the_page_of_words_is_linked(report, suite, tmp_path):
    said = "(explore.html) beside this report shows single texts of attend, seed 0: click a word"
    assert f"[explore.html]{said}" in report[0]
    assert '<a href="explore.html">explore.html</a>' in (report[1] / "report.html").read_text()
    assert "explore.html" not in written(suite[0], tmp_path)


def test_files_are_complete(report):
    text, folder = report
    assert {path.name for path in folder.iterdir()} == {
        "report.md",
        "report.html",
        "figures",
        "tables",
    }
    pictures = list((folder / "figures").iterdir())
    assert {path.stem for path in pictures} == FIGURES
    for path in pictures:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert 900 <= int.from_bytes(data[16:20], "big") <= 960
        assert f"](figures/{path.name})" in text


def test_numbers_in_the_tables_are_those_of_the_results(report, suite):
    rows, results = rows_of(report[0]), suite[0]
    comparisons = {f["variant"]: f for f in results["comparisons"] if f["baseline"] == BASELINE}
    for variant in LEVELS:
        parameters, step, primary, difference, p = rows[variant][1]
        timing = results["environment"]["timings"][variant]
        assert int(parameters.replace(",", "")) == timing["parameters"]
        assert step == f"{1000 * timing['step_seconds']:.1f} ms"
        mean = metric_values(results["runs"], variant, PRIMARY).mean()
        assert primary.startswith(f"{mean:.3f} [")
        if variant == BASELINE:
            assert (difference, p) == ("baseline", "-")
        else:
            found = comparisons[variant]
            numbers = [found[name] for name in ("difference", "low", "high")]
            assert re.findall(r"[+-]\d\.\d{3}", difference) == [f"{x:+.3f}" for x in numbers]
            assert float(p) == pytest.approx(found["p_holm"], abs=5e-4)


def test_pointing_stands_beside_its_chance_level(report, suite):
    rows, runs = rows_of(report[0]), suite[0]["runs"]
    mean = metric_values(runs, BASELINE, "pointing/answer").mean()
    assert rows[BASELINE][2][0] == f"{mean:.3f} (0.067)"
    table = tables_of(suite[0], "attention")["attention-predicted"]
    header, (first, *variants) = table
    assert header == ["variant", "pointing 0", "pointing 1", "mass 0", "mass 1"]
    assert first == ["chance", "0.074", "0.074", "-", "-"]
    assert [row[0] for row in variants] == [BASELINE, "oracle-attention"]
    for variant, _, cell, *_ in variants:
        values = metric_values(runs, variant, "pointing/predicted/layer1")
        assert cell.startswith(f"{values.mean():.3f} ±")
    assert markdown_table(table) in report[0]


def test_every_split_has_a_table_of_its_question_types(headline):
    found = tables_of(headline, "task")
    assert list(found) == [f"split-{x}" for x in ("iid", "pairs", "caption", "swap", "others")]
    header, rows = found["split-iid"]
    assert header == ["variant", "all", "colour", "shape", "count", "open", "exist", "relation"]
    assert [row[0] for row in rows] == ["chance", *ALL_LEVELS]
    assert rows[0][1:] == ["-", "0.167", "0.167", "0.333", "0.200", "0.500", "0.500"]
    values = metric_values(headline["runs"], "resampler", "iid/accuracy/exist")
    assert rows[7][6].startswith(f"{values.mean():.3f} ±")
    assert found["split-others"][0] == ["variant", "count", "relations"]
    assert found["split-caption"][1][0][0] == "blind"  # chance is not known


def test_image_mass_is_a_column_where_a_variant_has_it(headline, suite):
    header, rows = alignment_table(headline)
    assert header.index("image mass") == 2
    shown = {row[0]: row[2] for row in rows}
    mean = metric_values(headline["runs"], "single-stream", "image_mass/answer").mean()
    assert shown == dict.fromkeys(ALL_LEVELS, "-") | {"single-stream": f"{mean:.3f}"}
    assert "image mass" not in alignment_table(suite[0])[0]


def test_knockouts_of_single_layers_have_columns(suite):
    results = copy.deepcopy(suite[0])
    for run in results["runs"]:
        if run["variant"] == BASELINE:
            run["metrics"] |= {"knockout/truth/layer1": 0.5, "knockout/random/layer1": 0.625}
    header, rows = tables_of(results, "causal")["knockout"]
    assert header[-2:] == ["truth, layer 1", "random, layer 1"]
    assert rows[0] == ["chance", *["0.310"] * 6]
    shown = {row[0]: row[-2:] for row in rows}
    assert shown[BASELINE] == ["0.500 ± 0.000", "0.625 ± 0.000"]
    assert shown["mean-pool"] == ["-", "-"]


def test_what_a_variant_lacks_is_a_dash(report):
    rows = rows_of(report[0])
    assert rows["blind"][2][:4] == ["-"] * 4
    assert rows["mean-pool"][2][0] == "-"
    assert rows["mean-pool"][2][1] != "-"


def test_no_winner_where_the_interval_contains_zero(report, suite):
    text = report[0]
    for found in suite[0]["comparisons"]:
        named = {
            f"**{better}** is better than **{worse}**" in text
            for better, worse in (
                (found["variant"], found["baseline"]),
                (found["baseline"], found["variant"]),
            )
        }
        assert named == ({True, False} if winner_of(found) else {False})
    assert "No winner is named between oracle-attention and cross-attention" in text


def test_claims_have_verdicts(report):
    rows = rows_of(report[0])
    assert rows["cross-attention > mean-pool"][0][0] == "supported"
    assert rows["blind > oracle-attention"][0][0] == "not supported"
    said = "declared 3 claims on `pairs/accuracy` before it ran: 2 supported, 1 not supported."
    assert said in report[0]


def test_methods_are_told(report):
    text = report[0]
    assert "cannot go under p = 2^(1-5) = 0.0625" in text
    assert "5 seeds and 254 items" in text
    assert "Holm's procedure runs over the 5 comparisons" in text
    assert "No learning-rate sweep ran" in text
    assert "same number of steps and tokens" in text
    assert "One object a scene." in text
    assert COMMAND in text
    assert "- cores: 2" in text


def test_sweep_is_told(suite, tmp_path, undrawn):
    sweep = {"blind": {"learning_rate": 0.002}, "mean-pool": {"learning_rate": 0.008}}
    text = written({**suite[0], "learning_rate_sweep": sweep}, tmp_path)
    assert "was chosen by a sweep" in text
    assert "on validation data: 0.002 (blind) and 0.008 (mean-pool)." in text
    assert "not tuned" not in text
    assert "No learning-rate sweep" not in text


def test_one_seed_allows_no_claim(tmp_path, shown, blank):
    results, _ = make_results(seeds=1)
    text = written(results, tmp_path, claims=CLAIMS, shown=shown)
    assert "One seed allows no claim: no winner is named." in text
    assert "is better than" not in text
    assert "nan" not in text
    assert rows_of(text)["mean-pool > blind"][0][0] == "inconclusive"
    assert "one seed" in rows_of(text)[BASELINE][2]


def test_data_without_regions_still_show_where_words_look(tmp_path, shown, blank):
    results, _ = make_results()
    for run in results["runs"]:
        known = {name: x for name, x in run["metrics"].items() if name.split("/")[0] == "pairs"}
        run["metrics"] = known
    text = written(results, tmp_path, shown=shown)
    assert "## Attention\n" in text
    assert "figures/gallery.png" in text
    assert "## Attention against truth" not in text


@pytest.mark.parametrize(
    ("place", "counted"), [("answer", "answers"), ("caption", "words of captions")]
)
def test_what_points_is_named(tmp_path, shown, blank, place, counted):
    """Whatever was asked beside it."""
    results, _ = make_results()
    for run in results["runs"]:
        pointing = run["metrics"].pop("pointing/answer", None)
        run["metrics"] |= {f"pointing/{place}": pointing} if pointing is not None else {}
    text = written(results, tmp_path, shown=shown)
    assert f"**Pointing**: the share of {counted} for which the patch with the largest" in text
    assert f"Pointing is, of all {counted} with a known region, the share" in text
    assert "Variants in the strip" in text
    results["runs"] = [run for run in results["runs"] if f"pointing/{place}" in run["metrics"]]
    assert "Variants in the strip" not in written(results, tmp_path, shown=shown)


def test_one_variant_and_no_attention(tmp_path):
    results, _ = make_results(variants=("cross-attention",))
    for run in results["runs"]:
        run["metrics"] = {PRIMARY: run["metrics"][PRIMARY]}
    results["environment"] = {}
    text = written(results, tmp_path)
    assert "nothing to compare" in text
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"accuracy"}


def test_report_is_replaced_whole(suite, tmp_path, monkeypatch, undrawn):
    before = written(suite[0], tmp_path)

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        written({**suite[0], "suite": "other"}, tmp_path)
    assert (tmp_path / "report.md").read_text() == before
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == FIGURES | {"designs"}


def test_same_report_every_time(suite, tmp_path, undrawn):
    texts = [written(copy.deepcopy(suite[0]), tmp_path) for _ in range(2)]
    assert texts[0] == texts[1]


def test_terminal_tables_fit(headline):
    text = terminal_report(headline)
    assert max(map(len, text.splitlines())) <= 120
    assert all(text.count(f"\n{variant} ") == 2 for variant in ALL_LEVELS)


@pytest.mark.parametrize(
    ("pointing", "random", "wanted"),
    [
        (0.9, 0.9, "uses where it attends"),
        (0.9, 0.3, "attends but does not use"),
        (0.05, 0.9, "uses without attending"),
        (0.05, 0.3, "neither"),
    ],
)
def test_reading_needs_attention_and_use(pointing, random, wanted):
    levels = {"pointing/answer": pointing, "knockout/truth": 0.3, "knockout/random": random}
    runs = [
        {"variant": "a", "seed": s, "metrics": {n: x + 0.001 * s for n, x in levels.items()}}
        for s in range(3)
    ]
    results = {"runs": runs, "chance": {"pointing/answer": 0.067}}
    assert attention_verdict(results, "a") == wanted


@pytest.mark.parametrize(
    ("intact", "wanted"), [(0.2, "attends but does not use"), (0.0, "inconclusive")]
)
def test_who_answers_nothing_has_nothing_to_lose(intact, wanted):
    levels = {"pointing/answer": 0.9, "knockout/intact": intact}
    levels |= {"knockout/truth": 0.0, "knockout/random": 0.0}
    runs = [{"variant": "a", "seed": seed, "metrics": levels} for seed in range(3)]
    results = {"runs": runs, "chance": {"pointing/answer": 0.067, "knockout/intact": 0.2}}
    assert attention_verdict(results, "a") == wanted


def test_cells_cannot_break_a_table():
    assert markdown_table((["a|b"], [])).splitlines()[0] == "| a\\|b |"
