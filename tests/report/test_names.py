"""Names are plain text wherever they stand: never mathematics, markup, formulas or commands."""

import csv
import dataclasses
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from crossattn.report import evaluation
from crossattn.report.document import write_report
from crossattn.report.figures.attention import head_heat_maps, pointing_scatter
from crossattn.report.figures.gallery import draw_gallery
from crossattn.report.figures.learning import learning_curves
from crossattn.report.figures.style import WIDTH, ReportFigure
from crossattn.report.figures.variants import accuracy_by_split, forest_plot, knockout_plot
from crossattn.report.render.csv_files import csv_cell
from crossattn.report.render.escaping import visible
from crossattn.report.render.latex import latex_text
from crossattn.report.render.markdown import (
    code,
    fenced,
    markdown_table,
    markdown_text,
    without_html,
)
from crossattn.report.render.terminal import terminal_table
from crossattn.report.tables.main import terminal_report
from tests.support.made_up import make_curves, make_gallery, make_results

ROOT = Path(__file__).resolve().parents[2]

NASTY = [
    "is it $$ or so?",
    "from $5 to $10",
    r"$\frac$",
    "$x",
    "a|b",
    "a\\|b",
    "ends in \\",
    "`x` ``y",
    "*a* _b_ __c__ ~~d~~",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- -->",
    "a & b &amp; &#60;",
    "[x](javascript:alert(1))",
    "![x](y)",
    "# head",
    "> quote",
    "- item",
    "1. item",
    "line\nbreak",
    "carriage\rreturn",
    "tab\tbed",
    "red \x1b[31m and bell \x07",
    "zero\0",
    "\x9b31m",
    "right to \u202e left",
    "line\u2028separator",
    "=1+2",
    "+cmd|' /C calc'!A0",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    " =1",
    "\uff1d1",
    "100 % #1 ~ ^ {x} \\today",
    "हिन्दी 文字 🙂",
    "a" * 90,
]


def printed(text):
    """A text as a page shows it."""
    return html.unescape(re.sub("<[^>]+>", "", text)).strip("\n")


@pytest.mark.parametrize("name", NASTY)
def test_markdown_prints_names_as_they_stand(name):
    writer, shown = MarkdownIt("js-default"), visible(name)
    said = markdown_text(name)
    assert "\n" not in said
    assert printed(writer.render(f"so {said} it")) == f"so {shown} it"
    assert printed(writer.render(f"## {said}")) == shown.strip()
    assert printed(writer.render(code(name))) == shown
    assert "<script" not in said.replace("\\<", "")
    table = markdown_table((["v", "w"], [[name, "1"], ["b", name]]))
    assert len(table.splitlines()) == 4
    cells = re.findall(r"<td[^>]*>(.*?)</td>", writer.render(table))
    # Cells hold text alone: no markup came of it.
    assert [html.unescape(cell) for cell in cells] == [shown.strip(), "1", "b", shown.strip()]


@pytest.mark.parametrize("name", NASTY)
def test_csv_cells_are_no_formulas(name):
    cell = csv_cell(name)
    (row,) = csv.reader(io.StringIO(f'"{cell.replace(chr(34), chr(34) * 2)}",1\n'))
    assert row == [cell, "1"]
    assert not cell.lstrip().startswith(tuple("=+-@\uff1d\t\r")) or cell == "- item"
    assert cell.lstrip("'").strip() == visible(name, keep="\n").strip()


@pytest.mark.parametrize(
    "number",
    ["-0.1", "+0.5", "12", "-", "1,234", "+0.1 [-0.2, +0.3]", "-3.5e-05", "0.5 ± 0.1", "-1 %"],
)
def test_numbers_stay_numbers(number):
    assert csv_cell(number) == (number if number != "-" else "'-")
    if number != "-":
        assert markdown_table((["a"], [[number]])).endswith(f"| {number} |")


@pytest.mark.parametrize("name", NASTY)
def test_terminals_and_latex_get_no_control_characters(name):
    for text in (terminal_table((["v", "w"], [[name, "1"]])), visible(name)):
        assert all(letter.isprintable() or letter in "\n\u200d" for letter in text), text
    assert terminal_table((["v", "w"], [[name, "1"]])).count("\n") == 1
    assert latex_text(name).isprintable()


def test_words_of_all_scripts_stay_whole():
    for word in ("हिन्दी", "क्‍ष", "می‌خواهم", "ກິນ\u200bເຂົ້າ", "cafe\u0301", "שָׁלוֹם", "👩‍🚀"):
        assert visible(word) == markdown_text(word) == csv_cell(word) == word


