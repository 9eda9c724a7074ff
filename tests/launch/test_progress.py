"""One bar: lines in a log, one place in a notebook's cell."""

import sys
import types

import pytest

from crossattn.launch import progress
from crossattn.launch.progress import Bar, ProgressBar


def run(bar):
    """Two runs of three steps under a bar."""
    told = Bar(bar, lambda: None)
    for label in ("blind seed 0", "blind seed 1"):
        for step in range(4):
            told(label, step, {"loss": 4.0 - step})
    bar.say("ablate: half of it is done")


def test_a_log_has_lines_and_no_carriage_returns(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.0)
    with ProgressBar(6, "compiling") as bar:
        run(bar)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "\r" not in shown.err
    lines = shown.err.splitlines()
    assert all(lines), lines
    assert lines[0].startswith("compiling: 0/6 steps in 00:00")
    assert lines[-1].startswith("blind seed 1: 6/6 steps in 00:00, 00:00 left")
    assert lines[-1].endswith("loss=1.000")
    assert "ablate: half of it is done" in lines


def test_a_log_is_not_flooded(capsys):
    with ProgressBar(6, "compiling") as bar:
        run(bar)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_what_is_hidden_still_speaks(capsys):
    with ProgressBar(6, "compiling", hidden=True) as bar:
        run(bar)
    assert capsys.readouterr().err == "ablate: half of it is done\n"


@pytest.fixture
def cell(monkeypatch):
    """What a notebook's cell shows: one text, changed in place."""
    shown = []

    class Handle:
        def update(self, data, raw):
            assert raw
            shown[-1] = data["text/plain"]

    def display(data, raw, display_id):
        assert raw
        assert display_id
        shown.append(data["text/plain"])
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    python = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    return shown


def test_a_notebook_has_one_place_and_nothing_else(cell, capsys):
    with ProgressBar(6, "compiling") as bar:
        run(bar)
    (text,) = cell
    line, message = text.splitlines()
    assert line.startswith("blind seed 1: 100%|")
    assert "6/6" in line
    assert len(line) <= progress.CELL_COLUMNS
    assert message == "ablate: half of it is done"
    progress.tell_user("2 runs are finished")
    assert capsys.readouterr() == ("2 runs are finished\n", "")
