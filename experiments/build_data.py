"""Build a set of real pictures or recordings from packages that people can install.

python -m experiments.build_data stamps data/stamps
python -m experiments.build_data stamps data/stamps --from unpacked --images 1000 --seed 1
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.data.builders.builder import BUILDERS, BuildSettings, build_set, find_builder
from crossattn.data.errors import DataError
from crossattn.files import printable
from crossattn.launch.interrupts import graceful_interrupt

from .command_line import fail, manual, parse, plain_errors, typed
from .entry import start

COMMAND = "build_data"
NOTHING_LEFT = "interrupted; nothing of the set is left, the same command begins anew"


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """Write a set into a folder, with the licences of what it was built from.

    The folder holds the whole set in the end, or is as it was. Nothing is downloaded: the package
    is read where it is installed, or where it is unpacked.
    """

    directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """A folder that is not there yet, or is empty."""
    settings: Annotated[BuildSettings, tyro.conf.arg(name="")]
    """What decides the set."""
    package: Annotated[
        Path | None,
        tyro.conf.arg(
            name="from",
            metavar="PACKAGE_DIR",
            help_behavior_hint="(default: where it is installed)",
        ),
    ] = None
    """The folder where the package is unpacked."""


def main(arguments: list[str]) -> None:
    """Parse, build, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(f"  {name:10s} {find_builder(name).about}" for name in BUILDERS)
        more = f"{typed(COMMAND)} SET --help: options"
        print(f"{manual(__doc__)}\nSets:\n{known}\n\n{more}")
        return
    name, *rest = arguments
    try:
        builder = find_builder(name)
    except DataError as error:
        fail(COMMAND, str(error))
    default = BuildOptions(tyro.MISSING, builder.settings())
    options = parse(COMMAND, default, rest or ["--help"], subject=[name])
    safe = lambda: NOTHING_LEFT
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, (DataError,), safe=safe):
        print(printable(build_set(builder, options.directory, options.settings, options.package)))


if __name__ == "__main__":
    start(main)
