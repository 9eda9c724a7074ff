"""What a plan says, from a canned answer of the compiler; and one real answer where it is there."""

import contextlib
import importlib.util
import json

import jax
import pytest

from crossattn.nn.config import BlockConfig, MLPConfig
from crossattn.plan import compiled, estimate, process, programs, summary
from crossattn.plan.chips import CHIPS, topology
from crossattn.sharding import make_mesh
from crossattn.train.record import read_record
from crossattn.train.run import Data, Model, Run
from experiments import plan
from tests.support import driver

driver.install()

TINY = Run(
    data=Data(images=100, evaluation_images=100, texts_per_image=1),
    model=Model(width=8, layers=3, heads=2, block=BlockConfig(mlp=MLPConfig(expansion=1.0))),
    steps=23,
    batch_size=16,
)
MIB = 2**20
COLLECTIVE = {"kind": "all-reduce", "axes": "data", "times": 7, "bytes": 5 * MIB}
FITTING = {
    "fits": True,
    "seconds": {"tracing": 1.0, "compilation": 11.0},
    "bytes": {"arguments": 13 * MIB, "outputs": 0, "temporaries": 17 * MIB},
    "collectives": [COLLECTIVE],
}
TOO_LARGE = {
    "fits": False,
    "needed": 21 * 2**30,
    "over": 5_000_000_007,
    "seconds": {"tracing": 1.0, "compilation": 3.0},
}
SEEN = ["tiny", "--topology", "v5e:2x4", "--batch-size", "16", "--out", "OUT"]


@pytest.fixture(scope="module")
def sized():
    return programs.PlannedPrograms(TINY, programs.program_sizes(TINY))


@pytest.fixture(scope="module")
def work(sized):
    return estimate.step_work(sized)


@pytest.fixture
def compiler(monkeypatch, sized, work):
    """A compiler that answers what is put into it, and the requests that it heard."""
    answers, heard = {}, []

    def answer(record, sizes, slice_, meshes, announce):
        heard.append((record, slice_.name, meshes))
        announce("compiling")
        return [{"mesh": m or "data=8", "devices": 8, "notes": [], **answers} for m in meshes]

    monkeypatch.setattr(plan, "check_compiler", lambda: None)
    # Tracing takes seconds, and what it finds is tested below.
    monkeypatch.setattr(plan, "program_sizes", lambda run: sized.sizes)
    monkeypatch.setattr(plan, "PlannedPrograms", lambda run, sizes: sized)
    monkeypatch.setattr(plan.estimate, "step_work", lambda programs: work)
    monkeypatch.setattr(plan, "compile_all", answer)
    return answers, heard


