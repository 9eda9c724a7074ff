"""Compare two folders (of suites, of variants, of runs), or set several suites side by side.

python -m experiments.compare results/small results/large
python -m experiments.compare results/fusion/runs/resampler results/fusion/runs/cross-attention
python -m experiments.compare results/first results/second --metric iid/accuracy
python -m experiments.compare results/first results/second --equivalence 0.02
python -m experiments.compare results/first results/second --looks 5 10 20
python -m experiments.compare results/small results/medium results/large --html comparison.html
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.files import printable
from crossattn.lab.across import compare_suites
from crossattn.lab.against import compare_runs
from crossattn.lab.errors import EXPECTED, LabError
from crossattn.launch.interrupts import graceful_interrupt

from .command_line import manual, parse, plain_errors, takes
from .entry import start

COMMAND = "compare"
NOTHING_LOST = "interrupted; nothing was written"


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Print what two folders of results differ in; both are only read.

    Paired by seed and item where both have the same seeds and are judged by the same data, else as
    two groups. Of two suites the variants of the same name are compared, with Holm's correction.
    Three or more suites, or two with --html, are set side by side instead: what is better, claims,
    variants of the same name, whether they rank alike, and all tasks in one number.
    """

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a suite (results/fusion), of one of its variants (results/fusion/runs/VARIANT), or
    of one run."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The other one: differences are the first minus the second."""
    others: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SUITE ...")
    ] = ()
    """Folders of more suites."""
    html: Annotated[Path | None, takes("FILE", "none")] = None
    """Write suites side by side as a page, one file that needs no other."""
    metric: Annotated[str | None, takes("NAME", "the primary one of both")] = None
    """What is compared, like iid/accuracy."""
    equivalence: Annotated[float | None, takes("MARGIN", "none")] = None
    """Test as well that differences lie within this margin (two one-sided tests)."""
    looks: Annotated[tuple[int, ...], takes("SEEDS ...", "one")] = ()
    """Numbers of seeds at which these results are looked at, as planned before the first look:
    each look is tested at its share of 5 %."""


def main(arguments: list[str]) -> None:
    """Parse, read, compare, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    default = CompareOptions(tyro.MISSING, tyro.MISSING)
    options = parse(COMMAND, default, arguments or ["--help"])
    safe = lambda: NOTHING_LOST
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        if options.others or options.html:
            _side_by_side(options)
            return
        found = compare_runs(
            options.first,
            options.second,
            metric=options.metric,
            equivalence=options.equivalence,
            looks=options.looks,
        )
        print(found)


def _side_by_side(options: CompareOptions) -> None:
    """Print several suites, and write their page where one is asked."""
    if options.equivalence is not None or options.looks:
        raise LabError("--equivalence and --looks are for two folders, without --html")
    folders = (options.first, options.second, *options.others)
    found = compare_suites(*folders, metric=options.metric)
    print(found)
    if options.html:
        print(f"\npage: {printable(found.save(options.html))}")


if __name__ == "__main__":
    start(main)