def test_names_within_code_and_notes():
    assert fenced("a\n```\nb") == "````\na\n```\nb\n````"
    assert without_html("*a* <script>x</script> `<b>` ``c ` <d>`` <https://x.org>") == (
        "*a* &lt;script>x&lt;/script> `<b>` ``c ` <d>`` <https://x.org>"
    )
    assert without_html("a\\<b> \x1b[1m") == "a\\&lt;b> \\x1b[1m"


def renamed(thing, names):
    """The same structure with other names, as keys and as values."""
    if isinstance(thing, str):
        return names.get(thing, thing)
    if isinstance(thing, dict):
        return {renamed(key, names): renamed(value, names) for key, value in thing.items()}
    if isinstance(thing, list):
        return [renamed(item, names) for item in thing]
    return thing


def nasty_suite(results, first, second):
    runs = [
        {**run, "metrics": dict(run["metrics"], **{f"iid/accuracy/{second}": 0.5})}
        for run in results["runs"]
    ]
    names = {"blind": first, "cross-attention": second, "fusion": first, "2 x cpu": second}
    # JSON tells lists from tuples no more: as results.json is read.
    return renamed(json.loads(json.dumps({**results, "runs": runs})), names)


def nasty_gallery(word):
    return dataclasses.replace(
        make_gallery(), words=[[word] * 5, [word] * 4, [word]], captions=[word * 3] * 3, of=word
    )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attributes]


@pytest.mark.parametrize("start", range(0, len(NASTY) - 1, 6))
def test_a_report_holds_whatever_names_hold(start, pair, tmp_path, undrawn):
    first, second = NASTY[start], NASTY[start + 1]
    results = nasty_suite(pair, first, second)
    path = write_report(
        results,
        tmp_path,
        title=NASTY[start],
        claims=[(second, first)],
        notes=[f"A note on {NASTY[-start - 1]}"],
        command="make it",
    )
    markdown, page = path.read_text(), (tmp_path / "report.html").read_text()
    reader = Tags()
    reader.feed(page)
    assert not reader.tags & {"script", "iframe", "object"}
    assert not [name for name in reader.attributes if name.startswith("on")]
    assert not re.search(r"(?<!\\)<(script|img)", markdown)
    for text in (markdown, page, terminal_report(results)):
        assert all(letter.isprintable() or letter in "\n\u200d" for letter in text)
    for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({len(re.split(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1, block
    for file in (tmp_path / "tables").glob("*.csv"):
        rows = list(csv.reader(io.StringIO(file.read_text())))
        assert len({len(row) for row in rows}) == 1, file
    assert html.escape(visible(first)) in page


@pytest.fixture(scope="module")
def pair():
    return make_results(3, ("blind", "cross-attention"))[0]


@pytest.mark.parametrize("name", ["is it $$ or so?", r"हिन्दी 文字 🙂 $\frac$ " + "a" * 90])
def test_no_figure_reads_mathematics(name, pair):
    """Every text of every figure, before and after it is painted."""
    results = nasty_suite(pair, visible(name), "other")
    runs, chance = results["runs"], results["chance"]
    metrics = ["pairs/accuracy", "iid/accuracy/other"]
    curves = {visible(name): make_curves(2)["blind"]}
    drawn = [
        forest_plot(results["comparisons"]),
        pointing_scatter(runs, primary="pairs/accuracy", chance=chance),
        accuracy_by_split(runs, metrics, chance=chance),
        head_heat_maps(runs, chance=chance)["pointing"],
        knockout_plot(runs, chance=chance),
        learning_curves(curves),
        draw_gallery(nasty_gallery(visible(name))),
        evaluation.layers({"pointing/answer/layer0": 0.5}, {}),
    ]
    for figure in drawn:
        assert not any(text.get_parse_math() for text in figure.findobj(Text))
        FigureCanvasAgg(figure).draw()
        assert not any(text.get_parse_math() for text in figure.findobj(Text))


def test_every_figure_is_a_sheet():
    """matplotlib's own figure reads mathematics: it is nowhere made."""
    for folder in ("crossattn", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "style.py":
                continue
            made = re.findall(
                r"^(?!.*>>>).*\b(?:Figure|plt\.\w+)\(", path.read_text(), re.MULTILINE
            )
            assert not made, path
    assert np.isclose(ReportFigure(1.5).get_size_inches(), (WIDTH, 1.5)).all()
