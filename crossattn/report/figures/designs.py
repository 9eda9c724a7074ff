"""A small drawing of each variant: how its words meet the picture, and what is new in it."""

import dataclasses
import difflib
import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from crossattn.report.figures.style import FONT, ReportFigure, label, without_mathtext
from crossattn.report.results.designs import Design

ACROSS = 2
# Beyond so many panels variants that look the same share one, and beyond that none are drawn.
MOST_PANELS = 16
# Inches of a unit upwards, and of a line of text.
UNIT, LINE = 0.36, 0.115
LETTERS, MOST_LINES = 62, 4
# Letters of boxes that fit across a panel.
LETTERS_ACROSS = 56
SMALL_FONT = 6
PLAIN, CROSS, NEW = "0.97", "#d9e9f5", "#fbe0b5"
EDGE, NEW_EDGE = "0.45", "#b84a00"
HEIGHT = 0.62

# Points between parts of a line.
SPACE = 1.8

Panel = tuple[list[str], Design]
# Texts of one line, and whether they say what is new.
Parts = list[tuple[str, bool]]


def panels_of(designs: Mapping[str, Design]) -> list[Panel]:
    """What is drawn: a panel for each variant, or for those that look the same.

    Example:
        >>> same = Design("picture", "nothing", ())
        >>> [names for names, _ in panels_of({"a": same, "b": same})]
        [['a'], ['b']]
        >>> len(panels_of({str(number): same for number in range(17)}))
        1
    """
    if len(designs) <= MOST_PANELS:
        return [([name], design) for name, design in designs.items()]
    found: dict[Any, list[str]] = {}
    for name, design in designs.items():
        found.setdefault(_boxes(design), []).append(name)
    return [(names, _shared([designs[name] for name in names])) for names in found.values()][
        :MOST_PANELS
    ]


def _boxes(design: Design) -> tuple[Any, ...]:
    """What is drawn, but for the name of what makes latents."""
    read = design.read.split("\n")[-1]
    ends = design.writes, design.compares
    return design.picture, read, design.groups, design.joint, design.tokens, ends


def _shared(designs: Sequence[Design]) -> Design:
    """The first of several variants that look the same, for all of them."""
    first = designs[0]
    if len(designs) == 1:
        return first
    return dataclasses.replace(first, read=first.read.split("\n")[-1])


