"""What a user reads: one clear line for each error, help, and who holds a folder."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from crossattn.train.folder import Folder
from crossattn.train.record import RunRecord, library_versions, write_record
from crossattn.train.run import Optimizer, replace
from experiments import __main__ as front_door
from experiments import ablate, evaluate
from experiments.command_line import plain_errors
from tests.support import driver

driver.install()

ROOT = Path(__file__).resolve().parents[2]
EASY_VQA = ["--data.source", "easy_vqa", "--model.image-encoder", "window"]


@pytest.fixture
def places(tmp_path):
    """Folders that hold something else, and one of ours."""
    contents = {
        "other/suite.json": json.dumps({"suite": "other", "fingerprint": "x", "settings": {}}),
        "damaged/suite.json": '{"suite": ',
        "foreign/thesis.tex": "precious",
        "file": "precious",
        "ours/runs/blind/seed0/run.json": '{"format": 2, "versions": {"crossattn": "0.0.1"}}',
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
        (["zzz"], "choose one of "),
        (["tiny", "--stesp", "3"], "--stesp"),
        (["tiny", "--steps", "many"], "--steps"),
        (["tiny", "--steps", "-4"], "steps must be positive, got -4"),
        (["tiny", "--model.image-encoder", "eyes"], "eyes"),
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
        (
            ["tiny", "--model.context-view", "mean"],
            "--model.context-view is what the suite tiny varies",
        ),
        (
            ["presets", "--model.block.residual.gate", "tanh"],
            "--model.block.residual.gate is what the suite presets varies: leave it out",
        ),
        (["slots", "--model.block.residual.norm", "post"], "is what the suite slots varies"),
        (
            ["tiny", "--model.preset", "flamigo"],
            "unknown preset 'flamigo', did you mean 'flamingo'?",
        ),
        (["tiny", "--model.block.residual.gate", "tahn"], "'--model.block.residual.gate'"),
        (["tiny", "--model.block.residual.gte", "x"], "did you mean --model.block.residual.gate"),
        (["tiny", "--help", "optmizer"], "there is no such group: did you mean optimizer?"),
        (["tiny", "--variants", "blnd"], "tiny has no variant 'blnd': did you mean blind?"),
        (["tiny", "--data.images", "101", "--out", "OUT"], "multiple of 100"),
        (["tiny", "--model.image-encoder", "window", "--out", "OUT"], "not for scenes"),
        (["tiny", "--out", "/proc/nowhere"], "cannot write"),
        (["tiny", "--out", "FILE"], "cannot write"),
        (["tiny", "--out", "OTHER"], "holds the suite other, not tiny"),
        (["tiny", "--out", "FOREIGN"], "is not empty and holds no suite"),
        (["tiny", "--out", "DAMAGED"], "suite.json is damaged"),
        (["tiny", "--steps", "22", "--out", "OURS"], "steps is 23 there and 22 here"),
        (["tiny", "--sweep", "--out", "OURS"], "sweep is False there and True here"),
        (["tiny", "--sweep", "--optimizer.learning-rate", "1.0"], "what --sweep chooses"),
        (
            ["tiny", "--data.flip", "--out", "OUT"],
            "data.flip is for source easy_vqa and tfds and folder and published sets, not",
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


def test_the_former_name_of_an_option_works_and_warns(capsys):
    _, options = ablate.configure(
        ["tiny", "--optimiser.learning-rate=0.5", "--optimiser.clip", "2"]
    )
    assert options.run.optimizer == Optimizer(learning_rate=0.5, clip=2.0)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "ablate: DeprecationWarning: --optimiser.learning-rate is now --optimizer.learning-rate",
        "ablate: DeprecationWarning: --optimiser.clip is now --optimizer.clip",
    ]


def test_data_without_checkpoints_or_such_a_split(tmp_path, capsys):
    write_record(tmp_path, RunRecord("tiny", "blind", 0, driver.SUITE.base, library_versions()))
    for arguments, said in (
        (["--on", "pars"], "--on pars is no split of this run's data: did you mean pairs?"),
        (["--on", "swap"], "--on swap has no questions: choose one of"),
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
    for group in ("what to run", "data", "model", "optimizer"):
        assert re.search(rf"(?m)^(╭─)? {group} ", shown), group
    assert "Peak learning rate. (default: 0.004)" in " ".join(shown.split())
    assert "python -m experiments.ablate fusion" in shown
    assert max(map(len, shown.splitlines())) <= int(columns)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_of_a_group_shows_what_is_within_with_the_values_of_the_preset(
    capsys, monkeypatch, columns
):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit):
        ablate.main(["tiny", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--model.preset STR" in shown
    assert "--help GROUP shows more options: model.block, model.block.residual, " in shown
    assert "--model.block.residual.gate" not in shown
    with pytest.raises(SystemExit):
        ablate.main(["tiny", "--model.preset", "flamingo", "--help", "model.block"])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= int(columns)
    assert "--model.steps" not in shown
    for group in ("residual", "cross-residual", "cross-attention.logits", "mlp"):
        assert f"╭─ model.block.{group} ─" in shown
    said = " ".join(shown.replace("│", " ").split())
    assert "layer-scale} g in x + g f(x). " in said
    assert "None: 1. (default: tanh)" in said


@pytest.mark.parametrize(
    ("typed", "path", "value"),
    [
        ("--model.block.residual.gate tanh", "residual.gate", "tanh"),
        ("--model.block.cross_attention.logits.norm rms", "cross_attention.logits.norm", "rms"),
        ("--model.block.cross-attention.key-value-heads 1", "cross_attention.key_value_heads", 1),
        ("--model.block.cross-attention.positions rotary", "cross_attention.positions", "rotary"),
        ("--model.block.self-attention.use-bias qv", "self_attention.use_bias", "qv"),
        ("--model.block.cross-attention.extra-keys.sink", "cross_attention.extra_keys.sink", True),
        ("--model.block.order self mlp cross", "order", ("self", "mlp", "cross")),
        ("--model.block.mlp.expansion 2", "mlp.expansion", 2),
        ("--model.preset flamingo --model.block.residual.gate None", "residual.gate", None),
        ("--model.preset=meter --model.block.exchange shared", "exchange", "shared"),
    ],
)
def test_any_field_of_a_block_is_an_option(typed, path, value):
    _, options = ablate.configure(["tiny", *typed.split()])
    model = options.run.model
    preset = re.search(r"preset[ =](\w+)", typed)
    wanted = replace(driver.SUITE.base, {"model.preset": preset[1]} if preset else {})
    assert options.run == replace(wanted, {f"model.block.{path}": value})
    assert model != wanted.model


def test_a_part_that_is_none_follows_the_part_that_it_stands_for_unless_it_is_changed():
    configured = lambda *typed: ablate.configure(["tiny", *typed])[1].run.model.block
    gate = ["--model.block.residual.gate", "tanh"]
    assert configured(*gate).cross_residual is None
    found = configured(*gate, "--model.block.cross-residual.norm", "post").cross_residual
    assert (found.gate, found.norm) == ("tanh", "post")


def test_the_front_door_lists_and_hands_over(capsys):
    def started(*words):
        front_door.main(list(words))

    started("--help")
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in ("ablate", "train", "evaluate", "bench"))
    with pytest.raises(SystemExit) as end:
        started("abalte", "fusion")
    assert end.value.code == 2
    assert "there is no command 'abalte': did you mean ablate?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        started("ablate", "fusoin")
    assert end.value.code == 2
    assert "did you mean fusion?" in capsys.readouterr().err
