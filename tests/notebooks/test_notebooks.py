"""The notebooks: what is committed is what their sources say, and has pictures and no warnings."""

import ast
import re
import tomllib

import pytest

jupytext = pytest.importorskip("jupytext", reason="pip install 'crossattn[dev]' has jupytext")

from tests.notebooks.execution import (  # noqa: E402
    FOLDER,
    INSTALL,
    NAMES,
    committed,
    executed,
    outputs,
    source_of,
    told_seconds,
)

ADDRESS = "https://github.com/crossattn/crossattn"
COLAB = "https://colab.research.google.com/github/crossattn/crossattn/blob/main/docs/notebooks/"
PICTURES = re.compile(r"plt\.show\(\)|\bexplore\(|\.figure\(\"")
TROUBLE = re.compile(r"warning|traceback|deprecat", re.IGNORECASE)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def lines(notebook):
    every = "\n".join(cell.source for cell in code(notebook)).splitlines()
    return [line for line in every if line.strip() and not line.lstrip().startswith("#")]


def assert_shown(notebook):
    """Every picture cell has its picture, and nothing looks like trouble."""
    for cell in code(notebook):
        found = dict(outputs(cell))
        assert not {"stderr", "error"} & found.keys(), (cell.source, found)
        text = "".join(text for kind, text in outputs(cell) if kind in ("stdout", "text/plain"))
        assert not TROUBLE.search(text), text
        if PICTURES.search(cell.source):
            assert {"image/png", "text/html"} & found.keys(), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed(name):
    notebook, source = committed(name), source_of(name)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ], "write it anew: make notebooks"
    assert notebook.metadata["accelerator"] == "TPU"
    assert notebook.metadata["colab"]["gpuType"] == "V5E1"
    assert len(notebook.cells) <= 30
    assert len(lines(notebook)) <= 200
    assert (FOLDER / f"{name}.ipynb").stat().st_size <= 1.5e6
    assert f"({COLAB}{name}.ipynb)" in notebook.cells[0].source
    assert_shown(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_one_line_installs_and_is_skipped_where_nothing_is_to_be_installed(name):
    tagged = lambda cell: INSTALL in cell.metadata.get("tags", ())
    (install,) = filter(tagged, code(source_of(name)))
    (line,) = install.source.splitlines()
    assert line.startswith(f"%pip install -q git+{ADDRESS} ")
    others = [cell.source for cell in code(source_of(name)) if not tagged(cell)]
    assert not re.search(r"^[%!]", "\n".join(others), flags=re.MULTILINE)
    for number, text in enumerate(others):
        ast.parse(text, f"{name}, cell {number}")


def test_the_address_is_that_of_the_project():
    urls = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())
    assert ADDRESS in urls["project"]["urls"].values()


def test_trouble_would_be_seen():
    notebook = jupytext.reads("# %%\nplt.show()", fmt="py:percent")
    with pytest.raises(AssertionError, match=r"plt\.show"):
        assert_shown(notebook)
    (shown,) = code(notebook)
    shown.outputs = [_output("stream", name="stdout", text="UserWarning: no\n")]
    with pytest.raises(AssertionError, match="UserWarning"):
        assert_shown(notebook)
    shown.outputs = [_output("display_data", data={"image/png": "", "text/plain": ""}, metadata={})]
    assert_shown(notebook)


def _output(kind, **fields):
    import nbformat

    return nbformat.v4.new_output(kind, **fields)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_the_beginning(name, capsys):
    """Times are said, not tested: 90 s for a cell and 10 minutes in all are the aim."""
    pytest.importorskip("nbclient", reason="pip install 'crossattn[dev]' has nbclient")
    notebook = executed(name)
    assert_shown(notebook)
    with capsys.disabled():
        print(f"\n{name}: {told_seconds(notebook)}")
