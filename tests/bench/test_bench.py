"""The benchmarks as a user types them, on tiny shapes: no assertion is about a time."""

import dataclasses
import json
import os
import re
import shlex

import jax
import pytest

from crossattn.bench.benchmarks import masks, step
from crossattn.bench.cases import SHAPES, Case, Shape, parse_decoder, parse_shape
from crossattn.bench.process import Worker
from crossattn.bench.summary import details, summarise
from crossattn.bench.timing import Budget, contest
from crossattn.ops.api import IMPLEMENTATIONS
from experiments import bench

TINY = Shape("tiny", 2, 3, 7, 2, 5)
QUICK = ["--dtype", "float32", "--seconds", "0", "--repeats", "2"]

# Stand in for libraries that may or may not be installed where the tests run.
ABSENT = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
DEADLY = """
import os, signal
def dot_product_attention(q, k, v):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """A torch that is not installed and a tokamax that takes its process with it."""
    for name, source in (("torch", ABSENT), ("tokamax", DEADLY)):
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def measured(out, *arguments):
    """results.json of a command that must end well; its contestants by case."""
    bench.main([*arguments, *QUICK, "--out", str(out)])
    found = json.loads((out / "results.json").read_text())
    assert (out / "ratios.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "ratios.png").stat().st_size > 5_000
    return found


def check_times(record, rounds=2):
    for name, found in record["contestants"].items():
        assert "reason" not in found, (name, found)
        assert len(found["seconds"]) == record["rounds"] == rounds
        assert all(0 < s < 100 for s in found["seconds"]), name
        low, high = found["quartiles"]
        assert low <= found["median"] <= high
        assert found["ratio_quartiles"][0] <= found["ratio"] <= found["ratio_quartiles"][1]


def test_attention_measures_everyone_and_says_who_is_missing(tmp_path, peers, capsys):
    out = tmp_path / "out"
    options = ["--shapes", "2,3,7,2,5", "--implementation", "reference"]
    found = measured(out, "attention", *options, "--peers", "jax.nn", "linen", "nnx", "torch")
    assert [record["direction"] for record in found["cases"]] == ["forward", "backward"]
    for record in found["cases"]:
        assert record["contestants"].pop("torch") == {"reason": "not installed"}
        assert record["contestants"]["crossattn"]["chosen"] in IMPLEMENTATIONS
        names = ["crossattn", "crossattn[reference]", "jax.nn", "linen", "nnx"]
        assert list(record["contestants"]) == names
        check_times(record)
        for name, contestant in record["contestants"].items():
            assert 0 <= contestant["error"] < 1e-6, name
            assert contestant["temporary_bytes"] >= 0
            assert contestant["beside"] == "crossattn"
    (worker,) = found["workers"]
    assert worker["versions"]["jax"] == jax.__version__
    if hasattr(os, "sched_getaffinity"):
        assert worker["cores"] == sorted(os.sched_getaffinity(0))[:1]
    table, shown = (out / "table.md").read_text(), capsys.readouterr().out
    for text in (table, shown):
        assert "torch: not installed" in text
        assert re.search(r"jax\.nn / crossattn \d+\.\d\d \(1 shape\)", text)
    assert "forward + backward, float32, 1 thread" in table
    assert "B=2 T=3 S=7 H=2 D=5, 2 rounds" in table


@pytest.mark.slow
def test_who_kills_the_process_is_left_out_and_the_others_are_measured(tmp_path, peers):
    options = ["--shapes", "2,3,7,2,5", "--pass", "forward", "--peers", "tokamax", "jax.nn"]
    (record,) = measured(tmp_path / "out", "attention", *options)["cases"]
    killed = record["contestants"].pop("tokamax")
    assert killed == {"reason": "the process was killed (SIGKILL)"}
    check_times(record)
    assert list(record["contestants"]) == ["crossattn", "jax.nn"]


def test_module_compares_equal_modules(tmp_path):
    options = ["--shapes", "2,3,7,2,5", "--pass", "backward"]
    (record,) = measured(tmp_path / "out", "module", *options)["cases"]
    assert list(record["contestants"]) == ["crossattn", "linen"]
    check_times(record)
    assert all(c["error"] < 1e-6 for c in record["contestants"].values())


@pytest.mark.slow
def test_decode_compares_equal_steps(tmp_path, capsys):
    out = tmp_path / "out"
    (record,) = measured(out, "decode", "--shapes", "2,1,7,2,5", "--steps", "2")["cases"]
    assert set(record["contestants"]) == {
        f"{who}, {form}"
        for who in ("crossattn", "linen", "nnx")
        for form in ("steps", "jitted steps", "scanned")
    }
    check_times(record)
    # All made the same 2 steps from the same parameters.
    assert all(c["error"] < 1e-6 for c in record["contestants"].values())
    assert record["contestants"]["nnx, scanned"]["beside"] == "crossattn, scanned"
    assert record["contestants"]["linen, steps"]["beside"] == "crossattn, jitted steps"
    assert "ms a step" in capsys.readouterr().out


@pytest.mark.slow
def test_generate_compares_equal_words(tmp_path, capsys):
    options = ["--shapes", "2,1,7,2,4,2,11", "--steps", "3", "--peers", "blocks", "linen"]
    (record,) = measured(tmp_path / "out", "generate", *options)["cases"]
    assert list(record["contestants"]) == ["crossattn", "blocks", "linen"]
    check_times(record)
    # All wrote the same words.
    assert all(c["error"] == 0 for c in record["contestants"].values())
    shown = capsys.readouterr().out
    assert "ms a word" in shown
    assert "of the ceiling" in shown
    # Weights of two layers and of 11 words, and keys and values of 7 + 1.5 words of two texts.
    assert record["contestants"]["linen"]["work"][1] == 4 * (2 * 14 * 64 + 88 + 2 * 32 * 8.5)


@pytest.mark.slow
def test_step_compares_equal_updates():
    names = ["crossattn", "crossattn[everything]"]
    shape = parse_decoder("2,5,7,2,4,1,11")
    case = Case("step", shape, "forward", "float32", names)
    result = contest(case, step.prepare(case), Budget(0.0, 2, 2), lambda name: None, {})
    record = summarise(case, result)
    check_times(record)
    assert all(c["error"] < 1e-6 for c in record["contestants"].values())
    words, frames = 2 * 5 * (2 * 14 * 64 + 4 * 12 * 8), 2 * 7 * 4 * 64
    counted = 3 * (words + frames + 2 * 5 * 2 * 8 * 11)
    assert record["contestants"]["crossattn"]["work"] == (counted, 0)
    assert {"TFLOP/s", "of the ceiling"} < set(details(record)[0])


@pytest.mark.slow
def test_attention_by_the_clock(tmp_path, capsys):
    """What an accelerator does, from the command line to the verdicts."""
    out, options = tmp_path / "out", ["--pass", "forward", "--peers", "--implementation"]
    shapes = ["--shapes", "1,3,8,4/2,8", "--masks", "none"]
    found = measured(out, "attention", "--minutes", "5", *shapes, *options)
    (record,) = found["cases"]
    (own,) = record["contestants"].values()
    assert len(own["seconds"]) == len(own["call_seconds"]) == 2
    assert own["error"] < 1e-5
    assert found["missing"] == []
    assert found["ceilings"]["flops"] > 0
    (verdict,) = found["verdicts"]
    assert verdict.startswith("not measured: 1,3,8,4/2,8, forward, float32: at least 0.9 of the")
    shown = capsys.readouterr().out
    assert (
        shown.index("ms a plain call") < shown.index("Ceilings of this run") < shown.index(verdict)
    )
    assert verdict in (out / "table.md").read_text()


@pytest.mark.slow
def test_masks_are_beside_their_visible_keys(tmp_path):
    shapes = ["--shapes", "1,11,11,2,3", "3,2,17,2,3", "--pass", "forward"]
    square, ragged = measured(tmp_path / "out", "masks", *shapes)["cases"]
    for record in (square, ragged):
        check_times(record)
        assert all(c["error"] < 1e-6 for c in record["contestants"].values())
    assert set(masks.KINDS) - {masks.RAGGED} < set(square["contestants"])
    beside = {name: found["beside"] for name, found in square["contestants"].items()}
    assert beside["lengths, first 1/8"] == "1 keys alone"
    assert beside["keys, scattered 1/2"] == "5 keys alone"
    assert beside["causal"] == "6 keys alone"
    assert list(ragged["contestants"]) == [masks.EVERYTHING, masks.RAGGED]


@pytest.mark.slow
def test_length_is_per_key(tmp_path, capsys):
    options = ["--shape", "1,3,1,2,5", "--sizes", "1031", "257", "--pass", "backward"]
    (record,) = measured(tmp_path / "out", "length", *options)["cases"]
    check_times(record)
    assert {c["beside"] for c in record["contestants"].values()} == {"1031"}
    assert all(c["error"] < 1e-6 for c in record["contestants"].values())
    assert "ns a key" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["atention"], "there is no benchmark 'atention': did you mean attention?"),
        (["attention", "--shapes", "capitioning"], "did you mean captioning?"),
        (["attention", "--shapes", "zzz"], "choose one of captioning, question"),
        (["attention", "--shapes", "1,2,3"], "'1,2,3' is no shape: write five positive numbers"),
        (["attention", "--shapes", "1,2,0,2,2"], "five positive numbers B,T,S,H,D"),
        (["attention", "--shapes"], "--shapes takes at least one shape"),
        (["attention", "--dtype", "float8"], "float8"),
        (["attention", "--stesp", "3"], "--stesp"),
        (["attention", "--threads", "4096"], "(available cores), got 4096"),
        (["attention", "--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["attention", "--seconds", "nan"], "--seconds must not be negative, got nan"),
        (["attention", "--peers", "tourch"], "did you mean torch?"),
        (["attention", "--implementation", "fast"], "--implementation 'fast' is unknown"),
        (["attention", "--device", "abacus"], "abacus"),
        (["attention", "--out", "/proc/nowhere"], "cannot write /proc/nowhere"),
        (["attention", "--out", "FILE"], "cannot write"),
        (["decode", "--steps", "0"], "--steps must be at least 1, got 0"),
        (["masks", "--shapes", "1,2,3,2,2"], "fewer than 8 keys"),
        (["masks", "--shapes", "1,2,9,4/2,2"], "here every head has keys of its own"),
        (["attention", "--shapes", "1,2,3,4/3,2"], "of which H is a multiple"),
        (["attention", "--shapes", "1,2/2,3,4,2"], "five positive numbers B,T,S,H,D"),
        (["attention", "--masks", "keys"], "are measured by the clock: give --minutes"),
        (["attention", "--minutes", "0"], "--minutes must be positive, got 0.0"),
        (["attention", "--minutes", "1", "--masks", "kesy"], "did you mean keys?"),
        (["attention", "--minutes", "1", "--threads", "1", "1"], "--threads is for a CPU without"),
        (["attention", "--device", "gpu", "--peers", "splash"], "--peers 'splash' is unknown"),
        (["generate", "--peers", "lonen"], "did you mean linen?"),
        (["step", "--shapes", "tiny"], "B,T,S,H,D,layers,words): did you mean tiny.en?"),
        (["step", "--shapes", "1,2,3,4,5,6,0"], "is no decoder: write seven positive numbers"),
        (["step", "--remat", "all"], "--remat 'all' is unknown"),
        (["length", "--sizes", "7", "7"], "--sizes takes different positive numbers"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(SystemExit) as end:
        bench.main([str(tmp_path / "file") if word == "FILE" else word for word in arguments])
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert shown.startswith("bench")
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(
    any(d.platform != "cpu" for d in jax.devices()), reason="there is an accelerator here"
)
def test_a_device_that_is_not_there_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(["attention", "--device", "gpu", "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    assert capsys.readouterr().err == "bench: jax finds no gpu here\n"


def test_help_names_the_benchmarks_and_the_options(capsys):
    for arguments, said in ((["--help"], "masks"), (["attention", "--help"], "--shapes")):
        with pytest.raises(SystemExit) as end:
            bench.main(arguments)
        assert end.value.code == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("command", re.findall(r"python -m experiments\.bench (.*)", bench.__doc__))
def test_the_commands_that_help_shows_can_be_parsed(command, monkeypatch):
    monkeypatch.setattr("crossattn.bench.shared_options.available_cores", lambda: [0, 1])
    name, options = bench.configure_benchmark(shlex.split(command))
    assert name == command.split()[0]
    cases = options.cases()
    assert cases
    for case in cases:
        assert case == type(case).from_json(json.loads(json.dumps(dataclasses.asdict(case))))


def test_every_shape_of_the_issue_has_its_name():
    assert {name: shape.sizes for name, shape in SHAPES.items()} == {
        "captioning": (16, 32, 196, 8, 64),
        "question": (64, 16, 49, 4, 32),
        "image-to-text": (2, 4096, 77, 8, 40),
        "resampler": (8, 64, 4096, 8, 64),
        "resampler-50k": (1, 64, 50000, 8, 64),
        "long": (1, 4096, 4096, 8, 64),
        "video": (1, 128, 65536, 8, 64),
        "decode": (16, 1, 576, 8, 64),
    }
    assert str(parse_shape("2,17,301,4,32")) == "2,17,301,4,32"


def test_nobody_waits_for_a_process_when_the_user_interrupts():
    done = []

    class Process:
        kill = lambda self: done.append("killed")
        end = lambda self: done.append("waited") or ""

    for ending, wanted in ((None, ["waited"]), (KeyboardInterrupt, ["killed", "waited"])):
        done.clear()
        worker = Worker("cpu", 1)
        worker.process = Process()
        worker.__exit__(ending, None, None)
        assert done == wanted
