"""Checkpoints of runs side by side do not disturb one another."""

from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import pytest

from crossattn.train.checkpoint import Checkpoints
from crossattn.train.step import State


def state(value):
    return State(jnp.int32(value), {"w": jnp.full((3, 5), float(value))}, ())


def save_many(folder, offset):
    with Checkpoints(folder) as checkpoints:
        for step in range(1, 16):
            checkpoints.save(step, state(offset + step), {"epoch": 0, "batch": step})


def test_two_runs_save_at_the_same_time(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(save_many, tmp_path / str(n), 100 * n) for n in range(2)]
        for job in jobs:
            job.result()
    for number in range(2):
        with Checkpoints(tmp_path / str(number)) as checkpoints:
            restored, position = checkpoints.restore(state(0))
        assert restored.params["w"][2, 4] == 100 * number + 15
        assert position == {"epoch": 0, "batch": 15}


def test_what_a_kill_left_half_written_is_not_seen(tmp_path):
    save_many(tmp_path, 0)
    (tmp_path / "16.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 15


def test_the_first_run_has_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.latest() is None


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_two_newest_are_kept(tmp_path, steps):
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, steps + 1):
            checkpoints.save(step, state(step), {})
    kept = sorted(int(path.name) for path in tmp_path.iterdir())
    assert kept == list(range(1, steps + 1))[-2:]
