"""What a user reads: one clear line for each error, help, and who holds a folder."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from crossattn.train.folder import Folder
from crossattn.train.record import Record, versions, write_record
from experiments import __main__ as front_door
from experiments import ablate, bench, evaluate, import_weights, interrupts, lanes, plan
from experiments.command_line import plain_errors
from experiments.entry import ended as ended_with
from experiments.entry import prepare_streams
from experiments.interrupts import gently

sys.path.insert(0, str(Path(__file__).parent))

import driver

driver.install()

ROOT = Path(__file__).resolve().parents[2]
EASY_VQA = ["--data.source", "easy_vqa", "--model.perception", "window"]


@pytest.fixture
def places(tmp_path):
    """Folders that hold something else, and one of ours."""
    contents = {
        "other/suite.json": json.dumps({"suite": "other", "fingerprint": "x", "settings": {}}),
        "damaged/suite.json": '{"suite": ',
        "foreign/thesis.tex": "precious",
        "file": "precious",
        "ours/runs/blind/seed0/run.json": '{"format": 1, "versions": {"crossattn": "0.0.1"}}',
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    Folder(tmp_path / "ours").claim(driver.SUITE)
    return {name.upper(): tmp_path / name for name in (*(n.split("/")[0] for n in contents), "out")}


def contents_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fusoin"], "there is no suite 'fusoin': did you mean fusion?"),
        (["zzz"], "choose one of captions, easy_vqa, fusion, tfds, tfds_captions, or give"),
        (["tiny", "--stesp", "3"], "--stesp"),
        (["tiny", "--steps", "many"], "--steps"),
        (["tiny", "--steps", "-4"], "steps must be positive, got -4"),
        (["tiny", "--model.perception", "eyes"], "eyes"),
        (
            ["tiny", "--model.width", "2147483648"],
            "--model.width takes no number beyond",
        ),
        (["tiny", "--minutes", "9" * 20], "--minutes takes no number beyond 1000000000, got 999"),
        (["tiny", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["tiny", "--mesh", "data=8"], "batch_size 10 does not divide by 16: 2 texts of an image"),
        (["tiny", "--mesh", "dta=8"], "--mesh: mesh 'dta=8': unknown axis 'dta'; write 'data'"),
        (["tiny", "--accumulate", "2"], "batch_size 10 does not divide by 4: 2 texts of an image"),
        (["tiny", "--distributed", "here", "2"], "takes ADDRESS:PORT PROCESSES INDEX or nothing"),
        (["tiny", "--model.fusion", "mean-pool"], "--model.fusion is what the suite tiny varies"),
        (["tiny", "--variants", "blnd"], "tiny has no variant 'blnd': did you mean blind?"),
        (["tiny", "--data.images", "101", "--out", "OUT"], "multiple of 100"),
        (["tiny", "--model.perception", "window", "--out", "OUT"], "not for scenes"),
        (["tiny", "--out", "/proc/nowhere"], "cannot write"),
        (["tiny", "--out", "FILE"], "cannot write"),
        (["tiny", "--out", "OTHER"], "holds the suite other, not tiny"),
        (["tiny", "--out", "FOREIGN"], "is not empty and holds no suite"),
        (["tiny", "--out", "DAMAGED"], "suite.json is damaged"),
        (["tiny", "--steps", "22", "--out", "OURS"], "steps is 23 there and 22 here"),
        (["tiny", "--sweep", "--out", "OURS"], "sweep is False there and True here"),
        (["tiny", "--sweep", "--optimiser.learning-rate", "1.0"], "what --sweep chooses"),
        (
            ["tiny", "--data.flip", "--out", "OUT"],
            "data.flip is for source easy_vqa and tfds, not for scenes",
        ),
        (["tiny", "--data.tasks", "caption", "--out", "OUT"], "no questions to evaluate"),
        (["tiny", "--batch-size", "4000", "--out", "OUT"], "do not fill one batch"),
        (
            ["fusion", *EASY_VQA, "--data.images", "40", "--data.evaluation-images", "30"],
            "needs the split 'pairs'",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, places, tmp_path, capsys):
    if "--out" not in arguments:
        arguments = [*arguments, "--out", "OUT"]
    check(ablate, arguments, said, places, tmp_path, capsys)
    assert not (tmp_path / "out" / "suite.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["NOWHERE"], "there is no folder"),
        (["FOREIGN"], "is no run, it has no run.json: give a folder like results/SUITE/runs"),
        (["OURS"], "holds a suite: add --variant (blind) and --seed"),
        (["OURS", "--variant", "blnd"], "has no variant 'blnd': did you mean blind?"),
        (["OURS", "--variant", "blind", "--seed", "3"], "has the seeds 0: add --seed"),
        (["FOREIGN", "--seed", "3"], "is no suite's folder: leave out --variant and --seed"),
        (["OURS", "--variant", "blind", "--seed", "0"], "suite is missing (written by crossattn"),
        (["OURS", "--no"], "--no"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(arguments, said, places, tmp_path, capsys):
    check(evaluate, arguments, said, {**places, "NOWHERE": tmp_path / "no"}, tmp_path, capsys)


def check(command, arguments, said, places, folder, capsys):
    before = contents_of(folder)
    with pytest.raises(SystemExit) as end:
        command.main([str(places.get(word, word)) for word in arguments])
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"{command.COMMAND}: ")
    assert {p: c for p, c in contents_of(folder).items() if p.name != ".lock"} == before


def test_data_without_checkpoints_or_such_a_split(tmp_path, capsys):
    write_record(tmp_path, Record("tiny", "blind", 0, driver.SUITE.base, versions()))
    for arguments, said in (
        (["--on", "pars"], "--on pars is no split of this run's data: did you mean pairs?"),
        (["--on", "swap"], "--on swap has no questions or captions: choose one of"),
        (["--mesh", "dta=8"], "--mesh: mesh 'dta=8': unknown axis 'dta'; write 'data'"),
        (["--mesh", "data=0"], "--mesh: mesh 'data=0': data=0 is not a size; write a number"),
        ([], "has no checkpoint yet: train the run first"),
    ):
        check(evaluate, [str(tmp_path), *arguments], said, {}, tmp_path, capsys)


def test_a_second_process_is_told_who_holds_the_folder(tmp_path, capsys):
    out = tmp_path / "out"
    # What a dead process left behind is nobody's.
    out.mkdir()
    (out / ".lock").write_text('{"process": 1, "host": "h", "since": "s", "command": "c"}')
    with Folder(out).hold("python -m experiments.ablate tiny"):
        before = contents_of(out)
        with pytest.raises(SystemExit) as end:
            ablate.main(["tiny", "--out", str(out)])
        assert contents_of(out) == before
    shown = capsys.readouterr().err
    assert end.value.code == 2
    assert shown.count("\n") == 1
    assert f"{out} is in use by process {os.getpid()} on " in shown
    assert re.search(r"since 20[-\d]+ [:\d]+ \(python -m experiments.ablate tiny\): wait", shown)
    with Folder(out).hold("again"):
        pass


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(SystemExit) as end:
        ablate.main(["tiny", "--seeds", "2", "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "has 3.0 MB left, 4 runs need about 16 MB" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "log.jsonl"), "log.jsonl: No space left on device"),
        (ValueError("wrapped [os_error_code='28']"), "No space left on device"),
        (ValueError("a defect of ours"), None),
    ],
)
def test_what_the_system_said_is_found(error, said, capsys):
    if said is None:
        with pytest.raises(ValueError, match="defect"), plain_errors("ablate", ()):
            raise error
        return
    with pytest.raises(SystemExit) as end, plain_errors("ablate", ()):
        raise RuntimeError("saving failed") from error
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(36, "File name too long", "xx"), "xx: File name too long: give another name"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes."), "4,096 bytes"),
        (RuntimeError("Out of memory while trying to allocate 4096 bytes.\nx"), "4,096 bytes"),
        (MemoryError("Unable to allocate 256. TiB"), "not enough memory (Unable to allocate 256"),
    ],
)
def test_names_that_no_file_has_and_too_little_memory_are_said(error, said, capsys):
    with pytest.raises(SystemExit) as end, plain_errors("ablate", ()):
        raise error
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_interrupting_says_what_is_safe(capsys):
    with pytest.raises(SystemExit) as end, plain_errors("ablate", ()):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


# What ends a thread here ends the process there.
ENDING = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def ended(monkeypatch):
    """With which codes the process would have ended."""
    codes = []

    def end(code):
        codes.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    return codes


@ENDING
def test_the_second_interrupt_ends_at_once(ended, capfd):
    before = signal.getsignal(signal.SIGINT)
    with gently("ablate", lambda: "safe"):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert "Ctrl-C again ends at once" in capfd.readouterr().err
        assert ended == []
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGINT)
        assert set(ended) == {130}
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.set_wakeup_fd(-1) == -1


@ENDING
def test_an_interrupt_waits_for_checkpoints_but_not_for_native_code(ended, monkeypatch, capfd):
    written = [True, True, False]
    monkeypatch.setattr(interrupts, "saving", lambda: written.pop(0))
    monkeypatch.setattr(interrupts, "PATIENCE", 0.001)
    with gently("ablate", lambda: "a\udcff is safe"):
        # A signal is heard of in two ways, of which the other waits until native code returns.
        heard = signal.set_wakeup_fd(-1)
        os.write(heard, bytes([signal.SIGUSR1, signal.SIGINT]))
        (listening,) = (one for one in threading.enumerate() if "listen" in one.name)
        listening.join(60)
    assert ended == [130]
    assert written == []
    said = capfd.readouterr().err
    answers = ("stopping; Ctrl-C again ends at once", r"a\udcff is safe")
    assert said == "".join(f"\nablate: {answer}\n" for answer in answers)


def test_an_interrupted_command_does_not_wait_for_jobs_that_do_not_look(ended, monkeypatch):
    monkeypatch.setattr(lanes, "PATIENCE", 0.001)
    begun, over = threading.Event(), threading.Event()

    def job(check):
        begun.set()
        over.wait(60)  # compiles
        with pytest.raises(lanes.StoppedError):
            check()

    def press():
        begun.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    with pytest.raises(SystemExit) as end, gently("ablate", str), plain_errors("ablate", ()):
        lanes.spread(job, [()])
    assert end.value.code == 130
    (lane,) = (one for one in threading.enumerate() if one.name.startswith("lane"))
    over.set()
    pressing.join()
    lane.join(60)
    assert ended == []


@pytest.mark.slow
def test_an_interrupt_while_compiling_ends_the_command(tmp_path):
    """With --dry-run nothing is written, and the first step is compiled for some seconds."""
    command = [sys.executable, "-m", "experiments.ablate", "fusion", "--dry-run"]
    larger = ["--variants", "blind", "--model.layers", "8", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    with subprocess.Popen(
        [*command, *larger], stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as process:
        for line in process.stderr:
            if line.startswith("timing"):
                break
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        said = process.stderr.read()
    assert process.returncode == 130
    assert time.monotonic() - pressed < 5
    assert said.startswith("\nablate: stopping; Ctrl-C again ends at once\n\nablate: interrupted; ")
    assert "Traceback" not in said


def printing(monkeypatch, encoding):
    """Standard output of such an encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    prepare_streams()
    return lambda: (stream.flush(), stream.buffer.getvalue().decode(encoding))[1]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "UTF-8"])