def run(arguments, folder, capsys, *, code=0):
    arguments = [str(folder / "out") if word == "OUT" else word for word in arguments]
    with pytest.raises(SystemExit) if code else contextlib.nullcontext() as end:
        plan.main(arguments)
    assert code == (end.value.code if code else 0)
    shown = capsys.readouterr()
    assert (folder / "out" / "plan.png").read_bytes()[1:4] == b"PNG"
    return shown, json.loads((folder / "out" / "plan.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fusoin", "--topology", "v5e:2x4"], "there is no suite 'fusoin': did you mean fusion?"),
        (["tiny"], "--topology"),
        (["tiny", "--topology", "v5:2x4"], "unknown topology 'v5:2x4': choose one of v5e"),
        (["tiny", "--topology", "v5e:2x2x2"], "a slice of v5e has 2 axes, as in v5e:2x4"),
        (["tiny", "--topology", "v5p:0x2x2"], "a slice of v5p has 3 axes"),
        (["tiny", "--topology", "v5e:2x4", "--variant", "blnd"], "did you mean blind?"),
        (["tiny", "--topology", "v5e:2x4", "--sweep", "all"], "--sweep"),
        (["tiny", "--topology", "v5e:2x4", "--sweep", "meshes", "--mesh", "data=8"], "leave out"),
        (["tiny", "--topology", "v5e:2x4", "v5e:4x4", "--sweep", "meshes"], "is for one slice"),
        (["tiny", "--topology", "v5e:2x4", "--model.width", "7"], "not a multiple of heads"),
        (["tests", "--topology", "v5e:2x4"], "tests is no run, it has no run.json"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as end:
        plan.main(arguments)
    shown = capsys.readouterr().err
    assert end.value.code == 2
    assert said in shown
    assert shown.count("\n") == 1


def test_without_a_compiler_it_says_what_to_install(monkeypatch, capsys):
    find = importlib.util.find_spec
    absent = lambda name, *rest: None if name == "libtpu" else find(name, *rest)
    monkeypatch.setattr(process.importlib.util, "find_spec", absent)
    with pytest.raises(SystemExit) as end:
        plan.main(["tiny", "--topology", "v5e:2x4"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "plan: the TPU compiler is not here: pip install 'crossattn[plan]'\n"
    )


def test_help_names_suites_chips_and_options(capsys):
    for arguments, words in (
        ([], ["fusion", "v6e", "TFLOP/s", "python -m experiments.plan RUN --help"]),
        (["tiny", "--help"], ["--topology", "--mesh", "--sweep", "--model.width"]),
    ):
        with pytest.raises(SystemExit) as end:
            plan.main(arguments)
        shown = capsys.readouterr().out
        assert end.value.code == 0
        assert all(word in shown for word in words)


def test_a_run_that_fits(compiler, tmp_path, capsys):
    answers, heard = compiler
    answers |= {"train": FITTING, "evaluation": {**FITTING, "collectives": []}}
    shown, content = run([*SEEN, "--model.width", "14"], tmp_path, capsys)
    ((record, name, meshes),) = heard
    assert (record.variant, record.run.model.width) == ("cross-attention", 14)
    assert (name, meshes) == ("v5e:2x4", [None])
    assert "v5e:2x4 (8 devices), data=8: fits, 30.0 MiB of 16.00 GiB a device" in shown.out
    assert "all-reduce   data      7         5.0 MiB" in shown.out
    assert "Roofline estimate of a training step, not measured" in shown.out
    assert "training step 11 s" in shown.out
    assert shown.err.count("...\n") == 3
    (entry,) = content["meshes"]
    assert entry["roofline_estimate"]["wire"] == 5 * MIB / CHIPS["v5e"].link
    assert content["topologies"][0]["chip"]["source"].startswith("docs.cloud.google.com")


def test_a_run_that_does_not_fit_is_refused_with_the_bytes_and_what_to_change(
    compiler, tmp_path, capsys
):
    answers, _ = compiler
    answers |= {"train": TOO_LARGE, "evaluation": FITTING}
    shown, _ = run(SEEN, tmp_path, capsys, code=1)
    assert "DOES NOT FIT. The training step needs 21.00 GiB of 16.00 GiB" in shown.out
    assert "(5,000,000,007 bytes)" in shown.out
    assert "--mesh fsdp=8: about" in shown.out
    assert "--batch-size 8: about" in shown.out


def test_a_dead_compiler_is_said(compiler, tmp_path, capsys):
    compiler[0]["died"] = "the compiler was killed (SIGSEGV)"
    shown, _ = run(SEEN, tmp_path, capsys, code=1)
    assert "it is not known whether it fits, the compiler was killed (SIGSEGV)" in shown.out


def test_slices_of_several_sizes_have_as_many_texts_a_device(compiler, tmp_path, capsys):
    answers, heard = compiler
    answers |= {"train": FITTING, "evaluation": FITTING}
    arguments = ["--topology", "v5e:2x2", "v5e:4x4", "--mesh", "fsdp=4"]
    shown, content = run([*SEEN, *arguments], tmp_path, capsys)
    assert [(record.run.batch_size, *rest) for record, *rest in heard] == [
        (16, "v5e:2x2", ["fsdp=4"]),
        (64, "v5e:4x4", ["fsdp=4"]),
    ]
    rows = [line.split() for line in shown.out.splitlines() if line.startswith("v5e")]
    assert [row[0] for row in rows] == ["v5e:2x2", "v5e:4x4"]
    assert all(row[4:8] == ["30.0", "MiB", "5.0", "MiB"] for row in rows)
    assert [entry["topology"] for entry in content["meshes"]] == ["v5e:2x2", "v5e:4x4"]


def test_a_sweep_ranks_all_and_compiles_five(compiler, tmp_path, capsys):
    answers, heard = compiler
    answers |= {"train": FITTING, "evaluation": FITTING}
    shown, content = run([*SEEN, "--sweep", "meshes"], tmp_path, capsys)
    assert "estimate by formula and not measured" in shown.out
    rows = [line for line in shown.out.splitlines() if line.startswith(("data=", "fsdp=", "tens"))]
    # Two heads: tensor is 1 or 2; 8 images: every data and fsdp.
    assert len(rows) == 7
    assert [line.rstrip().endswith("yes") for line in rows] == [True] * 5 + [False] * 2
    assert [entry["mesh"] for entry in content["meshes"]] == heard[0][2]


# The processes that are started are this script's: they read the request and answer or die.
COMPILER = """
import json, os, sys
request = json.loads(input())
mesh, step = request["mesh"], request["step"]
if mesh == "data=3":
    print(json.dumps({"refused": "no such mesh"}))
    sys.exit()
print(json.dumps({"stage": "compiling", "mesh": mesh}), flush=True)
if mesh == "data=8" and step == "evaluation":
    os.abort()
print(json.dumps({"result": {"mesh": mesh, step: request["dump"]}}), flush=True)
"""


def test_the_compiler_may_die_on_one_mesh(sized, tmp_path, monkeypatch):
    (tmp_path / "planner").mkdir()
    (tmp_path / "planner" / "worker.py").write_text(COMPILER)
    monkeypatch.setattr(process, "WORKER", "planner.worker")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    stages = []
    call = (process.record_of("tiny", "blind", TINY), sized.sizes, topology("v5e:2x4"))
    found = process.compile_all(*call, ["data=4", "data=8", "fsdp=8"], stages.append)
    assert found == [
        {"mesh": "data=4", "train": "0", "evaluation": "1"},
        {"mesh": "data=8", "died": "the compiler was killed (SIGABRT)"},
        {"mesh": "fsdp=8", "train": "4", "evaluation": "5"},
    ]
    assert stages == ["compiling"] * 6
    with pytest.raises(process.CompilerError, match="no such mesh"):
        process.compile_all(*call, ["data=4", "data=3"], stages.append)


def test_what_the_compiler_writes_is_read_once_it_is_whole(tmp_path):
    mesh = make_mesh("data=4,fsdp=2")
    write = lambda end, text: (tmp_path / f"module_0.jit_f.cl_1.{end}.txt").write_text(text)
    gather = "%x = f32[8,4]{1,0} all-gather(%p), replica_groups=[4,2]<=[8], dimensions={0}"
    write("after_optimizations", "ENTRY %main (p: f32[4,4]) -> f32[8,4] {\n" + gather + "\n}")
    write("after_optimizations-buffer-assignment", "allocation 0: size 512, parameter 0:\n")
    assert compiled.early(tmp_path, mesh) is None
    write("after_optimizations_after_buffer_assignment", "")
    assert compiled.early(tmp_path, mesh) == {
        "fits": True,
        "bytes": {"arguments": 512, "outputs": 0, "temporaries": 0},
        "collectives": [{"kind": "all-gather", "axes": "fsdp", "times": 1, "bytes": 64}],
    }


def test_a_folder_with_a_run_is_planned_as_it_is(tmp_path):
    process.write_record(tmp_path, process.record_of("suite", "mine", TINY))
    arguments = [str(tmp_path), "--topology", "tpu7x:2x2x1", "--model.layers", "5"]
    of, (slice_,), _ = plan.configure_plan(arguments)
    assert read_record(tmp_path).run == TINY
    assert (of.suite, of.variant, of.run.model.layers, of.run.steps) == ("suite", "mine", 5, 23)
    assert slice_.devices == 8


def test_the_formula_is_what_a_program_sends_and_the_devices_hold(sized, work):
    """Compiled for CPUs: gradients are summed over data, and nothing else is sent."""
    mesh = make_mesh("data=8")
    text = sized.lower_step(mesh).compile().as_text()
    (found,) = compiled.exchanged(text, mesh)
    by_formula = estimate.device_cost(sized, work, {"data": 8})
    assert (found["kind"], found["axes"]) == ("all-reduce", "data")
    # Metrics are summed as well: a few numbers.
    assert found["bytes"] == pytest.approx(by_formula.wire, rel=0.01)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(sized.state))
    assert by_formula.parameters + by_formula.optimizer == held


def test_axes_of_a_collective():
    mesh = make_mesh("data=2,fsdp=2,tensor=2")
    assert compiled.along(((0, 1), (2, 3), (4, 5), (6, 7)), mesh) == "tensor"
    assert compiled.along(((0, 2, 4, 6), (1, 3, 5, 7)), mesh) == "data+fsdp"
    assert compiled.along(((0, 4), (4, 0)), mesh) == "data"


def test_wire_stays_flat_from_16_to_256_devices(sized, work):
    """By formula, with the batch growing as the devices do: data and fsdp move the parameters."""
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(sized.state.params))
    sent = {
        n: estimate.device_cost(sized, work, {"data": n // 4, "fsdp": 4}).wire
        for n in (4, 16, 64, 256)
    }
    assert sent[256] < 1.05 * sent[16] < 3.5 * held
    assert list(sent.values()) == sorted(sent.values())


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"data": 8, "fsdp": 4}, r"data x fsdp = 32: take --batch-size 32"),
        ({"data": 1, "fsdp": 1, "seed": 2}, r"a plan is for data, .*; leave out seed"),
    ],
)
def test_a_mesh_that_does_not_divide_or_is_not_planned_is_said(axes, said):
    with pytest.raises(ValueError, match=said):
        programs.check_mesh(TINY, axes)


