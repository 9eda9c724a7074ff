"""The command `crossattn` of an installed wheel; in a checkout, `python -m experiments`."""

import importlib
import sys

from .command_line import INSTALLED, fail, nearest

COMMANDS = {
    "ablate": "run an ablation suite, resume it, and write its report",
    "evaluate": "measure any checkpoint: answers, attention, knock-outs layer by layer",
    "plan": "compile a run for a TPU slice that is not here: does it fit, what does it send",
    "bench": "measure speed, memory and error on this machine, beside other libraries",
    "import_weights": "show which tensors of a checkpoint fit a preset, and which do not",
}
NAME = "crossattn" if INSTALLED else "python -m experiments"


def main() -> None:
    """Hand the arguments of the process over to the command that its first word names."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        known = "\n".join(f"  {name:14s} {about}" for name, about in COMMANDS.items())
        print(f"{NAME} COMMAND ...\n\nCommands:\n{known}\n\n{NAME} COMMAND --help: more")
        return
    name, *rest = sys.argv[1:]
    if name not in COMMANDS:
        fail(NAME, f"there is no command {name!r}: {nearest(name, COMMANDS)}")
    importlib.import_module(f".{name}", __package__).main(rest)


if __name__ == "__main__":
    main()
