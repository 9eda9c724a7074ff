"""The command `crossattn` of an installed wheel; in a checkout, `python -m experiments`."""

import importlib

from crossattn.spelling import nearest

from .command_line import INSTALLED, fail
from .entry import start

COMMANDS = {
    "ablate": "run an ablation suite, resume it, and write its report",
    "train": "train one model outside any suite, resume it, measure it and report it",
    "evaluate": "measure any checkpoint: answers, attention, knock-outs layer by layer",
    "usage": "do models use what they attend to? explanations beside causal effects",
    "explore": "a page on which words light up: where they look, layer by layer, head by head",
    "transcribe": "what is said in a recording: text, words with their times",
    "compare": "two folders of results or runs against each other: what differs, and what is equal",
    "plan": "compile a run for a TPU slice that is not here: does it fit, what does it send",
    "bench": "measure speed, memory and error on this machine, beside other libraries",
    "encode": "what the encoder of a published model makes of recordings, as context for runs",
    "decoder": "the text decoder of a published model, for runs that start with it",
    "build_data": "build a set of real pictures or recordings from packages that you install",
    "caption": "what is on a picture, by a published model; a page on which its words light up",
    "import_weights": "show which tensors of a checkpoint fit a preset, and which do not",
}
NAME = "crossattn" if INSTALLED else "python -m experiments"


def main(arguments: list[str]) -> None:
    """Hand the arguments over to the command that the first of them names."""
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(f"  {name:14s} {about}" for name, about in COMMANDS.items())
        more = f"{NAME} COMMAND --help: more\n{NAME} --version: which crossattn this is"
        print(f"{NAME} COMMAND ...\n\nCommands:\n{known}\n\n{more}")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        fail(NAME, f"there is no command {name!r}: {nearest(name, COMMANDS)}")
    importlib.import_module(f".{name}", __package__).main(rest)


def run() -> None:
    """The process of the command `crossattn`."""
    start(main)


if __name__ == "__main__":
    run()
