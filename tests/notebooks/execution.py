"""Notebooks: read from their sources, executed, and written with what came out.

`python -m tests.notebooks.execution` writes all of them anew (`make notebooks`).
"""

import datetime
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NAMES = ("alignment", "your_code")
INSTALL = "install"  # the tag of the cell that is for Colab alone


def source_of(name: str) -> Any:
    """The notebook that a source in the percent format describes, without outputs."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{number}"
    notebook.metadata.pop("jupytext", None)
    return notebook


def committed(name: str) -> Any:
    """The notebook with outputs, as it is in the repository."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def executed(name: str) -> Any:
    """The notebook with outputs, run from its beginning in a process and a folder of its own."""
    from nbclient import NotebookClient

    notebook = source_of(name)
    # Tests compile for speed of compiling and draw into files; a reader does neither.
    ours = ("XLA_FLAGS", "MPLBACKEND")
    environment = {key: x for key, x in os.environ.items() if key not in ours}
    environment["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=1800,
            skip_cells_with_tag=INSTALL,
            resources={"metadata": {"path": folder}},
        )
        client.execute(env=environment)
    return notebook


def seconds(cell: Any) -> float:
    """How long an executed cell took."""
    told = cell.metadata.get("execution", {})
    if "iopub.execute_input" not in told:
        return 0.0
    begun, ended = (
        datetime.datetime.fromisoformat(told[key].replace("Z", "+00:00"))
        for key in ("iopub.execute_input", "iopub.status.idle")
    )
    return (ended - begun).total_seconds()


def told_seconds(notebook: Any) -> str:
    """How long its cells took: the first picture, the longest, all of them."""
    took = [seconds(cell) for cell in notebook.cells]
    pictured = [any(kind == "image/png" for kind, _ in outputs(cell)) for cell in notebook.cells]
    first = sum(took[: pictured.index(True) + 1])
    each = " ".join(f"{t:.0f}" for t in took)
    parts = {"first picture": first, "longest cell": max(took), "all": sum(took)}
    return f"{', '.join(f'{part} {t:.0f} s' for part, t in parts.items())} ({each})"


def without_times(notebook: Any) -> Any:
    """As it is written: two executions differ by what they found alone."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def outputs(cell: Any) -> Iterator[tuple[str, str]]:
    """(kind, text) of what a cell shows; kinds are MIME types and names of streams."""
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            yield output.name, output.text
        elif output.output_type == "error":
            yield "error", "\n".join(output.traceback)
        yield from output.get("data", {}).items()


def main(names: list[str]) -> None:
    """Write notebooks anew, and say how long their cells took."""
    for name in names or NAMES:
        notebook = executed(name)
        told = told_seconds(notebook)
        path = FOLDER / f"{name}.ipynb"
        nbformat.write(without_times(notebook), path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.2f} MB, {told}")


if __name__ == "__main__":
    main(sys.argv[1:])
