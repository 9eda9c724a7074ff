"""The training loop: batch, step, log, save. It never waits for the step just dispatched."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crossattn.data.batches import Batches
from crossattn.train import step as steps
from crossattn.train.chunks import Chunks
from crossattn.train.initial import initial_parameters, put_in
from crossattn.train.optimizer import optimizer_of
from crossattn.train.parallel import SINGLE_DEVICE, Parallelism
from crossattn.train.run import Run
from crossattn.train.seat import NonFiniteLossError, Seat, Seated
from crossattn.train.step import State
from crossattn.train.tracing import NOT_TRACED, Tracer
from crossattn.train.utilization import Meter, model_flops, peak_flops

__all__ = ["NonFiniteLossError", "Seat", "TrainPrograms", "fit", "fit_seeds"]


class TrainPrograms:
    """The compiled programs of one variant, shared by all its seeds.

    The seed is an argument of `create`. On one device each seed runs by itself: what is computed
    for a seed does not depend on which other seeds run. On a mesh with an axis seed, or where a
    device trains several seeds together, their numbers may differ by rounding from those of a seed
    alone.

    Attributes:
      create: the program of the first state of a seed.
      step: the program of one step.
      chunks: programs of several steps, or seeds; None where each step is a program.
    """

    def __init__(self, run: Run, words: int | Sequence[str], parallel: Parallelism = SINGLE_DEVICE):
        """Programs of a run whose vocabulary has these `words`, or so many.

        Raises:
          InitialError: the run starts with published parameters that do not fit it, or that are
            those of words, of which only the number is given.
          ParallelismError: the batches do not divide over the devices.
        """
        parallel.check(run)
        published = initial_parameters(run, words)
        words = words if isinstance(words, int) else len(words)
        self.run, self.words, self.parallel = run, words, parallel
        self._flops: float | None = None
        self.model = steps.model_of(run, words, layout=parallel.layout(run))
        optimizer = optimizer_of(run.optimizer, run.steps, run.pretrain_text_steps)
        create = functools.partial(
            steps.initial_state, self.model, optimizer, settings=run.optimizer
        )
        started = functools.partial(_started, published)
        step = functools.partial(
            steps.train_step, self.model, optimizer, run=run, parts=parallel.accumulate
        )
        self.create = started(parallel.creator(create, together=False))
        self.create_all = self.create
        if parallel.seeds > 1:
            self.create_all = started(parallel.creator(create, together=True))
        self.step = parallel.stepper(step, run.steps)
        self.chunks = Chunks(run, step, parallel.chunking) if parallel.chunking else None

    def meter(self, seat: Seat, together: int = 1) -> Meter:
        """Of the arithmetic of one seed on its devices, or of so many on one device."""
        if self._flops is None:
            self._flops = model_flops(self.run, self.words, seat.batches.batch(0))
        mesh = self.parallel.mesh
        devices = 1 if mesh is None else mesh.size // self.parallel.seeds
        peak = peak_flops(jax.devices()[0].device_kind)
        return Meter(together * self._flops, None if peak is None else devices * peak)


def _started(
    published: dict[str, np.ndarray], create: Callable[..., State]
) -> Callable[..., State]:
    """The program of a first state, whose parameters are the published ones where there are some.

    They are put in behind it: a program would hold them all as constants.
    """
    if not published:
        return create

    def started(seed: Any, batch: Any) -> State:
        state = create(seed, batch)
        params = put_in(state.params, published)
        # Steps give the memory of a state away: an average shares no array with the parameters.
        average = put_in(state.average, published) if state.average else ()
        return state._replace(params=params, average=average)

    return started


def fit(
    programs: TrainPrograms,
    batches: Batches,
    folder: Path,
    *,
    learning_rate: float | None = None,
    progress: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    notify: Callable[[str], None] = lambda message: None,
) -> State:
    """Train one seed of one variant to its last step, from its newest checkpoint if there is one.

    Args:
      programs: compiled programs of the variant, for one seed at a time.
      batches: those of this seed.
      folder: gets `log.jsonl` and `checkpoints/`.
      learning_rate: that of the run of the programs when not given.
      progress: called after each step with the number of finished steps and the metrics of the
        step before.
      notify: called with what a user should know: a damaged checkpoint was passed over.

    Returns:
      The state after the last step.

    Raises:
      NonFiniteLossError: names the step and the last good checkpoint.
      CheckpointError: a checkpoint is of another model or of other data, or none can be read.
    """
    return fit_seeds(programs, [Seat(batches, folder, progress, learning_rate)], notify=notify)[0]


def fit_seeds(
    programs: TrainPrograms,
    seats: Sequence[Seat],
    *,
    notify: Callable[[str], None] = lambda message: None,
    tracer: Tracer = NOT_TRACED,
) -> list[State]:
    """`fit` of as many seeds at the same time as the programs take, or fewer.

    Each goes on from its own checkpoint, and waits at its last step for the others. The tracer is
    told of every dispatch.

    Returns:
      Their states after the last step.
    """
    engine = _Stepwise(programs) if programs.chunks is None else _Chunked(programs, len(seats))
    with contextlib.ExitStack() as stack:
        seated = [stack.enter_context(engine.seat(place, seat)) for place, seat in enumerate(seats)]
        state = engine.start(seated, notify)
        while any(one.running for one in seated):
            for one in seated:
                one.plan(engine.length)
            # One dispatch: steps `one.step + 1` to `one.until` of each seed.
            ahead = seated[0].step + 1, seated[0].until
            advance = functools.partial(engine.advance, state, seated)
            state, metrics = tracer.run(seats[0].folder, ahead, advance)
            for place, one in enumerate(seated):
                one.after(metrics, functools.partial(engine.take, state, place))
        return [engine.take(state, place) for place in range(len(seats))]


class _Stepwise:
    """A dispatch is one step, of one seed or of those that lie along the axis seed of a mesh."""

    length = 1

    def __init__(self, programs: TrainPrograms):
        self.programs, self.parallel = programs, programs.parallel
        self.take = self.parallel.take

    def seat(self, place: int, seat: Seat) -> Seated:
        alone = self.parallel.seeds == 1
        meter = self.programs.meter(seat)
        return Seated(self.programs.run, seat, meter, place=None if alone else place)

    def start(self, seated: Sequence[Seated], notify: Callable[[str], None]) -> State:
        """The states, those of checkpoints where there are some."""
        # A place that is left over does what the last seat does, and nobody looks.
        every = [seated[min(place, len(seated) - 1)] for place in range(self.parallel.seeds)]
        seeds = np.array([one.seat.batches.seed for one in every], np.int32)
        rates = np.array([one.learning_rate for one in every])
        alone = len(every) == 1
        self.rate = rates[0] if alone else rates
        first = every[0].seat.batches
        state = self.programs.create_all(first.seed if alone else seeds, first.batch(0))
        for place, one in enumerate(seated):
            found = one.resume(functools.partial(self.take, state, place), notify)
            state = state if found is None else self.parallel.put(state, place, found)
        return state

    def advance(self, state: State, seated: Sequence[Seated]) -> tuple[State, Any]:
        batches = [one.batch() for one in seated]
        batches += [batches[-1]] * (self.parallel.seeds - len(batches))
        return self.programs.step(state, self.parallel.place(batches), self.rate)


class _Chunked:
    """A dispatch is several steps of all seeds; see `crossattn.train.chunks`."""

    def __init__(self, programs: TrainPrograms, seeds: int):
        assert programs.chunks is not None
        self.programs, self.chunks, self.seeds = programs, programs.chunks, seeds
        self.length = programs.chunks.length

    def seat(self, place: int, seat: Seat) -> Seated:
        grouping = {"seeds": self.seeds, "steps": self.length}
        number = None if self.seeds == 1 else place
        meter = self.programs.meter(seat, self.seeds)
        return Seated(self.programs.run, seat, meter, place=number, grouping=grouping)

    def start(self, seated: Sequence[Seated], notify: Callable[[str], None]) -> State:
        """The states, each created by itself, or from its checkpoint, and then put together."""
        states = []
        for one in seated:
            batches = one.seat.batches
            fresh = functools.partial(self.programs.create, batches.seed, batches.batch(0))
            found = one.resume(fresh, notify)
            states.append(fresh() if found is None else found)
        return self.chunks.join(states)

    def advance(self, state: State, seated: Sequence[Seated]) -> tuple[State, Any]:
        return self.chunks.advance(state, seated)

    def take(self, state: State, place: int) -> State:
        return self.chunks.take(state, place) if self.seeds > 1 else state
