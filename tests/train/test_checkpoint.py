"""Checkpoints: side by side, damaged, and of another model."""

import gc
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crossattn.files import SEAL
from crossattn.train.checkpoint import CheckpointError, Checkpoints, newest
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
            restored = checkpoints.restore(state(0))
        assert restored.state.params["w"][2, 4] == 100 * number + 15
        assert restored.position == {"epoch": 0, "batch": 15}
        assert (restored.step, restored.damaged) == (15, ())


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


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints of steps 4 and 9 of a model with two parameters."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (4, 9):
            checkpoints.save(step, trained(step), {"batch": step})
    return folder


def trained(value, shape=(97, 89), name="kernel"):
    params = {"params": {name: jnp.full(shape, float(value)), "bias": jnp.zeros(7)}}
    with jax.numpy_dtype_promotion("standard"):
        return State(jnp.int32(value), params, optax.adamw(1e-3).init(params))


def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "run" / "checkpoints")


def biggest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x55
    file.write_bytes(content)


DAMAGES = {
    "data cut": lambda step: cut(biggest(step / "state")),
    "data flipped": lambda step: flip(biggest(step / "state")),
    "data gone": lambda step: biggest(step / "state").unlink(),
    "index cut": lambda step: cut(step / "state" / "manifest.ocdbt"),
    "names cut": lambda step: cut(step / "state" / "_METADATA"),
    "names gone": lambda step: (step / "state" / "_METADATA").unlink(),
    "position gone": lambda step: (step / "position" / "metadata").unlink(),
    "state gone": lambda step: shutil.rmtree(step / "state"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(two, tmp_path, damage):
    folder = copy(two, tmp_path)
    damage(folder / "9")
    with Checkpoints(folder, read_only=True) as checkpoints:
        restored = checkpoints.restore(trained(0))
    assert (restored.step, restored.damaged) == (4, (9,))
    assert restored.position == {"batch": 4}
    assert restored.state.params["params"]["kernel"][96, 88] == 4


def flip_bit(file, place):
    content = bytearray(file.read_bytes())
    content[place // 8] ^= 1 << place % 8
    file.write_bytes(content)


def test_every_flipped_bit_is_noticed(tmp_path):
    """In the largest file of arrays and in the position: what is restored is what was saved."""
    folder = tmp_path / "run" / "checkpoints"
    random = np.random.default_rng(0)
    noise = lambda step: State(
        jnp.int32(step), {"w": jnp.asarray(random.standard_normal((31, 29)), jnp.float32)}, ()
    )
    with Checkpoints(folder) as checkpoints:
        for step in (4, 9):
            checkpoints.save(step, noise(step), {"epoch": 0, "batch": step}, [{"loss": 0.5}])
    array, position = biggest(folder / "9" / "state"), folder / "9" / "position" / "metadata"
    sealed = folder / "9" / SEAL
    missed = []
    for file, count in ((array, 40), (position, 10), (sealed, 10)):
        whole = file.read_bytes()
        for place in random.choice(8 * len(whole), count, replace=False):
            flip_bit(file, int(place))
            with Checkpoints(folder, read_only=True) as checkpoints:
                restored = checkpoints.restore(noise(0))
            if (restored.step, restored.damaged) != (4, (9,)):
                missed.append((file.name, place))
            file.write_bytes(whole)
    assert missed == []
    with Checkpoints(folder, read_only=True) as checkpoints:
        restored = checkpoints.restore(noise(0))
    assert (restored.step, restored.damaged, restored.checked) == (9, (), True)
    assert restored.unlogged == [{"loss": 0.5}]


def test_a_flipped_bit_of_an_array_is_noticed_without_checksums_of_files(tmp_path):
    """They are lost where a process is killed at the wrong moment."""
    folder = tmp_path / "run" / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (4, 9):
            checkpoints.save(step, trained(step), {"batch": step})
    state = trained(9)
    state.params["params"]["kernel"] = state.params["params"]["kernel"].at[55, 44].add(1e-6)
    with Checkpoints(tmp_path / "other") as checkpoints:
        checkpoints.save(9, state, {"batch": 9})
    shutil.rmtree(folder / "9" / "state")
    shutil.copytree(tmp_path / "other" / "9" / "state", folder / "9" / "state")
    (folder / "9" / SEAL).unlink()
    with Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.restore(trained(0)).damaged == (9,)


def test_a_checkpoint_from_before_there_were_digests_is_taken_and_said(two, tmp_path):
    folder = copy(two, tmp_path)
    (folder / "9" / "position" / "metadata").write_text('{"batch": 9}')
    (folder / "9" / SEAL).unlink()
    with Checkpoints(folder, read_only=True) as checkpoints:
        restored = checkpoints.restore(trained(0))
    assert (restored.step, restored.position, restored.checked) == (9, {"batch": 9}, False)


@pytest.mark.parametrize("taken", ["digest", "position", "unlogged"])
def test_what_lacks_a_part_of_its_position_is_damaged(two, tmp_path, taken):
    folder = copy(two, tmp_path)
    file = folder / "9" / "position" / "metadata"
    content = json.loads(file.read_text())
    del content[taken]
    file.write_text(json.dumps(content))
    (folder / "9" / SEAL).unlink()
    with Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.restore(trained(0)).damaged == (9,)


def test_training_goes_on_where_a_damaged_checkpoint_lay(two, tmp_path):
    folder = copy(two, tmp_path)
    DAMAGES["data cut"](folder / "9")
    with Checkpoints(folder) as checkpoints:
        checkpoints.restore(trained(0))
        assert checkpoints.set_aside(9).is_dir()
        assert checkpoints.latest() == newest(folder) == 4
        checkpoints.save(9, trained(10), {"batch": 9})
    with Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.restore(trained(0)).state.params["params"]["kernel"][0, 0] == 10
    gc.collect()  # what Orbax leaves behind would be reported here


def test_all_damaged_is_one_line_that_says_what_to_do(two, tmp_path):
    folder = copy(two, tmp_path)
    for step in ("4", "9"):
        cut(biggest(folder / step / "state"))
    with Checkpoints(folder) as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoints.restore(trained(0))
    said = str(error.value)
    assert f"no checkpoint in {folder} can be read (damaged: 9, 4)" in said
    assert f"remove {folder.parent}" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("like", "difference"),
    [
        ({"shape": (97, 83)}, "params/params/kernel is (97, 89) there and (97, 83) here"),
        ({"name": "weight"}, "params/params/kernel is (97, 89) there and missing here"),
    ],
)
def test_a_checkpoint_of_another_model_is_never_passed_over(two, tmp_path, like, difference):
    with Checkpoints(two) as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoints.restore(trained(0, **like))
    assert str(error.value) == f"{two / '9'} is a checkpoint of another model: {difference}"


def test_one_step_can_be_asked_for(two):
    with Checkpoints(two, read_only=True) as checkpoints:
        assert checkpoints.restore(trained(0), step=4).step == 4


def test_reading_creates_nothing(tmp_path):
    with (
        pytest.raises((CheckpointError, ValueError, OSError)),
        Checkpoints(tmp_path / "none", read_only=True) as checkpoints,
    ):
        checkpoints.restore(trained(0))
    assert not (tmp_path / "none").exists()
