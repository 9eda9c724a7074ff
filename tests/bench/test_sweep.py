"""Attention by the clock: what an accelerator does, rehearsed on a CPU with tiny shapes."""

import dataclasses
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask, processes
from crossattn.bench.cases import DEVICE_SHAPES, Shape
from crossattn.bench.ceilings import Ceilings
from crossattn.bench.options import Attention
from crossattn.bench.process import WorkerError
from crossattn.bench.summary import details, summarise
from crossattn.bench.sweep import compiling, run, verdicts
from crossattn.bench.sweep.cases import VISIBLE, DeviceCase, device_cases
from crossattn.bench.sweep.contestants import contestant_of, visible_keys
from crossattn.bench.sweep.masks import HIDINGS, hidden_arrays, written_out
from crossattn.bench.sweep.measuring import measure_case
from crossattn.bench.timing import Budget

TINY = Shape("tiny", 2, 8, 16, 2, 4)
SETTING = {"direction": "backward", "dtype": "float32", "threads": 1}
CEILINGS = {"flops": 1e12, "bytes": 1e9, "product": "a", "copy": "b", "kind": "NVIDIA H200"}
FEW = Budget(0.0, 2, 2)


def case_of(mask="segments-unsorted", direction="backward", **more):
    return DeviceCase("attention", TINY, direction, "float32", ["crossattn"], mask=mask, **more)


@pytest.mark.parametrize("name", HIDINGS)
def test_masks_hide_what_is_counted(name):
    hiding, arrays = HIDINGS[name], hidden_arrays(name, TINY, 3)
    options, given = hiding.options(*map(jnp.asarray, arrays)), written_out(name, TINY, arrays)
    if name == "bias":
        assert given["bias"].shape == (1, 1, 8, 16)
        assert visible_keys(case_of(name)) == 16
        return
    seen = np.broadcast_to(np.asarray(options["mask"].dense_array(2, 8, 16)), (2, 1, 8, 16))
    np.testing.assert_array_equal(np.broadcast_to(given["mask"], seen.shape), seen)
    assert 0 < seen.mean() < 1
    if name != "dense":  # of which nothing can be left out
        assert abs(hiding.keys(TINY, arrays) - seen.sum(-1).mean()) < 1e-6


def test_masks_are_those_of_the_fused_paths():
    """Runs are runs, and what is unsorted is not."""
    runs, unsorted = (hidden_arrays(n, TINY, 0)[1] for n in ("segments", "segments-unsorted"))
    assert (np.diff(runs) >= 0).all()
    assert not (np.diff(unsorted) >= 0).all()
    (media,) = HIDINGS["media-all"].options(*hidden_arrays("media-all", TINY, 0))["mask"].terms
    assert not media.latest_only
    assert isinstance(HIDINGS["one-row"].options(jnp.ones((2, 16), bool))["mask"], Mask)


def test_a_loop_waits_for_every_result_of_the_call_before():
    """Each turn reads what the one before wrote, and nothing of a call is moved out or left out."""

    def function(q, k):
        return [q + jnp.sin(k), jnp.cos(k)]

    loop = compiling.in_one_program(function, 5)
    q, k = jnp.ones((1, 2, 1, 3)), jnp.ones((1, 4, 1, 3))[:, :2]
    np.testing.assert_array_equal(loop(q, k), q)
    bad = loop(q, k.at[0, 0, 0, 0].set(jnp.inf))  # sin and cos of it are NaN
    assert jnp.isnan(bad[0, 0, 0, 0])
    assert not jnp.isnan(bad[0, 1]).any()
    bodies = [
        eqn.params["jaxpr"].jaxpr
        for eqn in jax.make_jaxpr(loop)(q, k).eqns
        if eqn.primitive.name == "scan"
    ]
    (barrier,) = (e for e in bodies[0].eqns if e.primitive.name == "optimization_barrier")
    assert len(barrier.invars) == 4  # both inputs and both results
    # k goes from turn to turn through the barrier: what is made of it alone stays in the loop.
    assert bodies[0].outvars[2] is barrier.outvars[1]


@pytest.fixture(scope="module")
def measured():
    """A masked case with gradients: (the case, what became of each job, its record)."""
    names = ["crossattn", VISIBLE, "crossattn[xla]", "crossattn[chunked]", "jax.nn", "splash"]
    case = dataclasses.replace(case_of(), contestants=[*names, "torch-default"])
    jobs = list(compiling.all_jobs([case], [0], {(0, "crossattn[chunked]")}))
    assert jobs == [(0, name) for name in (compiling.AROUND, *names) if "chunked" not in name]
    said = []
    made = compiling.compile_jobs(
        [case],
        jobs,
        threads=2,
        until=time.monotonic() + 600,
        announce=lambda **message: said.append(message),
    )
    assert sorted(m["compiling"] for m in said if "compiling" in m) == sorted(jobs)
    assert sorted(m["compiled"] for m in said if "compiled" in m) == sorted(jobs)
    known = {name: one for (_, name), one in made.items()} | {"torch-default": "absent"}
    return case, known, measure_case(case, known, FEW, lambda name: None)


