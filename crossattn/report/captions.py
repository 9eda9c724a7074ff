"""Captions of tables with a row of chance: what the cells hold, and what chance is there."""

from collections.abc import Iterator

from crossattn.report import prose
from crossattn.report.render.blocks import Table
from crossattn.report.render.markdown import code


def split_caption(split: str, table: Table) -> str:
    """What a table of `details.split_tables` holds, and what chance is there."""
    caption = prose.SPLITS.get(split) or prose.SPLIT.format(split=code(split))
    return " ".join([caption, prose.CELLS, *_chance("swap" if split == "swap" else "text", table)])


def attention_caption(reading: str, table: Table) -> str:
    """What a table of `details.attention_table` holds: "answer", "consumed" or "predicted"."""
    return " ".join([prose.READINGS[reading], prose.CELLS, *_chance("attention", table)])


def knockout_caption(table: Table) -> str:
    """What a table of `details.knockout_table` holds."""
    return " ".join([prose.KNOCKOUT, prose.CELLS, *_chance("text", table)])


def _chance(kind: str, table: Table) -> Iterator[str]:
    """What the row of chance means, where a table has one."""
    header, rows = table
    if rows and rows[0][0] == "chance":
        yield prose.CHANCE[kind]
        if any("perplexity" in name for name in header):
            yield prose.CHANCE["perplexity"]
        if kind == "text" and "0.000" in rows[0]:
            yield prose.CHANCE["zero"]
