"""Suites as jobs: the same report as in one process, whatever dies on the way."""

import contextlib
import dataclasses
import io
import json
import re
import signal
from pathlib import Path

import jax
import pytest

from crossattn.launch import launcher, options, queues
from crossattn.launch.job import Job
from crossattn.launch.launcher import Watch
from crossattn.launch.options import Launch, LaunchError
from crossattn.launch.tickets import Status, Ticket
from crossattn.report import document
from crossattn.train.folder import Folder
from experiments import ablate
from tests.support import driver, fatal_job, same
from tests.support.suite_command import only_notes

ROOT = Path(__file__).resolve().parents[2]


driver.install()


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Jobs find the programs that the local run compiled for as many devices."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        patch.setenv("JAX_NUM_CPU_DEVICES", str(driver.DEVICES))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setattr(queues.Processes, "interval", 0.1)
        before = jax.config.jax_compilation_cache_dir
        jax.config.update("jax_compilation_cache_dir", folder)
        yield
        jax.config.update("jax_compilation_cache_dir", before)


def typed(*arguments):
    """Run the command here; returns its exit code and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            ablate.main(["tiny", *map(str, arguments)])
        except SystemExit as end:
            return end.code, err.getvalue()
    return 0, err.getvalue()


@pytest.fixture(scope="module")
def asked():
    return "--seeds", 1, "--variants", "cross-attention", "blind"


@pytest.fixture(scope="module")
def here(asked, tmp_path_factory):
    """A run in one process that knows nothing of jobs."""
    out = tmp_path_factory.mktemp("here") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jax.local_devices", driver.two_lanes)
        code, said = typed(*asked, "--out", out)
    assert code == 0, said
    return out


@pytest.fixture(scope="module")
def launched(asked, here, tmp_path_factory):
    pytest.importorskip("submitit")
    out = tmp_path_factory.mktemp("launched") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "Job", fatal_job.FatalJob)
        patch.setattr(queues, "available_cores", lambda: [0, 1, 2, 3])
        code, said = typed(*asked, "--launcher", "processes", "--out", out)
    assert code == 0, said
    return out, said


@pytest.mark.slow
def test_jobs_that_die_go_on_and_the_report_is_the_local_one(asked, here, launched):
    (out, said), variants = launched, asked[3:]
    # Killed, it is submitted again; preempted, submitit starts it again.
    again = r"cross-attention seed 0 \(\d+\): ended without a result; submitted again"
    assert re.search(again, said)
    assert "blind seed 0 was requeued and goes on" in said
    for variant in variants:
        log = (out / "runs" / variant / "seed0" / "log.jsonl").read_text().splitlines()
        resumed = [line for line in map(json.loads, log) if line.get("event") == "resume"]
        assert resumed
        assert resumed[0]["step"] >= 5
    assert same.differences(here, out) == []


@pytest.mark.slow
def test_what_is_finished_is_not_submitted(asked, launched, monkeypatch):
    monkeypatch.setattr(document, "write_report", only_notes)
    monkeypatch.setattr(queues.Processes, "submit", None)
    code, said = typed(*asked, "--launcher", "processes", "--out", launched[0])
    assert code == 0
    assert "2 runs are finished, 0 to go" in said


BLIND = Ticket("blind", (0, 1), "slurm", id="7")


class Cluster(queues.Queue):
    """A queue in memory."""

    interval = grace = 0.0

    def __init__(self, *states):
        self.seen, self.submitted = list(states), []

    def room(self, busy):
        return busy < 1

    def submit(self, job):
        self.submitted.append(job.ticket)
        return str(len(self.submitted))

    def states(self, jobs):
        state = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
        return {ticket.id: state for ticket in jobs}

    def cancelling(self, tickets):
        return "cancel"


def watch(tmp_path, queue):
    said = []
    found = Watch(driver.SUITE, Folder(tmp_path), queue, said.append)
    found.take([], [dataclasses.replace(BLIND, id="")])
    return found, said


def test_told_twice_to_leave_a_job_leaves_once(tmp_path):
    told = []
    before = signal.signal(signal.SIGUSR2, lambda *_: told.append("again"))
    try:
        job = Job(driver.SUITE, Ticket("blind", (0,), "slurm"), tmp_path, str(tmp_path))
        again = job.checkpoint()
        signal.raise_signal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert again.function == job
    assert not told


def test_a_job_that_always_dies_is_given_up(tmp_path):
    found, said = watch(tmp_path, Cluster("running", "over"))
    for _ in range(20):
        if not found.look():
            break
    assert [ticket.number for ticket in found.queue.submitted] == [1, 2, 3]
    assert "blind seed 0 1 (3) ended without a result" in next(iter(found.failed.values()))
    assert len(said) == 3


def test_a_cancelled_job_ends_at_once(tmp_path):
    found, _ = watch(tmp_path, Cluster("waiting", "cancelled"))
    assert found.look()
    assert found.described() == "1 waiting, 0 running"
    assert not found.look()
    assert len(found.queue.submitted) == 1
    assert "was cancelled" in next(iter(found.failed.values()))


def test_what_would_fail_again_is_not_submitted_again(tmp_path):
    found, said = watch(tmp_path, Cluster("running"))
    found.look()
    where = found.under_way[0].ticket.where(found.folder)
    Status(1, starts=2, messages=("a checkpoint is damaged",), steps=31).write(where)
    assert found.look()
    assert (found.steps(), found.described()) == (31, "0 waiting, 1 running, 1 requeued")
    assert said[0] == "a checkpoint is damaged"
    Status(1, starts=2, state="failed", error="loss is nan", hopeless=True).write(where)
    assert not found.look()
    assert "loss is nan" in next(iter(found.failed.values()))


def test_jobs_of_an_earlier_command_are_attached_to_and_never_run_twice(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    BLIND.where(folder).mkdir(parents=True)
    BLIND.write(folder)
    listed = [["7", "RUNNING", "crossattn-blind-seed0-1"], ["8", "PENDING", "other"]]
    monkeypatch.setattr(queues, "_squeue", lambda: listed)
    assert launcher.active_jobs(folder) == [BLIND]
    new = launcher.job_groups(driver.SUITE, folder, 3, Launch("slurm"))
    assert {(ticket.variant, ticket.seeds) for ticket in new} == {
        ("blind", (2,)),
        *(("cross-attention", (seed,)) for seed in range(3)),
    }
    said = "1 job goes on: blind seed 0 1 (7); to cancel: scancel 7"
    assert launcher.describe_active(folder) == said
    with pytest.raises(LaunchError, match=r"in use, 1 job goes on: .* --launcher slurm"):
        launcher.check_free(folder, Launch())
    listed[0][1] = "CANCELLED"
    assert launcher.active_jobs(folder) == []


def test_a_cluster_that_is_silent_does_not_hold_the_launcher_for_ever(monkeypatch):
    slurm = queues.Slurm(Launch("slurm"))
    monkeypatch.setattr(queues, "_squeue", lambda: None)
    assert slurm.states([BLIND]) == {"7": "waiting"}
    slurm.patience = -1.0
    with pytest.raises(LaunchError, match="squeue has not answered"):
        slurm.states([BLIND])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--launcher", "cloud"], "invalid choice"),
        (["--partition", "gpu"], "--partition is for --launcher slurm, not here"),
        (["--launcher", "slurm", "--cpus", "0"], "--cpus must be positive, got 0"),
        (["--launcher", "slurm", "--slurm", "vision"], "--slurm takes KEY=VALUE"),
        (["--launcher", "processes", "--gpus", "1"], "--gpus is for --launcher slurm"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path):
    code, err = typed(*arguments, "--out", tmp_path / "out")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["submitit", "sbatch"])
def test_what_is_missing_is_named(missing, tmp_path, monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda name: missing != name or None)
    monkeypatch.setattr(options, "which", lambda name: None)
    code, err = typed("--launcher", "slurm", "--out", tmp_path / "out")
    assert code == 2
    assert {"submitit": "pip install 'crossattn[slurm]'", "sbatch": "Debian: slurm-client"}[
        missing
    ] in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_jobs_of_a_variant_that_has_changed_are_named(tmp_path, monkeypatch):
    living = [Ticket("blind", (0,), "processes", id="7")]
    monkeypatch.setattr(launcher, "active_jobs", lambda folder: living)
    monkeypatch.setattr(launcher, "describe_active", lambda folder: "1 job goes on: blind (7)")
    launcher.check_changed(Folder(tmp_path), {"cross-attention"})
    with pytest.raises(
        LaunchError, match="blind has changed, and jobs still run it as it was: 1 j"
    ):
        launcher.check_changed(Folder(tmp_path), {"blind"})
