"""The report says what the results say, no more, also where numbers are missing."""

import copy
import re

import numpy as np
import pytest
from made_up import BASELINE, CLAIMS, LEVELS, PRIMARY, make_results

from crossattn.report import figures, tables
from crossattn.report.comparisons import winner_of
from crossattn.report.document import write_report
from crossattn.report.gallery import Gallery, gallery, mass_inside
from crossattn.report.runs import metric_values

COMMAND = "python -m experiments.ablate fusion"
FIGURES = {"accuracy", "differences", "gallery", "knockout", "learning"}


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


@pytest.fixture(scope="module")
def report(suite, curves, shown, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    text = written(
        suite[0], folder, claims=CLAIMS, curves=curves, shown=shown, notes=["One object a scene."]
    )
    return text, folder


def test_files_are_complete(report):
    text, folder = report
    assert {path.name for path in folder.iterdir()} == {"report.md", "figures"}
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
        parameters, step, primary, difference, p = rows[variant][0]
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
    assert rows[BASELINE][1][0] == f"{mean:.3f} (0.067)"
    layer = rows["`pointing/predicted/layer1`"][0]
    assert layer[0] == "0.074"
    for cell, variant in zip(layer[1:], (BASELINE, "oracle-attention"), strict=True):
        values = metric_values(runs, variant, "pointing/predicted/layer1")
        assert cell.startswith(f"{values.mean():.3f} ±")


def test_what_a_variant_lacks_is_a_dash(report):
    rows = rows_of(report[0])
    assert rows["blind"][1][:4] == ["-"] * 4
    assert rows["mean-pool"][1][0] == "-"
    assert rows["mean-pool"][1][1] != "-"


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
    assert rows["cross-attention > mean-pool"][0][0] == "**supported**"
    assert rows["blind > oracle-attention"][0][0] == "**not supported**"


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


def test_sweep_is_told(suite, tmp_path):
    text = written({**suite[0], "learning_rate_sweep": True}, tmp_path)
    assert "was chosen by a sweep" in text
    assert "No learning-rate sweep" not in text


def test_one_seed_allows_no_claim(tmp_path, shown):
    results, _ = make_results(seeds=1)
    text = written(results, tmp_path, claims=CLAIMS, shown=shown)
    assert "One seed allows no claim: no winner is named." in text
    assert "is better than" not in text
    assert "nan" not in text
    assert rows_of(text)["mean-pool > blind"][0][0] == "**inconclusive**"
    assert "one seed" in rows_of(text)[BASELINE][1]


def test_one_variant_and_no_attention(tmp_path):
    results, _ = make_results(variants=("cross-attention",))
    for run in results["runs"]:
        run["metrics"] = {PRIMARY: run["metrics"][PRIMARY]}
    results["environment"] = {}
    text = written(results, tmp_path)
    assert "nothing to compare" in text
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"accuracy"}


def test_report_is_replaced_whole(suite, tmp_path, monkeypatch):
    before = written(suite[0], tmp_path)

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        written({**suite[0], "suite": "other"}, tmp_path)
    assert (tmp_path / "report.md").read_text() == before
    assert len(list((tmp_path / "figures").iterdir())) == 3


def test_same_report_every_time(suite, tmp_path):
    assert written(suite[0], tmp_path) == written(copy.deepcopy(suite[0]), tmp_path)


def test_terminal_tables_fit(suite):
    text = tables.terminal(suite[0])
    assert max(map(len, text.splitlines())) <= 120
    assert all(text.count(f"\n{variant} ") == 2 for variant in LEVELS)


@pytest.mark.parametrize(
    ("pointing", "random", "wanted"),
    [
        (0.9, 0.9, "attends and uses"),
        (0.9, 0.3, "attends, does not use"),
        (0.05, 0.9, "uses, does not attend"),
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
    assert tables.reading(results, "a") == wanted


def test_cells_cannot_break_a_table():
    assert tables.markdown((["a|b"], [])).splitlines()[0] == "| a\\|b |"


def test_forest_shows_every_seed_and_marks_winners(suite):
    comparisons = suite[0]["comparisons"]
    axes = figures.forest(comparisons).axes[0]
    dots = [c.get_offsets()[:, 0].tolist() for c in axes.collections if len(c.get_offsets()) == 5]
    assert dots == [found["seed_differences"] for found in comparisons]
    squares = [line for line in axes.lines if line.get_marker() == "s"]
    filled = [square.get_markerfacecolor() != "white" for square in squares]
    assert filled == [winner_of(found) is not None for found in comparisons]


def test_learning_curves_use_the_steps_that_all_seeds_have():
    seeds = {
        0: {"step": [0, 10, 20], "loss": [4.0, 2.0, 1.0]},
        1: {"step": [0, 20], "loss": [2.0, 3.0]},
    }
    axes = figures.learning_curves({"a": seeds, "b": {0: seeds[0]}}).axes
    assert len(axes) == 1
    mean = axes[0].lines[2]
    assert (mean.get_xdata().tolist(), mean.get_ydata().tolist()) == ([0, 20], [3, 2])


def test_gallery_shows_masses_and_readings(shown):
    figure = gallery(shown)
    titles = [axes.get_title() for axes in figure.axes]
    coverage = shown.outlines[0, 0].reshape(8, 8, 8, 8).mean((1, 3)).ravel()
    mass = (shown.weights[0, 0] * coverage).sum()
    assert titles[1] == f"red\nconsumed\nmass {mass:.2f}"
    assert titles[5].endswith("no region")
    assert "predicted" in titles[3]


def test_mass_of_all_attention_inside_is_one():
    weights = np.zeros((2, 3))
    weights[1, 2] = 1
    outline = np.zeros((4, 9), bool)
    outline[2:, 6:] = True
    assert mass_inside(weights, outline) == 1
    assert mass_inside(weights, ~outline) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": (8, 7)}, r"weights must be \(3, 5, 56\), got \(3, 5, 64\)"),
        ({"outlines": np.zeros((3, 5, 32, 64), bool)}, r"outlines must be \(3, 5, 64, 64\)"),
        ({"captions": ["one"]}, "3 pictures need as many"),
        ({"words": [["a"] * 6, [], []]}, "6 words but weights of 5"),
        (
            {
                "grid": (1, 64),
                "pixels": np.zeros((3, 64, 63, 3), np.uint8),
                "outlines": np.zeros((3, 5, 64, 63), bool),
            },
            "do not divide",
        ),
    ],
)
def test_gallery_refuses_what_does_not_fit(shown, change, message):
    fields = {name: getattr(shown, name) for name in shown.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        Gallery(**{**fields, **change})
