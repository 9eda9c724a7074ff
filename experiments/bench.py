"""Measure speed, memory and error on this machine, beside other libraries where installed.

python -m experiments.bench attention
python -m experiments.bench attention --shapes long 2,17,301,4,32 --pass forward --dtype float32
python -m experiments.bench attention --peers jax.nn torch --threads 1 2
python -m experiments.bench module --shapes question captioning
python -m experiments.bench decode
python -m experiments.bench generate --shapes tiny.en --steps 103
python -m experiments.bench step --shapes 2,31,64,4,16,2,1000
python -m experiments.bench masks --shapes resampler-50k --implementation chunked
python -m experiments.bench length
python -m experiments.bench attention --device gpu --minutes 8
python -m experiments.bench attention --minutes 1 --shapes 1,2,7,2,8 --mask-shape 1,8,16,2,8

All contestants of a case are compiled and warmed up in one process, limited to --threads processor
cores, and then make one call each in turn. A ratio is the median of the ratios within a round.
"""

import contextlib
import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crossattn.bench.cases import DECODERS, DEVICE_SHAPES, SHAPES, Case
from crossattn.bench.options import BENCHMARKS
from crossattn.bench.process import Worker, WorkerError
from crossattn.bench.shared_options import BenchOptions
from crossattn.bench.summary import details, summarise
from crossattn.bench.sweep.cases import DeviceCase
from crossattn.bench.sweep.run import run_sweep
from crossattn.bench.sweep.verdicts import verdicts
from crossattn.bench.tables import record_heading, write_tables
from crossattn.bench.timing import Budget
from crossattn.files import printable, write_atomically
from crossattn.report.render.terminal import terminal_table
from crossattn.spelling import nearest
from crossattn.train.record import processor

from .command_line import INTERRUPTED, fail, manual, parse, plain_errors, typed
from .entry import start

COMMAND = "bench"


def main(arguments: list[str]) -> None:
    """Parse, measure, write, print."""
    name, given = configure_benchmark(arguments)
    folder = given.out or Path("results") / "bench" / name
    records: list[dict[str, Any]] = []
    measured = measure if given.clock() is None else measure_by_the_clock
    about: dict[str, Any] = {
        "benchmark": name,
        "command": typed(COMMAND, arguments),
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "workers": [],
    }
    with plain_errors(COMMAND, (WorkerError,)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(COMMAND, f"cannot write {folder}: {error.strerror}")
        try:
            for record in measured(given, about):
                records.append(record)
                _write_json(folder, about, records)
        except KeyboardInterrupt:
            safe = f"what was measured is in {folder / 'results.json'}"
            said = safe if records else "nothing was measured"
            print(f"\n{COMMAND}: interrupted; {said}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        if (seconds := given.clock()) is not None:
            if not records:
                fail(COMMAND, f"nothing was measured within --minutes {seconds / 60:g}: give more")
            about["verdicts"] = list(map(str, verdicts(timed_cases(given), records)))
            _write_json(folder, about, records)
        print("\n\n".join(write_tables(BENCHMARKS[name], folder, about, records)))
        print(f"\ntables: {printable(folder / 'table.md')}")


def configure_benchmark(arguments: list[str]) -> tuple[str, BenchOptions]:
    """The benchmark's name and its options."""
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(
            f"  {name:10s} {(options.__doc__ or '').splitlines()[0]}"
            for name, options in BENCHMARKS.items()
        )
        listed = [*SHAPES.values(), *DEVICE_SHAPES.values(), *DECODERS.values()]
        shapes = "\n".join(f"  {shape}" for shape in listed)
        print(
            f"{manual(__doc__)}\nBenchmarks:\n{known}\n\nShapes, as B,T,S,H,D (decoders: and "
            f"layers,words):\n{shapes}\n\n"
            f"{typed(COMMAND)} BENCHMARK --help: options"
        )
        raise SystemExit(0)
    name, *rest = arguments
    if name not in BENCHMARKS:
        fail(COMMAND, f"there is no benchmark {name!r}: {nearest(name, BENCHMARKS)}")
    options = parse(f"{COMMAND} {name}", BENCHMARKS[name](), rest)
    try:
        options.check()
    except ValueError as error:
        fail(f"{COMMAND} {name}", str(error))
    return name, options


def measure(given: BenchOptions, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record for each case; appends what each process says of itself to the workers `about`."""
    cases: list[Case] = given.cases()
    budget, seen = budget_of(given), sys.stderr.isatty()
    for threads in dict.fromkeys(case.threads for case in cases):
        with Worker(given.device, threads) as worker:
            about["workers"].append({"threads": threads, **worker.about})
            todo = [case for case in cases if case.threads == threads]
            with tqdm(todo, unit="case", mininterval=0.2 if seen else 10.0) as bar:
                announce = functools.partial(bar.set_postfix_str, refresh=seen)
                for case in bar:
                    bar.set_description(f"{case.shape.name}, {case.title}", refresh=seen)
                    yield summarise(case, worker.measure(case, budget, announce))


def budget_of(given: BenchOptions) -> Budget:
    """Of one case."""
    return Budget(given.seconds, given.repeats, min(Budget.fewest, given.repeats))


def timed_cases(given: BenchOptions) -> list[DeviceCase]:
    """Those that are measured by the clock."""
    return [case for case in given.cases() if isinstance(case, DeviceCase)]


def measure_by_the_clock(given: BenchOptions, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record for each case, whose table is printed at once."""
    seen = sys.stderr.isatty()
    options: dict[str, Any] = {"budget": budget_of(given), "about": about}
    options |= {"device": given.device, "seconds": given.clock()}
    settings: dict[str, Any] = {"unit": "case", "mininterval": 0.2 if seen else 10.0}
    with contextlib.ExitStack() as stack:
        # Not before there is something to do: an error is one line.
        make = lambda: stack.enter_context(tqdm(total=len(given.cases()), **settings))
        bar = functools.cache(make)
        announce = lambda text: bar().set_postfix_str(text, refresh=seen)
        for record in run_sweep(timed_cases(given), announce=announce, **options):
            bar().update()
            with bar().external_write_mode():
                print(f"{record_heading(record)}\n{terminal_table(details(record))}\n", flush=True)
            yield record


def _write_json(folder: Path, about: dict[str, Any], records: list[dict[str, Any]]) -> None:
    content = json.dumps({**about, "cases": records}, indent=1, allow_nan=False)
    write_atomically(folder / "results.json", content + "\n")


if __name__ == "__main__":
    start(main)
