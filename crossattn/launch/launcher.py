"""Run a suite as jobs: submit, watch, submit again what died, until all have ended."""

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import jax

from crossattn.train.folder import Folder, pending
from crossattn.train.open_loggers import Logger
from crossattn.train.suite import Suite

from .job import Job
from .options import Launch, LaunchError
from .progress import ProgressBar
from .queues import Queue, State, open_queue
from .tickets import Status, Ticket, read_status, read_tickets

# A job that dies so often will die again.
MOST_SUBMISSIONS = 3


def job_groups(suite: Suite, folder: Folder, seeds: int, launch: Launch) -> list[Ticket]:
    """What has to be submitted, first seeds first: later ones find their programs compiled."""
    busy = {(one.variant, seed) for one in active_jobs(folder) for seed in one.seeds}
    found = []
    for variant, some in pending(suite, folder, seeds):
        left = [seed for seed in some if (variant, seed) not in busy]
        for group in launch.jobs(left, sweep=suite.sweep):
            found.append(Ticket(variant, group, launch.launcher))
    return sorted(found, key=lambda ticket: ticket.seeds[0])


def active_jobs(folder: Folder) -> list[Ticket]:
    """Jobs of earlier commands that still wait or run."""
    found = []
    for queue, tickets in _queues(folder):
        states = queue.states(tickets)
        found += [ticket for ticket in tickets if states[ticket.id] in ("waiting", "running")]
    return found


def _queues(folder: Folder) -> Iterator[tuple[Queue, list[Ticket]]]:
    """Unfinished jobs of earlier commands, with the queue that each was submitted to."""
    tickets = [ticket for ticket in read_tickets(folder) if not _finished(folder, ticket)]
    for launcher in ("processes", "slurm"):
        if some := [ticket for ticket in tickets if ticket.launcher == launcher]:
            yield open_queue(Launch(launcher=launcher), folder), some


def _finished(folder: Folder, ticket: Ticket) -> bool:
    return all(folder.finished(ticket.variant, seed) for seed in ticket.seeds)


def describe_active(folder: Folder) -> str:
    """A line on the jobs that live without a launcher; empty where there are none."""
    living = active_jobs(folder)
    lines = []
    for queue, tickets in _queues(folder):
        if some := [ticket for ticket in tickets if ticket in living]:
            go = "1 job goes" if len(some) == 1 else f"{len(some)} jobs go"
            lines.append(f"{go} on: {_named(some)}; to cancel: {queue.cancelling(some)}")
    return "\n".join(lines)


def _named(tickets: Sequence[Ticket]) -> str:
    return ", ".join(f"{ticket.label} ({ticket.id})" for ticket in tickets)


def check_free(folder: Folder, launch: Launch) -> None:
    """Make sure that no job of another launcher writes where this one is about to.

    Raises:
      LaunchError: names the jobs and how to cancel them.
    """
    others = {ticket.launcher for ticket in active_jobs(folder)} - {launch.launcher}
    if others:
        raise LaunchError(
            f"{folder.path} is in use, {describe_active(folder)}; "
            f"to attach to them: --launcher {others.pop()}"
        )


def check_changed(folder: Folder, variants: Collection[str]) -> None:
    """Make sure that no job still runs a variant as it was before it changed.

    Raises:
      LaunchError: names the jobs and how to cancel them.
    """
    if any(ticket.variant in variants for ticket in active_jobs(folder)):
        raise LaunchError(
            f"{', '.join(sorted(variants))} has changed, and jobs still run it as it was: "
            f"{describe_active(folder)}"
        )


def describe_jobs(suite: Suite, folder: Folder, seeds: int, launch: Launch) -> str:
    """A line on the jobs that a suite would be; empty where it would run here."""
    if not launch.elsewhere:
        return ""
    jobs = len(job_groups(suite, folder, seeds, launch))
    return f"As {jobs} jobs of at most {launch.minutes} minutes, with {launch.cpus} cores each.\n"


def launch_suite(
    suite: Suite,
    folder: Folder,
    seeds: int,
    launch: Launch,
    command: str,
    loggers: Sequence[Logger] = (),
) -> str:
    """Run what is not finished as jobs, under one progress bar; returns what they ran on.

    Raises:
      LaunchError: some jobs ended without a result, after all others have ended.
    """
    queue = open_queue(launch, folder)
    there = [one for one in active_jobs(folder) if one.variant in suite.variants]
    todo = job_groups(suite, folder, seeds, launch)
    steps = sum(suite.steps(ticket.variant, len(ticket.seeds)) for ticket in (*there, *todo))
    with ProgressBar(steps, "submitting") as bar:
        notify = lambda message: bar.say(f"{command}: {message}")
        if there:
            notify(f"attached to {_named(there)}")
        watch = Watch(suite, folder, queue, notify, loggers)
        watch.take(there, todo)
        try:
            while watch.look():
                bar.set_description(watch.described(), refresh=False)
                bar.update(watch.steps() - bar.n)
                time.sleep(queue.interval)
        except BaseException:
            queue.leave()
            raise
        bar.update(watch.steps() - bar.n)
    queue.close()
    if watch.failed:
        raise LaunchError(
            f"{len(watch.failed)} of {len(watch.failed) + len(watch.done)} jobs failed: "
            f"{'; '.join(watch.failed.values())}; the others are finished, "
            "the same command tries these again"
        )
    return _devices(folder)


