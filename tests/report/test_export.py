"""Tables as CSV come back as they were; LaTeX compiles whatever the cells hold."""

import csv
import io
import re

import pytest

from crossattn.report.document import write_report
from crossattn.report.methods import methods_section
from crossattn.report.render.csv_files import runs_csv, table_csv
from crossattn.report.render.latex import latex_paragraph, latex_table, latex_text
from tests.support.made_up import ALL_CLAIMS, ALL_LEVELS, PRIMARY

NASTY = r'\a{b}$c&d#e%f_g^h~i<j>k|l"m' + "±\u00d7\u2013\u2014\u2212→[n]*\t∞é\0"


def parsed(text):
    return list(csv.reader(io.StringIO(text)))


def test_csv_round_trip():
    header, rows = ["variant", 'a "b", c'], [["x\ny", "0.5 [0.4, 0.6]"], ["-", "-"]]
    assert parsed(table_csv((header, rows))) == [header, rows[0], ["", ""]]


def test_every_number_of_every_run_is_in_the_long_table(headline):
    header, *lines = parsed(runs_csv(headline))
    assert header == ["variant", "seed", "metric", "value", "chance"]
    values = {(v, int(s), m): float(x) for v, s, m, x, _ in lines}
    assert values == {
        (run["variant"], run["seed"], metric): value
        for run in headline["runs"]
        for metric, value in run["metrics"].items()
    }
    chances = {metric: chance for _, _, metric, _, chance in lines}
    assert chances["pointing/answer/layer1/head3"] == "0.067"
    assert chances["caption/exact"] == ""


def plain(latex):
    """LaTeX without what is known to be safe: escaped characters, math, commands of ours."""
    latex = latex.replace(r"\\", "")
    latex = re.sub(r"\\[{}$&#%_]", "", latex)
    latex = re.sub(r"\$(<|>|\||-|\\pm|\\times|\\to)\$", "", latex)
    return re.sub(r"\\text(backslash|asciicircum|asciitilde)\{\}", "", latex)


def test_every_special_character_is_escaped():
    left = plain(latex_text(NASTY)).replace("{}", "")
    assert not set(left) & set('\\{}$&#%_^~<>|"\0\t')
    assert left.endswith("[n]* ?é")
    assert latex_text("a--b") == "a-{}-b"
    assert latex_text("-0.1 to -0.2, x-3, 2^(1-5)") == (
        r"$-$0.1 to $-$0.2, x-3, 2\textasciicircum{}(1-5)"
    )


@pytest.mark.parametrize("first", ["[0.1, 0.2]", "*", NASTY])
def test_latex_table_is_whole(first):
    table = (["variant", "a & b"], [[first, NASTY], ["blind", "0.5"]])
    text = latex_table(table, caption=f"In `code`: {NASTY}", label="fusion-main")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert begun == ended[::-1] == ["table", "tabular"]
    body = text[text.index(r"\toprule") : text.index(r"\end{tabular}")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {1}
    # After a line break or a rule a bracket or a star would be taken for an argument.
    assert not any(row.lstrip().startswith(("[", "*", "(")) for row in rows)
    # Columns stand under one another.
    assert len({re.search(r"(?<!\\)&", row).start() for row in rows}) == 1
    left = plain(text)
    assert left.count("{") == left.count("}")
    assert "`" not in text


def test_every_table_of_the_report_is_exported(headline, tmp_path, undrawn):
    path = write_report(headline, tmp_path, title="x", claims=ALL_CLAIMS, command="make it")
    captions = re.findall(r"^\*Table (\d+)\. ", path.read_text(), flags=re.MULTILINE)
    assert captions == [str(number + 1) for number in range(len(captions))]
    files = {file.name for file in (tmp_path / "tables").iterdir()}
    names = {name.removesuffix(".tex") for name in files if name.endswith(".tex")} - {"methods"}
    assert len(names) == len(captions)
    assert files == {f"{name}.{kind}" for name in names for kind in ("csv", "tex")} | {
        "runs.csv",
        "methods.tex",
    }
    labels = set()
    for name in names:
        text = (tmp_path / "tables" / f"{name}.tex").read_text()
        labels |= set(re.findall(r"\\label{tab:([a-z0-9-]+)}", text))
        lines = parsed((tmp_path / "tables" / f"{name}.csv").read_text())
        # Toprule, header, midrule, rows, bottomrule.
        assert text.count(r" \\" + "\n") == len(lines), name
        assert len({len(line) for line in lines}) == 1, name
    assert labels == {f"fusion-{name}" for name in names}


def test_methods_hold_the_numbers_that_a_paper_needs(headline):
    model, statistics, hardware = methods_section(headline)
    for words in (
        "We compare 8 variants: blind, mean-pool, ",
        "resampler and oracle-attention.",
        "from 123,457 to 123,464 parameters",
        "2 layers of width 64 with 4 attention heads",
        "trained from 5 random seeds for 800 steps on batches of 64 texts",
        "from 9,973 training images of scenes, 2 texts per image in a batch",
        "They differ in model.context_view and share all other settings",
        "weight decay 0.01",
        "first 10 % of the steps",
        "global norm of 1.",
        "The peak learning rate is 0.004 for all variants; it was not tuned per variant.",
    ):
        assert words in model
    assert "iid with 997 images and 991 questions (331 colour, 330 shape, 330 count)" in statistics
    assert "pairs with 251 images and 254 questions (127 colour, 127 shape)" in statistics
    assert "swap with 198 images and 99 pairs" in statistics
    assert "10,000" not in model + statistics
    assert "1,000 images" not in model + statistics
    assert f"{PRIMARY}, a mean over 254 items per seed" in statistics
    assert "9 comparisons" in statistics
    assert "2 x cpu on Imagined Processor 7 (x86_64), in 2026-11" in hardware
    assert "python 3.11.7, jax 0.10.2 and flax 0.12.8" in hardware
    assert "12.3 ms (blind) to 19.3 ms (oracle-attention)" in hardware
    assert len(ALL_LEVELS) == 8


def test_methods_say_nothing_that_is_not_known(headline):
    runs = [{"variant": "a", "seed": 0, "metrics": {PRIMARY: 0.5}}]
    bare = {**headline, "runs": runs, "comparisons": [], "environment": {}}
    bare |= {"settings": {}, "counts": {}, "asked": {}}
    text = " ".join(methods_section(bare))
    assert text.startswith("We compare 1 variant: a. Every variant was trained from 1 random seed.")
    assert "None" not in text
    assert "learning rate" not in text


def test_wrapped_latex_breaks_no_word():
    words = ["cross-attention", "50 %"] * 30
    text = latex_paragraph([" ".join(words)])
    assert " ".join(text.split()).replace(r"\%", "%") == " ".join(words)
    assert max(map(len, text.splitlines())) <= 100
