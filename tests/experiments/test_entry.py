"""What commands print under any encoding, how they end, and names that nobody expects."""

import io
import sys

import pytest

import crossattn
from experiments import __main__ as front_door
from experiments import ablate, bench, caption, evaluate, import_weights, plan
from experiments.entry import ended, prepare_streams
from tests.support import driver

driver.install()


def printing(monkeypatch, encoding):
    """Standard output of such an encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    prepare_streams()
    return lambda: (stream.flush(), stream.buffer.getvalue().decode(encoding))[1]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "UTF-8"])
def test_what_an_encoding_does_not_have_is_printed_as_an_escape(encoding, monkeypatch, capsys):
    printed = printing(monkeypatch, encoding)
    wrong = [["--steps", "x"], ["--stesp", "3"], ["--model.block.cross-attention.heads", "2"]]
    for options in (*wrong, ["--help"]):
        with pytest.raises(SystemExit):
            ablate.main(["tiny", *options])
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" it takes ")[2] for line in lines[:1]] == ["--steps INT (see --help)"]
    assert lines[1].endswith("--stesp, 3; did you mean --steps INT? (see --help)")
    assert lines[2].endswith("; did you mean --model.heads INT? (see --help, --help model.block)")
    print("│ größe")
    assert ("╭─ what to run ─" in printed()) == (encoding == "UTF-8")
    assert ("+- what to run -" in printed()) == (encoding != "UTF-8")
    last = printed().splitlines()[-1]
    assert last.encode("ascii", "backslashreplace").decode().endswith(r"gr\xf6\xdfe")


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (None, 0),
        (SystemExit(0), 0),
        (SystemExit(2), 2),
        (SystemExit(None), 0),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (OSError(28, "No space left on device"), 2),
        (ValueError("a defect of ours"), 1),
    ],
)
def test_how_a_command_ends_is_the_exit_code_of_its_process(ending, code, capsys):
    def command(arguments):
        assert arguments == ["word"]
        if ending is not None:
            raise ending

    assert ended(command, ["word"]) == code
    said = capsys.readouterr().err
    assert ("Traceback" in said) == (code == 1)
    assert ("cannot print: No space left" in said) == isinstance(ending, OSError) * (code == 2)


def test_streams_that_are_closed_swallow_what_is_printed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    prepare_streams()
    for stream in (sys.stdout, sys.stderr):
        with stream:
            print("words", file=stream)


# Of what a shell hands over, no file can have these names, or nobody expects them.
ODD = ["x" * 300, "x/" * 3000, "", ".", "..", "/", "caf\udce9", "a\x1b[31m\nb", "\0", "-", "~", "*"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_nobody_expects_ends_in_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    free = ["--out", "out"]
    for command, arguments in (
        (ablate, [name]),
        (ablate, ["tiny", "--variants", name, *free]),
        (ablate, ["tiny", "--mesh", name, *free]),
        (evaluate, [name]),
        (evaluate, ["there", "--variant", name]),
        (plan, [name, "--topology", "v5e:2x4"]),
        (plan, ["tiny", "--topology", name]),
        (plan, ["tiny", "--topology", "v5e:2x4", "--variant", name]),
        (bench, [name]),
        (bench, ["attention", "--shapes", name, *free]),
        (import_weights, [name, "--preset", "t5"]),
        (import_weights, [".", "--preset", name]),
        (caption, [name, "--model", "."]),
    ):
        # The parser takes no word that begins with a dash for a value.
        with pytest.raises(SystemExit) as end:
            command.main(arguments)
        shown = capsys.readouterr().err
        assert (end.value.code, shown.count("\n"), shown[:4]) == (2, 1, command.COMMAND[:4]), shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [front_door, ablate, bench, evaluate, import_weights, plan])
@pytest.mark.parametrize("arguments", [["--version"], ["fusion", "--version"]])
def test_every_command_says_its_version(command, arguments, capsys):
    assert ended(command.main, arguments) == 0
    assert capsys.readouterr().out.startswith(f"crossattn {crossattn.__version__} (jax ")