def test_what_an_encoding_does_not_have_is_printed_as_an_escape(encoding, monkeypatch, capsys):
    printed = printing(monkeypatch, encoding)
    for arguments in (["tiny", "--steps", "x"], ["tiny", "--stesp", "3"], ["tiny", "--help"]):
        with pytest.raises(SystemExit):
            ablate.main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" it takes ")[2] for line in lines[:1]] == ["--steps INT (see --help)"]
    assert lines[1].endswith("--stesp, 3; did you mean --steps INT? (see --help)")
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

    assert ended_with(command, ["word"]) == code
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
    ):
        # The parser takes no word that begins with a dash for a value.
        with pytest.raises(SystemExit) as end:
            command.main(arguments)
        shown = capsys.readouterr().err
        assert (end.value.code, shown.count("\n"), shown[:4]) == (2, 1, command.COMMAND[:4]), shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_names_the_suites_and_the_options(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as end:
        ablate.main(["--help"])
    assert end.value.code == 0
    assert "easy_vqa" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        ablate.main(["fusion", "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for group in ("what to run", "data", "model", "optimiser"):
        assert re.search(rf"(?m)^(╭─)? {group} ", shown), group
    assert "Peak learning rate. (default: 0.004)" in " ".join(shown.split())
    assert "python -m experiments.ablate fusion" in shown
    assert max(map(len, shown.splitlines())) <= int(columns)


def test_the_front_door_lists_and_hands_over(capsys):
    def started(*words):
        front_door.main(list(words))

    started("--help")
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in ("ablate", "evaluate", "bench"))
    with pytest.raises(SystemExit) as end:
        started("abalte", "fusion")
    assert end.value.code == 2
    assert "there is no command 'abalte': did you mean ablate?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        started("ablate", "fusoin")
    assert end.value.code == 2
    assert "did you mean fusion?" in capsys.readouterr().err