def test_contestants_are_timed_inside_a_program_and_as_plain_calls(measured):
    case, _, result = measured
    found = result["contestants"]
    assert list(found) == list(case.contestants)
    assert found["crossattn"]["chosen"] == "xla"
    assert found["crossattn[xla]"] == {"reason": "what crossattn takes without being told"}
    assert found["crossattn[chunked]"] == {"reason": "not compiled in time"}
    assert found["torch-default"] == {"reason": "absent"}
    assert "no mask" in found["splash"]["reason"]
    for name in ("crossattn", VISIBLE, "jax.nn"):
        assert len(found[name]["seconds"]) == len(found[name]["call_seconds"]) == 2
        assert all(0 < s < 100 for s in found[name]["seconds"] + found[name]["call_seconds"])
        assert (found[name]["error"] is None) == (name == VISIBLE)
        assert name == VISIBLE or 0 <= found[name]["error"] < 1e-5
    record = summarise(case, {**result, "ceilings": CEILINGS})
    own = record["contestants"]["crossattn"]
    # 2 x 8 queries, 2 of 16 keys seen, 2 heads of 4: 7 products of 2 operations.
    assert own["work"][0] == 7 * 2 * 2 * 8 * 2 * 2 * 4
    assert own["flops_per_second"] == own["work"][0] / own["median"]
    assert own["mfu"] == pytest.approx(own["flops_per_second"] / 989.5e12)
    header, rows = details(record)
    assert {"MFU", "ms inside a program", "ms a plain call", "of the ceiling"} <= set(header)
    assert len(rows) == len(case.contestants)


def test_a_wrong_result_is_no_result(measured):
    case, made, _ = measured
    one = made["crossattn"]
    wrong = dataclasses.replace(one, call=lambda *a: [2 * x for x in one.call(*a)])
    made = {compiling.AROUND: made[compiling.AROUND], "crossattn": wrong}
    (found, *_) = measure_case(case, made, FEW, lambda name: None)["contestants"].values()
    assert found["reason"].startswith("its result is wrong: the error is ")


def test_what_has_not_begun_in_time_is_given_up(measured):
    case, *_ = measured
    jobs = [(0, "no such thing"), (0, "nor this"), (0, "nor that")]
    slow = lambda **message: time.sleep(0.01)
    made = compiling.compile_jobs([case], jobs, threads=1, until=0.0, announce=slow)
    assert made[jobs[-1]] == "not compiled in time"
    nothing = measure_case(case, {}, FEW, lambda name: None)
    assert {c["reason"] for c in nothing["contestants"].values()} == {"not compiled in time"}


def test_programs_for_accelerators_are_lowered():
    """On a machine without one; splash attention takes no shape that is not of whole blocks."""
    shape = Shape("whole", 1, 128, 256, 4, 128, 2)
    tpu = DeviceCase("attention", shape, "backward", "bfloat16", ["splash"], device="tpu")
    gpu = dataclasses.replace(tpu, contestants=["jax.nn"], device="gpu")
    for case, platform, wanted in ((tpu, "tpu", "tpu_custom_call"), (gpu, "cuda", "dot_general")):
        contestant = contestant_of(case, case.contestants[0])
        function = compiling.timed_function(case, contestant)
        loop = compiling.in_one_program(function, compiling.calls_in_a_run(case))
        with jax.numpy_dtype_promotion("standard"):
            traced = jax.jit(loop).trace(*compiling.abstract(case, contestant))
            text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo.while" in text
        assert wanted in text


def test_lists_of_an_accelerator():
    options = Attention(device="gpu")
    assert options.clock() == 8 * 60
    cases = options.cases()
    assert len(cases) == 2 * (len(DEVICE_SHAPES) + len(HIDINGS))
    assert {case.dtype for case in cases} == {"bfloat16"}
    # What is most important stands first: shapes, each with both passes.
    assert [c.shape.name for c in cases[:4]] == ["latents-16k"] * 2 + ["wan-32"] * 2
    assert [c.mask for c in cases if c.shape.name == "odd-1000"] == ["lengths"] * 2
    (mask,) = {c.shape.sizes for c in cases if VISIBLE in c.contestants}
    assert mask == (8, 1024, 4096, 16, 64)
    for case in cases:
        assert DeviceCase.from_json(dataclasses.asdict(case)) == case
        best = max(
            w / rate
            for w, rate in zip(compiling.work_of(case), compiling.NOMINAL["gpu"], strict=True)
        )
        assert best * compiling.calls_in_a_run(case) < 0.06


