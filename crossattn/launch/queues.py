"""Where jobs are submitted and their states asked for: processes of this machine, or Slurm."""

import abc
import contextlib
import io
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from crossattn.processes import available_cores
from crossattn.train.folder import Folder

from .job import Job
from .options import Launch, LaunchError
from .tickets import Ticket, runs

State = Literal["waiting", "running", "cancelled", "over"]
# Of Slurm's states; all others mean that the job is over, in whatever way.
SLURM_STATES: dict[str, State] = {
    **dict.fromkeys(("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"), "waiting"),
    **dict.fromkeys(("CONFIGURING", "RUNNING", "COMPLETING", "STAGE_OUT"), "running"),
    **dict.fromkeys(("SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"), "running"),
    "CANCELLED": "cancelled",
}
# A job may run into its time limit so often; each time it goes on from its newest checkpoint.
MOST_TIMEOUTS = 20
# Seconds before the time limit at which a job is asked to end.
NOTICE = 30
# Seconds in which a process ends whose job has ended.
PROCESS_ENDS = 60.0


class Queue(abc.ABC):
    """Takes jobs and knows how they are.

    Attributes:
      interval: seconds between two looks.
      grace: seconds in which the files of a job that is over may still be on their way.
    """

    interval: float
    grace: float

    @abc.abstractmethod
    def room(self, busy: int) -> bool:
        """Whether to submit one more job beside those under way."""

    @abc.abstractmethod
    def submit(self, job: Job) -> str:
        """Begin a job; returns what its ticket calls `id`."""

    @abc.abstractmethod
    def states(self, tickets: Sequence[Ticket]) -> dict[str, State]:
        """The state of each submission by its id."""

    def leave(self) -> None:  # noqa: B027 - a queue may do nothing
        """What happens to the jobs when the launcher is interrupted."""

    def close(self) -> None:  # noqa: B027 - a queue may do nothing
        """What remains to be done when all jobs have ended."""

    @abc.abstractmethod
    def cancelling(self, tickets: Sequence[Ticket]) -> str:
        """What a user types to cancel jobs."""


def open_queue(launch: Launch, folder: Folder) -> Queue:
    """The queue of a launcher."""
    return Slurm(launch) if launch.launcher == "slurm" else Processes(launch, folder)


class Processes(Queue):
    """Jobs on the CPUs of this machine, as many as it has cores for."""

    interval, grace = 0.5, 0.0

    def __init__(self, launch: Launch, folder: Folder):
        self.launch, self.folder = launch, folder
        self.jobs: dict[str, Any] = {}

    def room(self, busy: int) -> bool:
        """One job for so many cores, and at least one."""
        return busy < max(1, len(available_cores()) // self.launch.cpus)

    def submit(self, job: Job) -> str:
        """Start submitit's process, which starts and restarts the job's."""
        import submitit

        log = job.ticket.log(Folder(job.folder))
        executor = submitit.LocalExecutor(folder=log, max_num_timeout=MOST_TIMEOUTS)
        executor.update_parameters(timeout_min=self.launch.minutes, signal_delay_s=NOTICE)
        with _stderr_into(log / "launcher.err"):
            submitted = executor.submit(job)
        self.jobs[submitted.job_id] = submitted
        return submitted.job_id

    def states(self, tickets: Sequence[Ticket]) -> dict[str, State]:
        """Own processes are asked; of an earlier launcher's, the lock says whether they live."""
        found: dict[str, State] = {}
        for ticket in tickets:
            own = self.jobs.get(ticket.id)
            alive = runs(ticket.where(self.folder)) if own is None else not own.done()
            found[ticket.id] = "running" if alive else "over"
        return found

    def leave(self) -> None:
        """End what was started, as Ctrl-C in a terminal does: it goes on from its checkpoints."""
        for job in self.jobs.values():
            if not job.done():
                job.cancel()
        self.close()

    def close(self) -> None:
        """Wait for the processes of submitit: they take a second to end the jobs."""
        deadline = time.monotonic() + PROCESS_ENDS
        while time.monotonic() < deadline and not all(job.done() for job in self.jobs.values()):
            time.sleep(0.05)

    def cancelling(self, tickets: Sequence[Ticket]) -> str:
        """End the processes of submitit, which start the jobs, and they end the jobs."""
        return " ".join(["kill -INT", *(ticket.id for ticket in tickets)])


@contextlib.contextmanager
def _stderr_into(path: Path) -> Iterator[None]:
    """Within, new processes write their errors into a file: users see no interrupt's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Slurm(Queue):
    """Jobs of a cluster. They live on without the launcher."""

    interval, grace = 5.0, 60.0
    # Seconds without an answer after which the launcher gives up, and the jobs go on.
    patience = 600.0

    def __init__(self, launch: Launch):
        self.launch = launch
        self.known: dict[str, State] = {}
        self.answered = time.monotonic()

    def room(self, busy: int) -> bool:
        """The cluster has a queue of its own."""
        return True

    def submit(self, job: Job) -> str:
        """Hand the job to sbatch."""
        import submitit

        log = job.ticket.log(Folder(job.folder))
        executor = submitit.SlurmExecutor(folder=log, max_num_timeout=MOST_TIMEOUTS)
        launch = self.launch
        further = dict(pair.split("=", 1) for pair in launch.slurm)
        executor.update_parameters(
            job_name=f"crossattn-{job.ticket.name}",
            time=launch.minutes,
            cpus_per_task=launch.cpus,
            mem=f"{round(launch.memory * 1024)}M",
            signal_delay_s=NOTICE,
            **({"partition": launch.partition} if launch.partition else {}),
            **({"gpus_per_node": launch.gpus} if launch.gpus else {}),
            additional_parameters={"requeue": True, **further},
        )
        try:
            # submitit prints what it raises.
            with contextlib.redirect_stderr(io.StringIO()):
                return executor.submit(job).job_id
        except submitit.core.utils.FailedJobError as error:
            raise LaunchError(f"sbatch refuses {job.ticket.label}: {error}") from None

    def states(self, tickets: Sequence[Ticket]) -> dict[str, State]:
        """One question for all jobs; where it is not answered, what was known before."""
        if (listed := _squeue()) is not None:
            self.answered = time.monotonic()
            self.known = {ticket.id: "over" for ticket in tickets}
            for number, state, name in listed:
                # Whoever sets up a controller again begins to count again.
                if number in self.known and name.startswith("crossattn-"):
                    self.known[number] = SLURM_STATES.get(state, "over")
        elif time.monotonic() - self.answered > self.patience:
            raise LaunchError(
                f"squeue has not answered for {self.patience:.0f} seconds; the jobs go on, "
                "the same command attaches to them again"
            )
        return {ticket.id: self.known.get(ticket.id, "waiting") for ticket in tickets}

    def cancelling(self, tickets: Sequence[Ticket]) -> str:
        """Both those that run and those that wait."""
        return " ".join(["scancel", *(ticket.id for ticket in tickets)])


def _squeue() -> list[list[str]] | None:
    """Number, state and name of this user's jobs, those that ended a short while ago included."""
    if shutil.which("squeue") is None:
        return []  # not a machine of the cluster: what an earlier command left here is history
    ask = ["squeue", "--me", "--states=all", "--noheader", "--format=%i|%T|%j"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return None
    return [fields for line in said.splitlines() if len(fields := line.split("|", 2)) == 3]
