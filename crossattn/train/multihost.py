"""Several processes that train together: who writes, how they meet, what a lost one does."""

import contextlib
import fcntl
import ipaddress
import os
import platform
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from crossattn.train import heartbeat
from crossattn.train.heartbeat import LOST

# Seconds after which a process says that it waits for others, and after which it gives up.
PATIENCE, WAIT = 10.0, 300.0


def initialize(command: str, explicit: Sequence[str]) -> None:
    """Join the other processes; before JAX looks at its devices.

    Where they do not come, the process ends with one line and the exit code 2.

    Args:
      command: name in what is said.
      explicit: address with port of process 0, number of processes, number of this one; nothing
        takes them from the environment (Slurm, TPU slices, Open MPI). Process 0 listens at that
        address only, or at JAX_COORDINATOR_BIND_ADDRESS where the environment has it.

    Raises:
      ValueError: these are no such values, process 0 is not at that address, or the environment
        tells of no processes.
      RuntimeError: JAX refuses them.

    Example:
      >>> initialize("ablate", ["localhost", "2"])
      Traceback (most recent call last):
      ValueError: --distributed takes ADDRESS:PORT PROCESSES INDEX or nothing, got localhost 2
    """
    address, count, index = _explicit(explicit) if explicit else (None, None, None)
    at = _listening(command, address) if address and index == 0 else None
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # A lost process must not end this one before it has said which.
    jax.config.update("jax_enable_recoverability", True)
    try:
        with _impatient(command):
            jax.distributed.initialize(
                address,
                count,
                index,
                initialization_timeout=int(2 * WAIT),
                coordinator_bind_address=at,
            )
    except ValueError:
        if explicit:
            raise
        raise ValueError(
            "--distributed: neither Slurm nor a TPU slice nor Open MPI tells of processes here: "
            "write --distributed ADDRESS:PORT PROCESSES INDEX"
        ) from None


@contextlib.contextmanager
def _impatient(command: str) -> Iterator[None]:
    """Within, tell that others are waited for, and end before JAX does so with a page of words."""

    def say(word: str) -> None:
        os.write(2, f"{command}: {word}\n".encode())

    def give_up() -> None:
        say(
            f"not all processes came together within {WAIT:.0f} seconds: give every one the same "
            "address and number of processes, and start each INDEX once"
        )
        os._exit(2)

    timers = [
        threading.Timer(PATIENCE, say, ["waiting for the other processes"]),
        threading.Timer(WAIT, give_up),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _explicit(explicit: Sequence[str]) -> tuple[str, int, int]:
    try:
        address, processes, index = explicit
        count, number = int(processes), int(index)
    except ValueError:
        raise ValueError(
            f"--distributed takes ADDRESS:PORT PROCESSES INDEX or nothing, got {' '.join(explicit)}"
        ) from None
    place = re.fullmatch(r"([^\s:\[\]]+|\[[^\s\[\]]+\]):(\d{1,5})", address, re.ASCII)
    if not place or not 0 < int(place[2]) < 2**16 or not 0 <= number < count:
        raise ValueError(
            f"--distributed {' '.join(explicit)}: write an address with its port, as node0:1234 or "
            f"[::1]:1234, and an INDEX from 0 to {max(count, 1) - 1}"
        )
    return address, count, number


def _listening(command: str, address: str) -> str | None:
    """Where process 0 listens; None where the environment says it.

    JAX would listen on all interfaces of the machine, whatever address it was given.
    """
    if "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return None
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = {
            str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        }
    except OSError:
        raise ValueError(f"--distributed {address}: there is no host {host}") from None
    if not any(map(_here, found)):
        raise ValueError(
            f"--distributed {address}: that is no address of this machine, where process 0 is to "
            "listen: start process 0 there, or say with JAX_COORDINATOR_BIND_ADDRESS where it "
            "listens, such as [::]:PORT for all interfaces"
        )
    if host not in (*found, "localhost") and all(
        ipaddress.ip_address(x).is_loopback for x in found
    ):
        said = f"{host} is {min(found)} on this machine: processes of others cannot join there"
        print(f"{command}: {said}; for those give its address in the network", file=sys.stderr)
    return address


def _here(address: str) -> bool:
    """Whether an interface of this machine has an address."""
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as tried:
        try:
            tried.bind((address, 0))
        except OSError:
            return False
    return True


def is_writer() -> bool:
    """Whether this process writes logs, records and reports; checkpoints are written by all."""
    return jax.process_index() == 0


def barrier(place: str) -> None:
    """Wait for all processes: what one has written the others can read."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def broadcast(values: Sequence[int]) -> list[int]:
    """What process 0 thinks, for all: processes that see files differently must do the same."""
    if jax.process_count() == 1:
        return list(values)
    return np.asarray(multihost_utils.broadcast_one_to_all(np.array(values, np.int32))).tolist()


def all_gather(values: np.ndarray) -> np.ndarray:
    """What each process has, (processes, ...)."""
    if jax.process_count() == 1:
        return values[None]
    return np.asarray(multihost_utils.process_allgather(values))


@contextlib.contextmanager
def fail_together(folder: Path, command: str) -> Iterator[None]:
    """Within, the loss of another process ends this one with one line and the exit code `LOST`.

    Every process holds a lock on a file in the folder that all share (see `Folder.hold`): the
    system lets go of it when a process ends in whatever way. Process 0 looks at the locks of all
    others, these look at that of process 0, which leaves word whom it has lost.
    """
    if jax.process_count() == 1:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    here = jax.process_index()
    others = [0] if here else range(1, jax.process_count())
    with (folder / str(here)).open("a+") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        name = f"process {here} on {platform.node()}"
        _write(mine.fileno(), f"{name} is lost")
        barrier("locks")
        files = [str(folder / str(index)) for index in (here, *others)]
        child = subprocess.Popen([sys.executable, "-I", "-S", heartbeat.__file__, command, *files])
        threading.Thread(target=_end_with, args=(child,), daemon=True).start()
        try:
            yield
            _leave([folder / str(index) for index in others])
            _write(mine.fileno(), heartbeat.FINISHED)
        except BaseException as error:
            # A collective fails when its partner is gone: the watch says so better.
            if isinstance(error, RuntimeError):
                time.sleep(heartbeat.GRACE)
            _write(mine.fileno(), f"{name} {heartbeat.FAILED}")
            raise
        finally:
            child.kill()
            child.wait()


def _leave(others: Sequence[Path]) -> None:
    """Process 0 leaves when all others have: what they end with needs it."""
    if jax.process_index():
        jax.distributed.shutdown()
        return
    for path in others:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)


def _end_with(child: subprocess.Popen) -> None:
    if child.wait() == LOST:
        os._exit(LOST)


def _write(file: int, word: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, word.encode(), 0)