@without_mathtext
def draw_designs(designs: Mapping[str, Design], baseline: str | None) -> Figure:
    """A panel for each variant, the first being what the others are compared with."""
    panels = panels_of(designs)
    first = next(iter(designs.values()))
    columns = max(_columns(design) for _, design in panels)
    notes = [_notes(names, design, first) for names, design in panels]
    rows = -(-len(panels) // ACROSS)
    lines = [max(map(len, notes[start : start + ACROSS])) for start in range(0, len(notes), ACROSS)]
    heights = [0.17 + 2.2 * UNIT + LINE * most for most in lines]
    figure = ReportFigure(sum(heights) + 0.06 * rows)
    grid = figure.subplots(rows, ACROSS, squeeze=False, height_ratios=heights)
    for axes in grid.ravel():
        axes.set_axis_off()
    for number, ((names, design), said) in enumerate(zip(panels, notes, strict=True)):
        axes = grid.ravel()[number]
        axes.set_xlim(0, columns)
        axes.set_ylim(-0.5 - lines[number // ACROSS] * LINE / UNIT, 1.7)
        title = label(names[0]) + (" (baseline)" if names[0] == baseline else "")
        axes.set_title(title, fontsize=FONT, fontweight="bold", loc="left", pad=2)
        _Panel(axes, design, first).draw()
        for line, parts in enumerate(said):
            _write(axes, -0.5 - line * LINE / UNIT, parts)
    return figure


def _columns(design: Design) -> int:
    return 2 + sum(len(group.words) for group in design.groups)


def _notes(names: Sequence[str], design: Design, first: Design) -> list[Parts]:
    """Lines below a drawing."""
    own, other = (one.summary.split(", ") for one in (design, first))
    grouped = itertools.groupby(own if design.summary else (), lambda part: part not in other)
    parts = [(", ".join(some), new) for new, some in grouped]
    said = [[*((f"{text},", new) for text, new in parts[:-1]), parts[-1]]] if parts else []
    same = f"also: {', '.join(names[1:])}"
    more = same if len(names) > 1 else "; ".join(design.notes)
    # Patterns of parameters are broken behind a bar.
    more = more.replace("|", "| ")
    wrapped = textwrap.wrap(more, LETTERS, max_lines=MOST_LINES - 1, placeholder=" …")
    return said + [[(line.replace("| ", "|"), len(names) == 1)] for line in wrapped]


def _write(axes: Any, height: float, parts: Parts) -> None:
    """A line of text, each part behind the one before."""
    place: dict[str, Any] = {"xy": (0.05, height), "xycoords": "data", "xytext": (0, 0)}
    for text, new in parts:
        colour = NEW_EDGE if new else "0.3"
        behind = axes.annotate(
            text, **place, textcoords="offset points", fontsize=SMALL_FONT, color=colour, va="top"
        )
        place = {"xy": (1, 1), "xycoords": behind, "xytext": (SPACE, 0)}


class _Panel:
    """Draws one design, the words below and the picture above.

    Attributes:
        axes: a unit to the right is a column, a unit upwards the distance of both streams.
        design: what is drawn.
        new: boxes that the baseline has not, as (stream, number).
        first: the baseline's design.
    """

    def __init__(self, axes: Any, design: Design, first: Design):
        self.axes, self.design, self.first = axes, design, first
        self.streams = any(any(group.picture) for group in design.groups)
        self.new = {(name, number) for name in ("words", "picture") for number in self._new(name)}

    def _new(self, stream: str) -> Iterator[int]:
        own, other = (
            [one for group in design.groups for one in getattr(group, stream)]
            for design in (self.design, self.first)
        )
        same = difflib.SequenceMatcher(None, other, own, autojunk=False).get_matching_blocks()
        kept = {block.b + step for block in same for step in range(block.size)}
        return (number for number in range(len(own)) if number not in kept)

    def draw(self) -> None:
        """Sources at the left, groups of sublayers, the next word or vectors at the right."""
        design, end = self.design, _columns(self.design) - 1
        self._box(0.5, 0, "words")
        new = design.picture != self.first.picture
        self._box(0.5, 1, design.picture, new=new)
        self._ends(end)
        if design.joint:
            for height in (0, 1):
                self._arrow((0.92, height), (1.08, 0.5))
            self._line(1, end, 0.5)
        else:
            self._line(0.9, end, 0)
        if self.streams:
            self._line(0.9, end - 0.1, 1)
        start = 1
        for group, other in itertools.zip_longest(design.groups, self.first.groups):
            if group is not None:
                self._group(group, start, new=other is not None and group.times != other.times)
                start += len(group.words)
        if design.read and not (design.read == "nothing" and design.compares):
            self._read()
        if design.tokens:
            self._arrow((1.25, 0.69), (1.25, 0.31))
            self._arrow((1.4, 0.31), (1.4, 0.69))
            self._box(2.15, 0.5, design.tokens, new=True, width=1.3, height=0.26)

    def _ends(self, end):
        """What comes out: the next word, vectors of text and picture that are compared, or both."""
        design, first = self.design, self.first
        own, other = ((one.writes, one.compares) for one in (design, first))
        both = "word,\nvector" if design.writes else "vector"
        said = both if design.compares else "next\nword"
        self._box(end + 0.5, 0.5 if design.joint else 0, said, new=own != other)
        if design.compares:
            self._line(0.9, end, 1)
            self._box(end + 0.5, 1, "vector", new=not first.compares)
            for start, tip in ((0.69, 0.31), (0.31, 0.69)):
                self._arrow((end + 0.5, start), (end + 0.5, tip))

    def _group(self, group, start, *, new):
        high = 1.4 if self.streams or self.design.joint else 0.42
        frame = Rectangle((start + 0.02, -0.42), len(group.words) - 0.04, high + 0.42, fill=False)
        frame.set(edgecolor=EDGE, linewidth=0.6, linestyle=(0, (3, 2)))
        self.axes.add_patch(frame)
        colour = NEW_EDGE if new else "0.3"
        end, small = start + len(group.words) - 0.08, SMALL_FONT - 0.5
        self.axes.text(
            end, high, group.times, fontsize=small, color=colour, ha="right", va="bottom"
        )
        for place, pair in enumerate(zip(group.words, group.picture, strict=True)):
            self._sublayer(start + place, *pair)

    def _sublayer(self, column, words, picture):
        x, joint = column + 0.5, self.design.joint
        for stream, height, name in (
            ("words", 0.5 if joint else 0, words),
            ("picture", 1, picture),
        ):
            if name:
                new = (stream, column - 1) in self.new or joint != self.first.joint
                size = 1.6 if joint else HEIGHT
                face = CROSS if name in ("cross", "merged") else PLAIN
                text = f"{name}\nof both" if joint else name
                self._box(x, height, text, new=new, face=face, height=size)
        if self.streams and words == "cross":
            self._arrow((x - 0.15, 0.69 if picture else 1), (x - 0.15, 0.31))
        if self.streams and picture == "cross":
            self._arrow((x + 0.15, 0.31 if words else 0), (x + 0.15, 0.69))

    def _read(self):
        """What stands between the picture and the words that read it."""
        own = [one for group in self.design.groups for one in group.words]
        places = [1.5 + place for place, one in enumerate(own) if one in ("cross", "merged")]
        # A long name takes the room at its left as well.
        left = max(1.15, places[0] - 1.1)
        right = max(places[-1] + 0.45, left + 1.5)
        if self.design.read != "nothing":
            self._line(0.9, left, 1)
        new = self.design.read != self.first.read
        self._box((left + right) / 2, 1, self.design.read, new=new, width=right - left)
        for x in places:
            if self.design.read != "nothing":
                self._arrow((x, 1 - HEIGHT / 2), (x, HEIGHT / 2))

    def _box(self, x, y, text, *, new=False, face=PLAIN, width=0.86, height=HEIGHT):
        box = Rectangle((x - width / 2, y - height / 2), width, height, zorder=2)
        box.set(facecolor=NEW if new else face, edgecolor=NEW_EDGE if new else EDGE)
        box.set_linewidth(1.3 if new else 0.7)
        self.axes.add_patch(box)
        room = LETTERS_ACROSS * width / self.axes.get_xlim()[1]
        font = SMALL_FONT * min(1, room / max(map(len, text.split("\n"))))
        where = {"ha": "center", "va": "center", "linespacing": 1, "zorder": 3}
        self.axes.text(x, y, text, fontsize=font, **where)

    def _line(self, start, end, y):
        self.axes.plot([start, end], [y, y], color=EDGE, linewidth=0.8, zorder=1)

    def _arrow(self, start, end):
        arrow = {"arrowstyle": "-|>", "color": "0.2", "linewidth": 0.8, "mutation_scale": 6}
        self.axes.annotate(
            "", end, start, arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0}, zorder=4
        )
