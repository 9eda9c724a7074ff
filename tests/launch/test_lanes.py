"""Jobs side by side: all done, errors stop the others and come out."""

import threading

import jax
import pytest

from crossattn.launch.lanes import run_lanes


def test_every_job_runs_once_each_device_one_at_a_time():
    seen, busy = [], set()

    def job(number, check):
        device = jax.config.jax_default_device
        assert device not in busy
        busy.add(device)
        check()
        seen.append(number)
        busy.remove(device)

    run_lanes(job, [(number,) for number in range(23)])
    assert sorted(seen) == list(range(23))


def test_an_accelerator_takes_several_jobs(monkeypatch):
    monkeypatch.setattr("crossattn.launch.lanes.jobs_on_device", lambda: 3)
    monkeypatch.setattr("jax.local_devices", lambda: jax.devices()[:1])
    together = threading.Barrier(3, timeout=60)
    run_lanes(lambda number, check: together.wait(), [(number,) for number in range(3)])


def test_an_error_stops_the_others_and_comes_out():
    begun, failed = threading.Event(), threading.Event()

    def job(name, check):
        if name == "bad":
            assert begun.wait(60)
            failed.set()
            raise ValueError("broken")
        begun.set()
        assert failed.wait(60)
        while True:
            check()

    with pytest.raises(ValueError, match="broken"):
        run_lanes(job, [("good",), ("bad",)])


def test_an_error_does_not_wait_for_a_lane_that_does_not_look(monkeypatch):
    """It compiles, which cannot be stopped."""
    monkeypatch.setattr("crossattn.launch.lanes.STOP_TIMEOUT", 0.0)
    begun, released = threading.Event(), threading.Event()

    def job(name, check):
        if name == "bad":
            assert begun.wait(60)
            raise ValueError("broken")
        begun.set()
        assert released.wait(60)

    with pytest.raises(ValueError, match="broken"):
        run_lanes(job, [("good",), ("bad",)])
    released.set()


def test_a_process_that_stays_waits_for_a_lane_that_does_not_look(monkeypatch):
    """A notebook: nothing goes on behind the back of who was told that it has ended."""
    monkeypatch.setattr("crossattn.launch.lanes.STOP_TIMEOUT", 0.0)
    begun, failed, ended = threading.Event(), threading.Event(), []

    def job(name, check):
        if name == "bad":
            assert begun.wait(60)
            failed.set()
            raise KeyboardInterrupt
        begun.set()
        assert failed.wait(60)
        threading.Event().wait(0.1)  # compiles on, and does not look
        ended.append(name)

    with pytest.raises(KeyboardInterrupt):
        run_lanes(job, [("good",), ("bad",)], stay=True)
    assert ended == ["good"]
