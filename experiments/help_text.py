"""What tyro prints, as people read it: help in groups, and errors in one line."""

import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator

from crossattn.spelling import nearest

# What tyro draws boxes with, and what takes its place where an encoding lacks it.
BOXES = "─│╭╮╰╯├┤"
PLAIN_BOXES = str.maketrans(BOXES, "-|++++++")
# A longer line is hard to read.
WIDEST = 100


def drawable(manual: str) -> str:
    """Boxes as the terminal or the pipe can show them."""
    try:
        BOXES.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return manual.translate(PLAIN_BOXES)
    return manual


@contextlib.contextmanager
def one_column() -> Iterator[None]:
    """Within, tyro draws boxes one under the other, of at most `WIDEST` letters."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def help_page(manual: str, group: str | None) -> str:
    """The boxes of one group of options and of those within it, or of all that are within none.

    Raises:
      ValueError: there is no such group.
    """
    usage, *boxes = re.split(r"(?m)^(?=╭─)", manual)
    titles = [(re.match(r"╭─ ([\w.-]*) ?options ", box) or [""] * 2)[1] for box in boxes]
    inner = [title for title in titles if "." in title]
    if group is None:
        shown = [box for title, box in zip(titles, boxes, strict=True) if title not in inner]
        layout = textwrap.TextWrapper(78, break_on_hyphens=False, subsequent_indent="  ")
        more = f"--help GROUP shows more options: {', '.join(inner)}."
        return usage + "".join(shown) + (f"{layout.fill(more)}\n" if inner else "")
    within = lambda title: f"{title}.".startswith(f"{group}.")
    shown = [box for title, box in zip(titles, boxes, strict=True) if within(title)]
    if not shown:
        known = nearest(group, filter(None, titles))
        raise ValueError(f"--help {group}: there is no such group: {known}")
    return usage + "".join(shown)


def titled(manual: str) -> str:
    """The boxes of tyro's --help under the names of what they hold.

    Example:
      >>> print(titled("╭─ options ────────╮\\n╭─ data options ───╮"))
      ╭─ what to run ────╮
      ╭─ data ───────────╮
    """

    def title(box: re.Match[str]) -> str:
        start = f"{box[1]}{box[2].strip() or 'what to run'} "
        return start.ljust(len(box[0]) - 1, box[3][-1]) + box[4]

    return re.sub(r"(?m)^(╭─ | )([\w.-]* ?)options ([─ ]+)([╮ ])$", title, manual)


def error_line(box: str) -> str:
    """The message inside the box that tyro draws: what is wrong, and what the option takes.

    Example:
      >>> error_line("top\\n│ Unrecognized options: --stesp │\\n│ --steps INT │")
      'Unrecognized options: --stesp; did you mean --steps INT? (see --help)'
    """
    lines = [re.sub(r"[\u2500-\u257f]", " ", line).strip() for line in box.splitlines()[1:]]
    said: list[str] = []
    takes = ""
    for line in filter(None, lines):
        if line.startswith("--") and said and not takes:
            takes = line
        if not takes and not line.startswith(("For full", "Argument help", "Perhaps", "Default")):
            said.append(line)
    message = re.sub(r"^Error parsing (\w*Options|run[.\w]*): ", "", " ".join(said))
    message = message.removeprefix("Error parsing ").rstrip(".")
    more = ""
    if "Unrecognized" in message and "--model." in message:
        more = ", --help model.block"
        takes = "--model.heads INT" if re.search(r"-attention\.heads\b", message) else takes
    if takes and "Unrecognized" in message:
        message += f"; did you mean {takes}?"
    elif takes:
        message += f"; it takes {takes}"
    return f"{message} (see --help{more})"
