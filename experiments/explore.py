"""Make a page on which the words of a trained run light up the regions that they attend to.

python -m experiments.explore results/fusion
python -m experiments.explore results/fusion --variant resampler --seed 0 --examples 8
python -m experiments.explore results/fusion --variant resampler --compare cross-attention
python -m experiments.explore results/fusion/runs/resampler/seed0/checkpoints/400 --split pairs
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.data.errors import DataError
from crossattn.files import printable
from crossattn.lab.exploration import explore_folder, find_shown
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.train.checkpoint import CheckpointError
from crossattn.train.record import RecordError
from crossattn.train.trained import UnusableRunError

from .command_line import fail, manual, parse, plain_errors, takes
from .entry import start

COMMAND = "explore"
EXPECTED = (RecordError, CheckpointError, DataError, UnusableRunError, ModuleNotFoundError)
NOTHING_LOST = "interrupted; the run is as it was, and no page was written"


@dataclasses.dataclass(frozen=True)
class ExploreOptions:
    """Make explore.html of a trained run: one file, which any browser opens without a network.

    Held-out texts of every kind, drawn from a fixed seed: click a word and see where it looks, in
    every layer and head, and what the model says without the region. The run is only read.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run or its run.json, of a suite, or of one checkpoint."""
    variant: Annotated[str | None, takes("NAME", "the first that looks at patches")] = None
    """Which variant of a suite's folder."""
    seed: Annotated[int | None, takes("INT", "0")] = None
    """Which seed of a suite's folder."""
    examples: int = 8
    """How many texts, all kinds in turn."""
    split: Annotated[str | None, takes("SPLIT", "the main split")] = None
    """Which split they are from."""
    compare: Annotated[str | None, takes("VARIANT or RUN", "none")] = None
    """Another variant of the suite, or another run on the same data, side by side."""
    out: Annotated[
        Path | None,
        takes("FILE", "explore.html, or explore-stepN.html of a checkpoint, in the run's folder"),
    ] = None
    """Where the page goes."""


def main(arguments: list[str]) -> None:
    """Parse, restore, look, write, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    options = parse(COMMAND, ExploreOptions(tyro.MISSING), arguments or ["--help"])
    say = lambda message: print(f"{COMMAND}: {message}", file=sys.stderr)
    safe = lambda: NOTHING_LOST
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        folder, step = find_shown(options.run, options.variant, options.seed)
        name = "explore.html" if step is None else f"explore-step{step}.html"
        out = options.out or folder / name
        if out.is_dir():
            fail(COMMAND, f"--out {out} is a folder: name a file in it, like explore.html")
        page = explore_folder(
            options.run,
            options.variant,
            options.seed,
            options.examples,
            options.compare,
            split=options.split,
            notify=say,
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        page.save(out)
        print(f"page: {printable(out)}")


if __name__ == "__main__":
    start(main)