def test_a_real_answer_of_the_compiler(sized, work, monkeypatch):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("the TPU compiler is not here: pip install 'crossattn[plan]'")
    # One program of a run's two: each takes a process of its own.
    monkeypatch.setattr(process, "STEPS", {"train": "training"})
    slice_, stages = topology("v5e:2x4"), []
    call = (process.record_of("tiny", "mine", TINY), sized.sizes, slice_)
    (found,) = process.compile_all(*call, ["data=-1,fsdp=2"], stages.append)
    entry = summary.mesh_entry(found, estimate.Estimator(sized, work, slice_))
    assert entry["train"]["fits"]
    assert entry["mesh"] == "data=4,fsdp=2"
    # Parameters, optimizer and rows of the batch, but for padding.
    by_formula = entry["estimate"]
    held = by_formula["parameters"] + by_formula["optimizer"] + by_formula["batch"]
    assert held <= entry["train"]["bytes"]["arguments"] < 20 * held
    sent = {one["axes"] for one in entry["train"]["collectives"]}
    assert sent
    assert sent <= {"data", "fsdp", "data+fsdp"}
    assert stages == ["v5e:2x4, data=4,fsdp=2: compiling the training step"]


def test_topologies():
    two, one = topology("tpu7x:2x2x1"), topology("v5e:1x1")
    assert (two.devices, two.chip.memory, two.host) == (8, 96 * 2**30, (2, 2, 1))
    assert (one.devices, one.chip.memory, one.host) == (1, 16 * 2**30, (1, 1, 1))
