"""Independent jobs side by side, one per device."""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import jax

from crossattn.processes import available_cores
from crossattn.train.checkpoint import saving
from crossattn.train.memory import jobs_on_device, keep_freed_memory

# More lanes than this do not help a CPU: each step already uses a thread or two.
MOST_CPU_LANES = 4
# Seconds in which jobs that have to stop end by themselves, unless they compile or evaluate.
STOP_TIMEOUT = 1.0


class StoppedError(RuntimeError):
    """Another lane failed, or the user interrupted."""


def prepare_cpu(devices: int | None = None) -> None:
    """Let a CPU show so many devices, or one per core, before JAX looks at its devices.

    What its steps free stays with the process.
    """
    keep_freed_memory()
    with contextlib.suppress(RuntimeError):  # the devices are known already
        jax.config.update(
            "jax_num_cpu_devices", devices or min(len(available_cores()), MOST_CPU_LANES)
        )


def run_lanes(
    job: Callable[..., None], arguments: Sequence[tuple[Any, ...]], *, stay: bool = False
) -> None:
    """Call `job(*arguments[i], check)` for every i, each device taking the next that is left.

    An accelerator takes several at a time, so that one compiles while another trains.

    What a job computes does not depend on the device or on its neighbours. `check` raises in a job
    that has to stop, because another failed or the user interrupted. Where the process is to `stay`
    alive, as a notebook does, jobs that have to stop are waited for, however long they compile.

    Raises:
      KeyboardInterrupt: the user interrupted; no checkpoint is being written, but jobs that do not
        call `check` for a while, such as those that compile, may still be under way.
      The first error of a job, once all others have stopped, or have not within `STOP_TIMEOUT`.
    """
    waiting: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    for item in arguments:
        waiting.put(item)
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise StoppedError

    def lane(device: jax.Device) -> None:
        with jax.default_device(device):
            while not stop.is_set():
                try:
                    item = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    job(*item, check)
                except BaseException:
                    stop.set()
                    raise

    devices = (jax.local_devices() * jobs_on_device())[: max(1, len(arguments))]
    patience = None if stay else STOP_TIMEOUT
    pool = ThreadPoolExecutor(len(devices), thread_name_prefix="lane")
    lanes: list[Future[None]] = []
    try:
        lanes += [pool.submit(lane, device) for device in devices]
        wait(lanes, return_when=FIRST_EXCEPTION)
    except BaseException:
        stop.set()
        pool.shutdown(wait=False)
        while wait(lanes, timeout=patience).not_done and saving():
            pass
        raise
    ended, late = wait(lanes, timeout=patience)
    pool.shutdown(wait=not late)
    errors = [lane.exception() for lane in ended]
    failed = [error for error in errors if error is not None]
    for error in sorted(failed, key=lambda error: isinstance(error, StoppedError)):
        raise error
