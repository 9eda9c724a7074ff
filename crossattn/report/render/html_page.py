"""report.html: the whole report in one file that needs no other, also on a telephone or at night.

Figures are data URIs, the style sheet is inline, and there is no script.
"""

import base64
import html
import re
from collections.abc import Sequence

from markdown_it import MarkdownIt

from crossattn.report.render.blocks import (
    Banner,
    Block,
    FigureBlock,
    Heading,
    Table,
    TableBlock,
    TextBlock,
    numbered,
    wordy,
)
from crossattn.report.render.csv_files import NUMBERS
from crossattn.viewer.markup import html_text as _plain

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --faint: #5c5c5c;
  --line: #d4d4d4; --band: #f5f5f5; --link: #0057a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --faint: #a8adb5;
  --line: #3c4048; --band: #1f2228; --link: #8cc4ff; } }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.2rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; margin: 2.2rem 0 0.6rem; }
h1 { margin-top: 0.8rem; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: 0.2rem; }
a { color: var(--link); }
p, li { max-width: 46rem; }
h2 > a { color: inherit; text-decoration: none; }
h2 > a:hover { text-decoration: underline; }
nav { background: var(--band); border: 1px solid var(--line); border-radius: 6px;
  padding: 0.6rem 1.2rem; }
nav ul { columns: 16rem; list-style: none; margin: 0.3rem 0; padding: 0; }
.banner { border: 2px solid #c2410c; border-radius: 6px; max-width: none; padding: 0.6rem 1rem; }
figure { margin: 1.6rem 0; }
figure img { background: #ffffff; border-radius: 6px; height: auto; max-width: 100%; }
figcaption, caption { color: var(--faint); font-size: 0.92rem; text-align: left; }
figcaption, caption { max-width: 46rem; }
/* A table that is wider than the page scrolls by itself, and a shade at its edge says so. */
.scroll { margin: 1.6rem 0; overflow-x: auto; background:
    linear-gradient(to left, var(--paper) 40%, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--line), transparent) right / 1rem 100% no-repeat scroll; }
.scroll figcaption { left: 0; padding-bottom: 0.4rem; position: sticky; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
thead th { border-bottom: 1.5px solid var(--ink); vertical-align: bottom; }
tbody tr:nth-child(even) { background: var(--band); }
th, td { border-bottom: 1px solid var(--line); font-weight: normal; padding: 0.25rem 0.5rem;
  text-align: right; white-space: nowrap; }
thead th { font-weight: 600; white-space: normal; }
tr > :first-child, .words { text-align: left; }
td.words { min-width: 16rem; }
.texts td.words { min-width: 9rem; }
td.words, td.phrase { white-space: normal; }
tbody th { background: var(--paper); left: 0; position: sticky; }
tbody tr:nth-child(even) > th { background: var(--band); }
pre { background: var(--band); border-radius: 6px; overflow-x: auto; padding: 0.7rem 1rem; }
code { font-size: 0.92em; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: 0.6rem 0.8rem 3rem; }
  h1 { font-size: 1.5rem; }
  tbody th { max-width: 9rem; overflow-wrap: break-word; white-space: normal; } }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""


def to_html(blocks: Sequence[Block]) -> str:
    """The report as HTML; the first level-1 heading is its title, level 2 makes the contents.

    Example:
        >>> text = to_html([Heading("fusion", 1), Heading("Results"), TextBlock("**Yes** & <no>.")])
        >>> '<h2 id="results">' in text, "<strong>Yes</strong> &amp; &lt;no&gt;." in text
        (True, True)
    """
    heads = [block for block in blocks if isinstance(block, Heading)]
    title = next((head.text for head in heads if head.level == 1), "Report")
    contents = [head.text for head in heads if head.level == 2]
    places = dict(zip(contents, anchors(contents), strict=True))
    # Raw HTML within Markdown stays text: this preset leaves it off.
    writer = MarkdownIt("js-default")
    body = "\n".join(
        _html(block, number, writer, places) + (_contents(places) if _is_title(block) else "")
        for block, number in numbered(blocks)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_plain(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def anchors(headings: Sequence[str]) -> list[str]:
    """A name for each heading that a link can point to, no two alike.

    Example:
        >>> anchors(["What it costs", "Claims", "Claims"])
        ['what-it-costs', 'claims', 'claims-2']
    """
    found: list[str] = []
    for heading in headings:
        name = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"
        count = sum(re.sub(r"-\d+$", "", other) == name for other in found)
        found.append(f"{name}-{count + 1}" if count else name)
    return found


def _is_title(block: Block) -> bool:
    return isinstance(block, Heading) and block.level == 1


def _contents(places: dict[str, str]) -> str:
    if not places:
        return ""
    links = "\n".join(
        f'<li><a href="#{place}">{_plain(text)}</a></li>' for text, place in places.items()
    )
    return f'\n<nav aria-label="Contents">\n<ul>\n{links}\n</ul>\n</nav>'


def _html(block: Block, number: str, writer: MarkdownIt, places: dict[str, str]) -> str:
    match block:
        case Heading(text, 2):
            place = places[text]
            return f'<h2 id="{place}"><a href="#{place}">{_plain(text)}</a></h2>'
        case Heading(text, level):
            return f"<h{level}>{_plain(text)}</h{level}>"
        case Banner(text):
            return f'<p class="banner" role="note"><strong>{_plain(text)}</strong></p>'
        case TextBlock(text):
            return str(writer.render(text)).strip()
        case FigureBlock(_, caption, png):
            return _figure(number, caption, png, writer)
        case TableBlock(_, caption, table):
            said = f"<figcaption>{number}. {writer.renderInline(caption)}</figcaption>"
            label = html.escape(f"{number}")
            # A keyboard scrolls what it can reach.
            scroll = f'<figure class="scroll" tabindex="0" aria-label="{label}">'
            return f"{scroll}\n{said}\n{_table(table)}\n</figure>"


def _figure(number: str, caption: str, png: bytes, writer: MarkdownIt) -> str:
    data = base64.b64encode(png).decode()
    # Pixels as a PNG of twice the density says them: sharp, and as wide as the text.
    width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
    said = writer.renderInline(caption)
    words = html.escape(html.unescape(re.sub(r"<[^>]+>", "", said)))
    return (
        f'<figure>\n<img alt="{words}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{data}">\n'
        f"<figcaption>{number}. {said}</figcaption>\n</figure>"
    )


def _table(table: Table) -> str:
    header, rows = table
    style = [' class="words"' if long else "" for long in wordy(table)]
    # The first column is read from the left, and as narrow as its names.
    texts = ' class="texts"' if sum(map(bool, style[1:])) > 2 else ""
    head = "".join(
        f'<th scope="col"{own}>{_plain(cell)}</th>' for own, cell in zip(style, header, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + f'<th scope="row">{_plain(first)}</th>'
        + "".join(
            f"<td{own or _phrase(cell)}>{_plain(cell)}</td>"
            for own, cell in zip(style[1:], rest, strict=True)
        )
        + "</tr>"
        for first, *rest in rows
    )
    return f"<table{texts}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _phrase(cell: str) -> str:
    """Several words may stand on several lines; a number stays beside its interval."""
    return ' class="phrase"' if " " in cell and not NUMBERS.fullmatch(cell) else ""
