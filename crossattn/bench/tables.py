"""The tables of a benchmark, as Markdown and for the terminal, and its figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crossattn.files import write_atomically
from crossattn.report.figures.style import png
from crossattn.report.render.blocks import Table
from crossattn.report.render.markdown import markdown_table
from crossattn.report.render.terminal import terminal_table

from .ceilings import Ceilings
from .figure import ratios
from .shared_options import BenchOptions
from .summary import details, geometric_means, overview, reasons


def write_tables(
    benchmark: type[BenchOptions],
    folder: Path,
    about: dict[str, Any],
    records: list[dict[str, Any]],
) -> list[str]:
    """Write table.md and ratios.png beside results.json; returns what a terminal is shown."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["title"], []).append(record)
    figure = ratios(groups, by_shape=benchmark.by_shape, xlabel=benchmark.ratio)
    write_atomically(folder / "ratios.png", png(figure))
    heading = [f"# {about['benchmark']}", f"`{about['command']}`, {about['date']}."]
    heading += [_where(about), f"Ratios are {benchmark.ratio}: the median over rounds."]
    body = _text(benchmark, groups, markdown_table, "## ", details_too=True)
    parts = [*heading, *body, *_ends(about, "* ")]
    write_atomically(folder / "table.md", "\n\n".join(parts) + "\n")
    shown = _text(benchmark, groups, terminal_table, "", details_too=False)
    return [*shown, *_ends(about, "")]


def _text(
    benchmark: type[BenchOptions],
    groups: dict[str, list[dict[str, Any]]],
    draw: Callable[[Table], str],
    mark: str,
    *,
    details_too: bool,
) -> Iterator[str]:
    for title, records in groups.items():
        yield f"{mark}{title}"
        if benchmark.by_shape:
            yield draw(overview(records))
            if means := geometric_means(records):
                yield "Geometric means but decode: " + "; ".join(means) + "."
        if details_too or not benchmark.by_shape:
            for record in records:
                yield f"{mark and '### '}{record_heading(record)}"
                yield draw(details(record))
        if missing := reasons(records):
            yield "\n".join(f"{mark and '* '}{line}" for line in missing)


def record_heading(record: dict[str, Any]) -> str:
    """What a table of details is of."""
    shape = record["shape"]
    sizes = " ".join(f"{letter}={shape[letter]}" for letter in "BTSHD")
    more = [f"K={shape['K']}"] if shape["K"] else []
    more += [f"{shape['layers']} layers"] if "layers" in shape else []
    more += [record["mask"]] if record.get("mask") else []
    kept = "" if "mask" not in record else f", {record['title']}"
    rounds = f"{record['rounds']} rounds"
    return f"{shape['name']}: {', '.join([' '.join([sizes, *more]), rounds])}{kept}"


def _ends(about: dict[str, Any], mark: str) -> Iterator[str]:
    """Ceilings, what is missing, and verdicts, where a benchmark has them."""
    if "ceilings" in about:
        best = Ceilings(**about["ceilings"])
        yield (
            f"Ceilings of this run: {best.flops / 1e12:.3g} TFLOP/s (a product, {best.product}), "
            f"{best.bytes / 1e9:,.3g} GB/s (a copy of {best.copy})."
        )
    if lines := [f"{mark}out of time, not measured: {n}" for n in about.get("missing", ())]:
        yield "\n".join(lines)
    if lines := [f"{mark}{line}" for line in about.get("verdicts", ())]:
        yield "\n".join(lines)


def _where(about: dict[str, Any]) -> str:
    """The machine and the versions, in words."""
    first = about["workers"][0]
    where = [about["processor"]]
    if first["device"] != "cpu":
        where.append(first["device"])
    for worker in about["workers"]:
        one = f"{worker['threads']} thread{'s' * (worker['threads'] > 1)}"
        if worker["cores"] is None:
            where.append(f"{one} of torch only (this system cannot limit those of jax)")
        else:
            where.append(f"{one} on core {', '.join(map(str, worker['cores']))}")
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return f"{'; '.join(where)}; {versions}."
