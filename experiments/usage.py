"""Do models use what they attend to? Explanations beside causal effects, of finished runs.

python -m experiments.usage results/fusion
python -m experiments.usage results/fusion --variants cross-attention co-attention
python -m experiments.usage results/fusion/runs/cross-attention/seed0
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.lab.errors import EXPECTED
from crossattn.lab.usage import measure_usage
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.launch.progress import tell_user

from .command_line import manual, parse, plain_errors, takes
from .entry import start
from .run_options import print_tables

COMMAND = "usage"
NOTHING_LOST = "interrupted; the runs are as they were, and nothing was written"


@dataclasses.dataclass(frozen=True)
class UsageOptions:
    """Explain answers of finished runs, and write usage.json, report.md and report.html.

    Raw attention (each head, too), rollout, relevancy, Grad-CAM and random saliency stand beside
    what hiding parts of the picture does to log P(answer). Nothing is trained.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of a suite or a variant, of which all finished seeds are measured, or of one run."""
    variants: Annotated[tuple[str, ...], takes("NAME ...", "the baseline")] = ()
    """Which variants of a suite's folder."""
    out: Annotated[Path | None, takes("FOLDER", "FOLDER/usage")] = None
    """Where the results go."""


def main(arguments: list[str]) -> None:
    """Parse, restore, measure, write, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    options = parse(COMMAND, UsageOptions(tyro.MISSING), arguments or ["--help"])
    safe = lambda: NOTHING_LOST
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        notify = lambda message: tell_user(f"{COMMAND}: {message}")
        done = measure_usage(options.folder, options.variants, options.out, notify=notify)
        print_tables(done.folder, done.tables)


if __name__ == "__main__":
    start(main)
