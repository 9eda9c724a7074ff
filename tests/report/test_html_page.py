"""report.html is well-formed, needs no other file, and says what report.md says."""

import base64
import html
import re
from html.parser import HTMLParser

import pytest

from crossattn.report.document import write_report
from crossattn.report.render.blocks import FigureBlock, Heading, TableBlock, TextBlock
from crossattn.report.render.html_page import anchors, to_html
from tests.support.made_up import ALL_CLAIMS

VOID = {"meta", "img", "br", "hr"}


class Reader(HTMLParser):
    """Checks that tags are balanced; collects elements and text."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture
def written(headline, tmp_path, undrawn):
    write_report(
        headline,
        tmp_path,
        title="eight <ways> & more",
        claims=ALL_CLAIMS,
        notes=["A *note* on `a < b`, with [a link](#claims)."],
        command="python -m experiments.ablate fusion",
    )
    return tmp_path


def test_page_is_whole_and_needs_no_other_file(written):
    text = (written / "report.html").read_text()
    reader = read(text)
    figures = sorted((written / "figures").iterdir())
    shown = [image["src"] for image in reader.all("img")]
    assert all(source.startswith("data:image/png;base64,") for source in shown)
    data = {base64.b64decode(source.split(",")[1]) for source in shown}
    assert len(shown) == len(figures)
    assert data == {path.read_bytes() for path in figures}
    for name, attributes in reader.elements:
        assert name not in ("script", "link", "iframe", "base")
        assert attributes.get("href", "#").startswith("#"), attributes
        assert name == "img" or "src" not in attributes
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_links_of_the_contents_lead_to_headings(written):
    reader = read((written / "report.html").read_text())
    places = [attributes["id"] for attributes in reader.all("h2")]
    assert len(set(places)) == len(places)
    links = [attributes["href"] for attributes in reader.all("a")]
    assert links[: len(places)] == [f"#{place}" for place in places]
    heads = re.findall(r"^## (.*)$", (written / "report.md").read_text(), flags=re.MULTILINE)
    assert anchors(heads) == places


def test_page_says_what_the_markdown_says(written):
    reader = read((written / "report.html").read_text())
    markdown = (written / "report.md").read_text()
    words = "".join(reader.words)
    captions = re.findall(r"^\*((?:Figure|Table) \d+\. .*)\*$", markdown, flags=re.MULTILINE)
    assert len(captions) == len(reader.all("figcaption"))
    for caption in captions:
        assert caption.replace("`", "") in words
    alternatives = [image["alt"] for image in reader.all("img")]
    figures = [caption for caption in captions if caption.startswith("Figure")]
    assert alternatives == [caption.split(". ", 1)[1] for caption in figures]
    rows = [line for line in markdown.splitlines() if re.match(r"\| [^:]", line)]
    assert len(reader.all("tr")) == len(rows)
    cells = [cell for row in rows for cell in row.strip("| ").split(" | ")]
    assert len(reader.all("td")) + len(reader.all("th")) == len(cells)
    assert "eight <ways> & more" in words


def test_what_looks_like_html_stays_text():
    evil = '<script>alert("1")</script>'
    png = b"\0" * 24
    blocks = [
        Heading(evil, 1),
        Heading(evil),
        TextBlock(f"{evil} and [x](javascript:alert(1))"),
        TextBlock(f"```\n{evil}\n```"),
        FigureBlock("a", f'**{evil}** "b"', png),
        TableBlock("b", evil, ([evil] * 2, [[evil] * 2])),
    ]
    reader = read(to_html(blocks))
    assert "script" not in [name for name, _ in reader.elements]
    assert not any("javascript" in attributes.get("href", "") for attributes in reader.all("a"))
    # Title, heading, contents, heading; text, code; two captions, four cells.
    assert "".join(reader.words).count(evil) == 12
    assert reader.all("img")[0]["alt"] == f'{evil} "b"'
    assert html.escape(evil) in to_html(blocks)


def test_page_without_headings():
    reader = read(to_html([TextBlock("- one\n- two")]))
    assert not reader.all("nav")
    assert len(reader.all("li")) == 2
