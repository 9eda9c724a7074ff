"""The recipe for a measure: one object and one line, and it is wherever numbers are."""

import csv
import json
import math
import types

import numpy as np
import pytest

from crossattn.align import inputs
from crossattn.align.evidence import Evidence
from crossattn.align.measures import MEASURES, Measure, parse_metric, register_measure
from crossattn.report.document import write_report
from crossattn.report.stats.ranges import lower_is_better, range_of
from crossattn.report.tables.main import terminal_report
from tests.support.made_up import make_gallery, make_results

COMMAND = "make it again"


@pytest.fixture
def toys():
    """One measure of each kind of evidence, as a user registers them."""
    before = dict(MEASURES)
    made = [
        register_measure(
            Measure(
                "sharpness",
                "attention",
                inputs.AttentionMaps,
                lambda maps: 8 * maps.weights.max(-1),
                "Sharpness: the largest weight.",
                chance=lambda maps: 8 / maps.weights.shape[-1],
                chance_meaning="Chance of sharpness: attention that is everywhere the same.",
                headline={"*": "sharp"},
                unit="eighths",
                format=".1f",
                limits=(0.0, 8.0),
                by_head=lambda maps: maps.peaks / 2,
            )
        ),
        register_measure(
            Measure(
                "doubt",
                "task",
                inputs.Answers,
                lambda answers: 1 - answers.right,
                "Doubt: the share of wrong answers.",
                chance=0.4321,
                chance_meaning="Chance of doubt: a number for a test.",
                headline={"iid": "doubt"},
                lower_is_better=True,
            )
        ),
        register_measure(
            Measure(
                "survival",
                "causal",
                inputs.Knockouts,
                lambda words: words.right,
                "Survival: what is right all the same.",
                chance=0.1234,
                chance_meaning="Chance of survival: another number for a test.",
                headline={"truth": "survival"},
            )
        ),
        register_measure(
            Measure(
                "gap",
                "representation",
                inputs.SwapPairs,
                lambda pairs: np.mean(pairs.score),
                "Gap: a single number for all pairs.",
                chance=-1.5,
                chance_meaning="Chance of a gap: below zero.",
                limits=(-math.inf, math.inf),
                headline={"swap": "gap"},
            )
        ),
    ]
    yield made
    MEASURES.clear()
    MEASURES.update(before)


def evidence(seed):
    """Of a made-up model, by nothing but what is registered."""
    rng = np.random.default_rng(seed)
    right = (rng.random(50) < 0.7).astype(float)
    answers = inputs.Answers(right, np.full(50, 0.2), np.array(["a", "b"] * 25), right > 2)
    region = np.arange(8) < np.full((9, 1), 2)
    maps = inputs.AttentionMaps(
        rng.dirichlet(np.ones(8), 9).astype(np.float32),
        rng.integers(-1, 8, (9, 3)),
        np.ones(9),
        region,
        region.astype(np.float32),
    )
    found = Evidence()
    found.read("iid", answers)
    found.read("swap", inputs.SwapPairs(rng.normal(size=(20, 2, 2))))
    found.read_layers("answer", [maps, maps])
    found.read("answer", maps)
    for name in ("intact", "truth", "random"):
        found.read(name, inputs.Knockouts(right, np.full(50, 0.2)))
    return found


NAMES = {
    "sharpness/answer": 1.0,
    "sharpness/answer/layer1": 1.0,
    "sharpness/answer/layer1/head2": 1.0,
    "iid/doubt": 0.4321,
    "survival/truth": 0.1234,
    "gap/swap": -1.5,
}


def test_a_registered_measure_is_wherever_numbers_are(toys, tmp_path):
    results, _ = make_results(3, ("blind", "cross-attention"))
    for run in results["runs"]:
        found = evidence(run["seed"])
        run["metrics"] |= found.metrics
        results["chance"] = results["chance"] | found.chance
    results["counts"] = {"items": found.counts()}
    # results.json holds the metric, its chance level and how many items are behind it.
    results = json.loads(json.dumps(results))
    for name, level in NAMES.items():
        assert name in results["runs"][0]["metrics"]
        assert results["chance"][name] == level
    assert (found.counts()["iid/doubt"], found.counts()["gap/swap"]) == (50, 20)

    write_report(results, tmp_path, title="t", command=COMMAND, shown=make_gallery())
    with (tmp_path / "tables" / "runs.csv").open() as file:
        rows = {(row["variant"], row["seed"], row["metric"]): row for row in csv.DictReader(file)}
    for name, level in NAMES.items():
        row = rows["blind", "0", name]
        assert float(row["chance"]) == level
        assert float(row["value"]) == results["runs"][0]["metrics"][name]

    tables = {
        "attention-answer": ("sharpness [eighths] 1", "1.0"),
        "split-iid": ("doubt", "0.432"),
        "survival": ("truth", "0.123"),
        "gap": ("swap", "-1.500"),
    }
    markdown, page = ((tmp_path / f"report.{kind}").read_text() for kind in ("md", "html"))
    for name, (column, level) in tables.items():
        with (tmp_path / "tables" / f"{name}.csv").open() as file:
            header, first, *_ = csv.reader(file)
        assert first[0] == "chance"
        assert first[header.index(column)] == level
        latex = (tmp_path / "tables" / f"{name}.tex").read_text()
        assert column in latex
        assert level.replace("-", "$-$") in latex
    for measure in toys:
        for text in (markdown, page):
            assert measure.meaning in text
            assert measure.chance_meaning in text
        for column in measure.headline.values():
            assert f'<th scope="col">{column}' in page
            assert column in (tmp_path / "tables" / "alignment.csv").read_text()
            assert column in terminal_report(results)
    assert "sharp (chance)" in page
    assert "## Representation" in markdown
    assert (tmp_path / "figures" / "heads-sharpness.png").exists()


def test_a_measure_has_its_own_range_and_direction(toys):
    assert range_of(np.array([3.0]), "sharpness/answer/layer1") == (0.0, 8.0)
    assert lower_is_better("iid/doubt/colour")
    assert not lower_is_better("iid/accuracy")


def test_an_unknown_metric_is_an_error_with_near_misses(toys, tmp_path, undrawn):
    results, _ = make_results(3, ("blind", "cross-attention"))
    results["runs"][0]["metrics"]["sharpnes/answer"] = 0.5
    with pytest.raises(ValueError, match=r"^sharpnes/answer is .*did you mean sharpness/answer\?"):
        write_report(results, tmp_path, title="t", command=COMMAND)
    for name in ("accuracy", "iid/acuracy", "pointing/answer/lair1", "pointing", "x/pointing"):
        with pytest.raises(ValueError, match="no metric of a registered measure") as error:
            parse_metric(name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a b"}, "no slash and no blank"),
        ({"name": "a/b"}, "no slash and no blank"),
        ({"family": "tasks"}, "family is one of attention, causal, representation, task"),
        ({"limits": (1, 0)}, r"limits are \(least, largest\)"),
    ],
)
def test_a_measure_that_cannot_be_is_refused(changes, message):
    fields = {"name": "a", "family": "task", "limits": (0, 1), **changes}
    # Not by the constructor: in tests, annotations are checked before it.
    with pytest.raises(ValueError, match=message):
        Measure.__post_init__(types.SimpleNamespace(**fields))


def test_two_measures_have_two_names():
    with pytest.raises(ValueError, match="there is a measure 'accuracy' already"):
        register_measure(parse_metric("iid/accuracy").measure)
