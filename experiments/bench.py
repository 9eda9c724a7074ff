"""Measure speed, memory and error on this machine, beside other libraries where installed.

python -m experiments.bench attention
python -m experiments.bench attention --shapes long 2,17,301,4,32 --pass forward --dtype float32
python -m experiments.bench attention --peers jax.nn torch --threads 1 2
python -m experiments.bench module --shapes question captioning
python -m experiments.bench decode
python -m experiments.bench generate
python -m experiments.bench masks --shapes resampler-50k --implementation chunked
python -m experiments.bench length
python -m experiments.bench attention --device gpu

All contestants of a case are compiled and warmed up in one process, limited to --threads processor
cores, and then make one call each in turn. A ratio is the median of the ratios within a round.
"""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crossattn.bench.cases import SHAPES, Case
from crossattn.bench.figure import ratios
from crossattn.bench.options import BENCHMARKS
from crossattn.bench.process import Worker, WorkerError
from crossattn.bench.shared_options import BenchOptions
from crossattn.bench.summary import (
    details,
    geometric_means,
    overview,
    reasons,
    summarise,
)
from crossattn.bench.timing import Budget
from crossattn.files import printable, write_atomically
from crossattn.report.figures.style import png
from crossattn.report.render.blocks import Table
from crossattn.report.render.markdown import markdown_table
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
            for record in measure(given, about["workers"]):
                records.append(record)
                _write_json(folder, about, records)
        except KeyboardInterrupt:
            safe = f"what was measured is in {folder / 'results.json'}"
            said = safe if records else "nothing was measured"
            print(f"\n{COMMAND}: interrupted; {said}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        write_tables(BENCHMARKS[name], folder, about, records)


def configure_benchmark(arguments: list[str]) -> tuple[str, BenchOptions]:
    """The benchmark's name and its options."""
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(
            f"  {name:10s} {(options.__doc__ or '').splitlines()[0]}"
            for name, options in BENCHMARKS.items()
        )
        shapes = "\n".join(f"  {shape}" for shape in SHAPES.values())
        print(
            f"{manual(__doc__)}\nBenchmarks:\n{known}\n\nShapes, as B,T,S,H,D:\n{shapes}\n\n"
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


def measure(given: BenchOptions, workers: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A record for each case; appends what each process says of itself to `workers`."""
    cases: list[Case] = given.cases()
    budget = Budget(given.seconds, given.repeats, min(Budget.fewest, given.repeats))
    seen = sys.stderr.isatty()
    for threads in dict.fromkeys(case.threads for case in cases):
        with Worker(given.device, threads) as worker:
            workers.append({"threads": threads, **worker.about})
            todo = [case for case in cases if case.threads == threads]
            with tqdm(todo, unit="case", mininterval=0.2 if seen else 10.0) as bar:
                announce = functools.partial(bar.set_postfix_str, refresh=seen)
                for case in bar:
                    bar.set_description(f"{case.shape.name}, {case.title}", refresh=seen)
                    yield summarise(case, worker.measure(case, budget, announce))


def write_tables(
    benchmark: type[BenchOptions],
    folder: Path,
    about: dict[str, Any],
    records: list[dict[str, Any]],
) -> None:
    """Write table.md and ratios.png beside results.json, and print the tables."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["title"], []).append(record)
    figure = ratios(groups, by_shape=benchmark.by_shape, xlabel=benchmark.ratio)
    write_atomically(folder / "ratios.png", png(figure))
    heading = [f"# {about['benchmark']}", f"`{about['command']}`, {about['date']}."]
    heading += [_where(about), f"Ratios are {benchmark.ratio}: the median over rounds."]
    write_atomically(
        folder / "table.md",
        "\n\n".join([*heading, *_text(benchmark, groups, markdown_table, "## ", details_too=True)])
        + "\n",
    )
    print("\n\n".join(_text(benchmark, groups, terminal_table, "", details_too=False)))
    print(f"\ntables: {printable(folder / 'table.md')}")


def _text(
    benchmark: type[BenchOptions],
    groups: dict[str, list[dict[str, Any]]],
    draw: Callable[[Table], str],
    mark: str,
    *,
    details_too: bool,
) -> Iterator[str]:
    for title, records in groups.items():
        yield f"{mark}{title}"
        if benchmark.by_shape:
            yield draw(overview(records))
            if means := geometric_means(records):
                yield "Geometric means but decode: " + "; ".join(means) + "."
        if details_too or not benchmark.by_shape:
            for record in records:
                B, T, S, H, D = (record["shape"][letter] for letter in "BTSHD")
                rounds = f"B={B} T={T} S={S} H={H} D={D}, {record['rounds']} rounds"
                yield f"{mark and '### '}{record['shape']['name']}: {rounds}"
                yield draw(details(record))
        if missing := reasons(records):
            yield "\n".join(f"{mark and '* '}{line}" for line in missing)


def _where(about: dict[str, Any]) -> str:
    """The machine and the versions, in words."""
    first = about["workers"][0]
    where = [about["processor"]]
    if first["device"] != "cpu":
        where.append(first["device"])
    for worker in about["workers"]:
        one = f"{worker['threads']} thread{'s' * (worker['threads'] > 1)}"
        if worker["cores"] is None:
            where.append(f"{one} of torch only (this system cannot limit those of jax)")
        else:
            where.append(f"{one} on core {', '.join(map(str, worker['cores']))}")
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return f"{'; '.join(where)}; {versions}."


def _write_json(folder: Path, about: dict[str, Any], records: list[dict[str, Any]]) -> None:
    content = json.dumps({**about, "cases": records}, indent=1, allow_nan=False)
    write_atomically(folder / "results.json", content + "\n")


if __name__ == "__main__":
    start(main)