def fake_record(case, times):
    found = {n: {"median": t} if t else {"reason": "absent"} for n, t in times.items()}
    return {**dataclasses.asdict(case), "contestants": found}


def test_verdicts_hold_results_against_the_bars():
    shapes = [DEVICE_SHAPES[n] for n in ("whisper", "latents-16k", "wan-2")]
    settings = [{"direction": d, "dtype": "bfloat16"} for d in ("forward", "backward")]
    cases = device_cases(shapes, ["keys", "dense"], TINY, settings, ["crossattn", "cudnn"])
    own = [1.0, 1.0, 1.0, 1.0, 1.1e-4, 1.0, 1.31, 1.0]
    peer = [0.91, 0.89, 0.91, 1.19, 1e-4, 1.3, None, None]
    records = [
        fake_record(case, {"crossattn": a, "crossattn[x]": 1e-9, "cudnn": b, VISIBLE: 1.0})
        for case, a, b in zip(cases, own, peer, strict=False)
    ]
    for record in records[:6]:
        del record["contestants"][VISIBLE]
    found = list(verdicts.verdicts(cases, records))
    wanted = [True, False, True, False, True, True, True, False, True, None, None]
    assert [v.met for v in found] == wanted
    assert "0.12 ms, 0.110 measured" in str(found[5])
    assert str(found[1]).startswith("missed: whisper")
    assert "0.89 measured (cudnn)" in str(found[1])
    assert str(found[-1]).startswith("not measured: mask dense")


class FakeProcess(processes.ModuleProcess):
    """Plays what processes say, one list after the other; each list ends with how it ended."""

    plays = iter(())

    def __init__(self, *_, **__):
        *self.said, self.how = next(FakeProcess.plays)
        self.sent = []
        FakeProcess.last = self

    def send(self, **request):
        self.sent.append(request)

    def messages(self):
        while self.said:
            yield self.said.pop(0)

    def kill(self):
        pass

    def end(self):
        return self.how


HELLO = {"device": "fake", "versions": {}, "cores": [0]}
BEST = {"ceilings": CEILINGS}


def result(reason=None):
    one = {"reason": reason} if reason else {"seconds": [1.0], "work": (1.0, 1.0)}
    return {"rounds": 0 if reason else 1, "contestants": {"crossattn": one}}


def played(monkeypatch, *plays, seconds=60.0):
    cases = [case_of(name, "forward") for name in ("keys", "dense")]
    FakeProcess.plays = itertools.chain(plays)
    monkeypatch.setattr(processes, "ModuleProcess", FakeProcess)
    about, given = {}, {"seconds": seconds, "budget": FEW}
    quiet = lambda text: None
    return about, run.run_sweep(cases, device="cpu", about=about, announce=quiet, **given)


def test_what_kills_the_process_is_left_out_of_the_next(monkeypatch):
    compiling_two = [{"compiling": [1, n]} for n in ("jax.nn", "crossattn")]
    first = [HELLO, BEST, {"about": [0, "cudnn"]}, "it was killed"]
    second = [HELLO, BEST, *compiling_two, {"compiled": [1, "crossattn"]}, "it was killed"]
    third = [HELLO, BEST, {"record": [0, result()]}, {"record": [1, result()]}, {"done": True}, ""]
    about, records = played(monkeypatch, first, second, third)
    assert [record["mask"] for record in records] == ["keys", "dense"]
    (request,) = FakeProcess.last.sent
    assert request["excluded"] == [[0, "cudnn", "it was killed"], [1, "jax.nn", "it was killed"]]
    assert about["missing"] == []
    assert about["ceilings"] == Ceilings(**CEILINGS)._asdict()


def test_what_is_missing_has_a_name(monkeypatch):
    late = {"record": [1, result("not compiled in time")]}
    about, records = played(
        monkeypatch, [HELLO, BEST, {"record": [0, result()]}, late, {"done": True}, ""]
    )
    assert len(list(records)) == 2
    assert about["missing"] == ["tiny 2,8,16,2,4, dense, forward, float32"]
    # Out of time: the process was killed, and no other is begun.
    about, records = played(monkeypatch, [HELLO, BEST, {"record": [0, result()]}, "k"], seconds=1.0)
    assert len(list(records)) == 1
    assert len(about["missing"]) == 1


def test_a_process_that_always_dies_is_no_endless_loop(monkeypatch):
    _, records = played(monkeypatch, [HELLO, "no reason"])
    with pytest.raises(WorkerError, match="no reason"):
        list(records)
    _, records = played(monkeypatch, [{"refused": "jax finds no gpu here"}, ""])
    with pytest.raises(WorkerError, match="jax finds no gpu here"):
        list(records)
