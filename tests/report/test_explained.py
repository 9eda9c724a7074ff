"""A report tells an outsider what the data, the variants, the costs and the machine are."""

import numpy as np
import pytest

from crossattn.data.samples import PartSample
from crossattn.report.document import write_report
from crossattn.report.environment import environment_paragraph
from crossattn.report.figures.samples import draw_samples
from crossattn.report.results.data_parts import data_paragraph
from crossattn.report.tables.main import alignment_table, cost_table, main_table
from crossattn.report.terms import terms
from tests.support.layout import check_layout, texts_of

PARTS = ("train", "validation", "iid", "pairs", "swap")
LONG = "is the first of all the red rings to the left of a green square and below it ?"
DATA = {
    "source": "scenes",
    "about": "Rings on <plain> ground.",
    "parts": {
        "train": {"images": 1_200, "texts": {"colour": 800, "caption": 1_200}, "about": ""},
        "iid": {"images": 97, "texts": {"colour": 97}, "about": "As *training*."},
    },
}


@pytest.fixture(scope="module")
def samples():
    region = np.zeros((64, 64), bool)
    region[40:, 50:] = True
    pixels = np.full((64, 64, 3), 230, np.uint8)
    texts = ((LONG, "yes"), ("describe", "red ring blue star " * 9))
    return tuple(PartSample(part, pixels, region, texts) for part in PARTS)


def sections(text):
    return [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]


def test_data_and_variants_come_before_results(suite, samples, tmp_path, blank):
    results = {**suite[0], "data": DATA}
    path = write_report(results, tmp_path, title="four ways", samples=samples, command="go")
    text = path.read_text()
    assert sections(text)[:4] == ["Terms", "Data", "Variants", "Results"]
    assert "The source of the data is scenes. Rings on \\<plain> ground. Models learn from" in text
    assert "from 1,200 pictures with 2,000 texts and are judged by 1 split" in text
    assert "| train | 1,200 | 800 colour, 1,200 caption | - |" in text
    assert "| iid | 97 | 97 colour | As \\*training\\*. |" in text
    assert "![Figure 1: samples](figures/samples.png)" in text
    assert "Rings on &lt;plain&gt; ground." in (tmp_path / "report.html").read_text()


def test_the_data_say_which_texts_are_learned(suite):
    results = {**suite[0], "data": DATA}
    variants = {run["variant"] for run in results["runs"]}
    chosen = {"only_words": ["left", "above"], "curriculum_words": ["left"]}
    whole = {"only_words": [], "curriculum_words": [], "curriculum_share": 0.0}
    settings = {name: {"data": {**chosen, "curriculum_share": 0.4}} for name in variants}
    one = {**results, "settings": {**settings, "blind": {"data": whole}}}
    said = 'those with "left" or "above" but in the first 40 % of the steps only "left"'
    told = data_paragraph(one)
    assert told.endswith(f"Of these texts they learn all (blind) and {said} (all other variants).")
    all_texts = {name: {"data": whole} for name in variants}
    assert "they learn" not in data_paragraph({**results, "settings": all_texts})


def test_results_without_a_word_on_data_have_no_such_section(suite, tmp_path, blank):
    text = write_report(suite[0], tmp_path, title="four ways", command="go").read_text()
    assert sections(text)[:3] == ["Terms", "Variants", "Results"]


WORDS = (
    "Holm",
    "pointing",
    "knock-out",
    "interval",
    "head",
    "patch",
    "mass",
    "chance",
    "corrected",
)


def test_terms_are_explained_before_they_are_used(suite, tmp_path, blank):
    """The opening may say no more than that there is an interval."""
    text = write_report(suite[0], tmp_path, title="four ways", command="go").read_text()
    opening, _, rest = text.partition("\n## Terms\n")
    explained, _, _ = rest.partition("\n## ")
    for word in WORDS:
        assert word.lower() in explained.lower(), word
        if word not in ("interval", "corrected"):
            assert word not in opening.partition("\n- ")[0], word
    assert "`pairs/accuracy` is the accuracy on pairs." in explained
    assert "the share of answers for which the patch with the largest weight" in explained


def test_every_column_of_the_main_tables_is_explained_above_it(suite, tmp_path, blank):
    text = write_report(suite[0], tmp_path, title="four ways", command="go").read_text()
    above = text.partition("\n## Results\n")[2].partition("*Table")[0]
    for header, _ in (main_table(suite[0]), alignment_table(suite[0])):
        for column in header[1:]:
            name = column.partition(" [")[0].partition(" (")[0].lower()
            assert name in f"{above} {terms_of(text)}".lower(), column


def terms_of(text):
    return text.partition("\n## Terms\n")[2].partition("\n## ")[0]


def test_terms_that_a_report_does_not_need_are_left_out(suite):
    runs = [{"variant": "a", "seed": 0, "metrics": {"test/perplexity": 3.0}}]
    few = {**suite[0], "primary": "test/perplexity", "runs": runs, "comparisons": [], "chance": {}}
    assert [line.split("**")[1] for line in terms(few)] == ["Variant, baseline", "Seed", "Split"]
    split = list(terms({**few, "primary": "iid/text_to_image_r1"}))[2]
    assert split.endswith("`iid/text_to_image_r1` is the R@1 from text to image on iid.")


def test_all_of_a_sample_can_be_read(samples, monkeypatch):
    figure = draw_samples(samples)
    texts = texts_of(figure, monkeypatch)
    check_layout(figure, texts)
    said = [text for text, _ in texts]
    assert said.count("→ yes") == len(samples)
    assert {*PARTS} <= {*said}


def test_costs_have_units_and_stand_beside_each_other():
    timings = {
        "a": {"step_seconds": 0.0123, "parameters": 12_345, "step_flops": 3.25e9, "teraflops": 0.2},
        "b": {"parameters": 7, "wonder": 5},
    }
    header, rows = cost_table({"environment": {"timings": timings}})
    assert header == [
        *("variant", "parameters", "GFLOP of a step", "step [ms]", "TFLOP/s", "wonder"),
    ]
    assert rows == [
        ["a", "12,345", "3.25", "12.3", "0.2", "-"],
        ["b", "7", "-", "-", "-", "5"],
    ]


def test_the_machine_is_told_in_words(suite):
    said = environment_paragraph(suite[0]["environment"])
    assert said == (
        "All runs used 2 CPU devices on a processor Imagined Processor 7 (x86_64). Software: "
        "Python 3.11.7, JAX 0.10.2 and Flax 0.12.8. This report was written on 2026-11-22."
    )
    assert environment_paragraph({}) == ""
    two = {"device": "NVIDIA H200 and cpu", "processor": "Xeon", "threads": [2, 16]}
    assert environment_paragraph(two) == (
        "All runs used NVIDIA H200 and cpu on a processor Xeon with 2 and 16 threads."
    )
