"""Steps a second of programs of several steps and seeds beside one step a dispatch, interleaved.

python -m tests.support.chunk_speed fusion --variant cross-attention --seeds 5 --steps 50

Prints a JSON line: steps of one seed a second, dispatches, and the ratio, each the median of rounds
in which both take turns. The first round compiles and is left out.
"""

import argparse
import json
import statistics
import sys
import time

import jax
import numpy as np

from crossattn.lab import suites
from crossattn.train.chunks import Chunking
from crossattn.train.loop import TrainPrograms
from crossattn.train.memory import keep_freed_memory
from crossattn.train.parallel import Parallelism
from crossattn.train.run import replace
from crossattn.train.seat import Seat, Seated
from crossattn.train.source import batches_of, load_dataset


def stepwise(programs, batches, first, steps):
    """One dispatch a step and seed."""
    rate = np.float32(programs.run.optimizer.learning_rate)
    states = [programs.create(one.seed, one.batch(0)) for one in batches]
    for seed, one in enumerate(batches):
        for step in range(first, first + steps):
            states[seed], _ = programs.step(states[seed], one.batch(step), rate)
    jax.block_until_ready(states)
    return steps * len(batches)


def chunked(programs, batches, first, steps):
    """One dispatch for all steps of all seeds."""
    seats = [Seat(one, None) for one in batches]
    seated = [Seated(programs.run, seat, programs.meter(seat)) for seat in seats]
    states = programs.chunks.join([programs.create(one.seed, one.batch(0)) for one in batches])
    for one in seated:
        one.step, one.until = first, first + steps
    jax.block_until_ready(programs.chunks.advance(states, seated))
    return 1


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite")
    parser.add_argument("--variant", default="cross-attention")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    keep_freed_memory()
    total = asked.steps * (asked.rounds + 1)
    changes = {"steps": total, "checkpoint_every": total, "data.evaluation_images": 100}
    run = replace(suites.find(asked.suite).run(asked.variant), changes)
    source = load_dataset(run)
    how = Parallelism(chunking=Chunking(asked.steps, asked.seeds))
    programs = TrainPrograms(run, len(source.vocabulary), how)
    batches = [batches_of(run, source.train, seed) for seed in range(asked.seeds)]
    taken, dispatches = {stepwise: [], chunked: []}, {}
    for number in range(asked.rounds + 1):
        for way in taken:
            begun = time.perf_counter()
            dispatches[way] = way(programs, batches, number * asked.steps, asked.steps)
            taken[way].append(time.perf_counter() - begun)
    seconds = {way: statistics.median(times[1:]) for way, times in taken.items()}
    ratios = [a / b for a, b in zip(taken[stepwise][1:], taken[chunked][1:], strict=True)]
    said = {
        "device": jax.devices()[0].device_kind,
        "steps_per_second": {
            way.__name__: round(asked.seeds * asked.steps / seconds[way], 1) for way in taken
        },
        "dispatches": {way.__name__: count for way, count in dispatches.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(one, 3) for one in ratios],
        "first_round_s": {way.__name__: round(times[0], 1) for way, times in taken.items()},
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