def _devices(folder: Folder) -> str:
    """What the jobs of a folder ran on."""
    said = [read_status(ticket.where(folder), ticket.number) for ticket in read_tickets(folder)]
    return ", ".join(sorted({status.device for status in said if status and status.device}))


@dataclasses.dataclass
class Tracked:
    """A submission that the launcher watches."""

    ticket: Ticket
    state: State = "waiting"
    status: Status | None = None
    over_since: float | None = None
    submissions: int = 1


@dataclasses.dataclass
class Watch:
    """The jobs of a launcher: those to submit, under way, done, and failed for good."""

    suite: Suite
    folder: Folder
    queue: Queue
    notify: Callable[[str], None]
    loggers: Sequence[Logger] = ()
    todo: list[Tracked] = dataclasses.field(default_factory=list)
    under_way: list[Tracked] = dataclasses.field(default_factory=list)
    done: list[Ticket] = dataclasses.field(default_factory=list)
    failed: dict[Ticket, str] = dataclasses.field(default_factory=dict)
    requeued: int = 0

    def take(self, there: Sequence[Ticket], todo: Sequence[Ticket]) -> None:
        """Watch the jobs that are there, and submit the others."""
        self.under_way += [Tracked(ticket) for ticket in there]
        self.todo += [Tracked(ticket, submissions=0) for ticket in todo]

    def look(self) -> bool:
        """Submit what has room, and see how all jobs are; whether any is left."""
        while self.todo and self.queue.room(len(self.under_way)):
            self._submit(self.todo.pop(0))
        states = self.queue.states([one.ticket for one in self.under_way])
        for one in tuple(self.under_way):
            self._update(one, states[one.ticket.id])
        return bool(self.todo or self.under_way)

    def described(self) -> str:
        """How many jobs are in which state."""
        running = sum(one.state == "running" and one.status is not None for one in self.under_way)
        counts = {
            "waiting": len(self.todo) + len(self.under_way) - running,
            "running": running,
            "done": len(self.done),
            "failed": len(self.failed),
            "requeued": self.requeued,
        }
        shown = {name: n for name, n in counts.items() if n or name in ("waiting", "running")}
        return ", ".join(f"{n} {name}" for name, n in shown.items())

    def steps(self) -> int:
        """Finished steps of all jobs."""
        done = sum(self.suite.steps(ticket.variant, len(ticket.seeds)) for ticket in self.done)
        return done + sum(one.status.steps for one in self.under_way if one.status)

    def _submit(self, one: Tracked) -> None:
        earlier = [t.number for t in read_tickets(self.folder) if t.name == one.ticket.name]
        ticket = dataclasses.replace(one.ticket, number=max(earlier, default=0) + 1, id="")
        ticket.where(self.folder).mkdir(parents=True, exist_ok=True)
        cache = str(jax.config.jax_compilation_cache_dir)  # type: ignore[attr-defined]
        path = self.folder.path.absolute()
        job = Job(self.suite, ticket, path, cache, self.loggers)
        ticket = dataclasses.replace(ticket, id=self.queue.submit(job))
        ticket.write(self.folder)
        self.under_way.append(Tracked(ticket, submissions=one.submissions + 1))

    def _update(self, one: Tracked, state: State) -> None:
        ticket = one.ticket
        before, status = one.status, read_status(ticket.where(self.folder), ticket.number)
        one.state, one.status = state, status
        for message in status.messages[len(before.messages) if before else 0 :] if status else ():
            self.notify(message)
        starts = status.starts if status else 1
        if starts > (before.starts if before else 1):
            self.requeued += 1
            self.notify(f"{ticket.label} was requeued and goes on ({ticket.id})")
        if _finished(self.folder, ticket):
            self.under_way.remove(one)
            self.done.append(ticket)
        elif state == "cancelled":
            self._end(one, "was cancelled")
        elif status is not None and status.state == "failed":
            self._retry(one, status.error, hopeless=status.hopeless)
        elif state == "over":
            one.over_since = one.over_since or time.monotonic()
            if time.monotonic() - one.over_since >= self.queue.grace:
                self._retry(one, "ended without a result", hopeless=False)
        else:
            one.over_since = None

    def _retry(self, one: Tracked, reason: str, *, hopeless: bool) -> None:
        if hopeless or one.submissions >= MOST_SUBMISSIONS:
            self._end(one, reason)
            return
        self.under_way.remove(one)
        self._submit(one)
        self.requeued += 1
        again = self.under_way[-1].ticket.id
        self.notify(f"{one.ticket.label} ({one.ticket.id}): {reason}; submitted again ({again})")

    def _end(self, one: Tracked, reason: str) -> None:
        ticket = one.ticket
        self.under_way.remove(one)
        self.failed[ticket] = (
            f"{ticket.label} ({ticket.id}) {reason} (its output: {ticket.log(self.folder)})"
        )
        self.notify(self.failed[ticket])
