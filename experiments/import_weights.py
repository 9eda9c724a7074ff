"""Show which tensors of a checkpoint are parameters of a preset, and which do not fit.

python -m experiments.import_weights DIR --preset blip_decoder --prefix text_decoder.
python -m experiments.import_weights DIR --preset mllama --prefix model.layers.{i}.
python -m experiments.import_weights FILE.safetensors --preset whisper_decoder
"""

import dataclasses
import math
import shlex
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.interop import huggingface
from crossattn.interop.names import CLASSES
from crossattn.interop.table import Fit, aligned, misfits
from crossattn.nn.presets import DESIGNS

from .command_line import fail, manual, nearest, parse, plain_errors, typed

COMMAND = "import_weights"
MISFIT = 1
ROOMS = {
    "Block": "crossattn.nn.block",
    "Latents": "crossattn.nn.latents",
    "Stack": "crossattn.nn.stack",
    "TextDecoder": "crossattn.models.text_decoder",
}
# The designs of text decoders' layers.
BERT = ", first_norm=True, final_norm=False, transformed=True, epsilon=1e-12"
TEXTS = {"blip_decoder": "encoder_decoder_post", "whisper_decoder": "whisper"}


@dataclasses.dataclass(frozen=True)
class Options:
    """List what would be imported of safetensors files; only their headers are read.

    The exit code is 0 when everything fits, and 1 when something does not.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """A safetensors file, or a folder with one or with several and their index."""
    preset: Annotated[str, tyro.conf.arg(metavar="NAME", help_behavior_hint="(required)")] = ""
    """The preset or model whose parameters they are."""
    prefix: Annotated[str, tyro.conf.arg(metavar="PREFIX", help_behavior_hint="")] = ""
    """What stands before the names; {i} in it is the number of a layer."""


def main(arguments: list[str]) -> None:
    """Parse, look, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        presets = "\n".join(aligned([["preset", "parameters of"], *CLASSES.items()]))
        print(f"{manual(__doc__)}\n{presets}\n", flush=True)
    options = parse(COMMAND, Options(tyro.MISSING), arguments or ["--help"])
    if options.preset not in huggingface.names():
        hint = nearest(options.preset, huggingface.names())
        what = f"no preset {options.preset!r} to import" if options.preset else "no --preset given"
        fail(COMMAND, f"{what}: {hint}")
    with plain_errors(COMMAND, (ValueError,)):
        files = huggingface.Files(options.source)
        fit = huggingface.look(files, options.preset, prefix=options.prefix)
    print("\n\n".join(said(options, files, fit)))
    if fit.problems:
        raise SystemExit(MISFIT)


def said(options: Options, files: huggingface.Files, fit: Fit) -> list[str]:
    """The tables and the totals."""
    if prefixes := huggingface.elsewhere(fit, files, options.preset):
        again = [str(options.source), "--preset", options.preset, "--prefix", prefixes[-1]]
        hint = f"{huggingface.hint(prefixes)}; try\n{typed(COMMAND, again)}"
        return [totals(options, files, fit), hint]
    paragraphs = []
    if any(place.name in files for place in fit.places):
        paragraphs.append("\n".join(aligned(mapped(files, fit))))
    if fit.problems:
        paragraphs.append("\n".join(misfits(fit.problems)))
    paragraphs.append(totals(options, files, fit))
    if not fit.problems:
        given = f", prefix={options.prefix!r}" if options.prefix else ""
        call = f"huggingface.load({str(options.source)!r}, {options.preset!r}{given})"
        program = f"from crossattn.interop import huggingface; params = {call}"
        paragraphs += filter(None, [module(options.preset, fit), program])
    return paragraphs


def module(preset: str, fit: Fit) -> str:
    """Which module takes the parameters, as far as tensors tell; "" for two streams."""
    name = TEXTS.get(preset, preset)
    if name not in DESIGNS:
        return ""
    sizes, paths = fit.sizes, [path for place in fit.places for path in place.entry.ours]
    layers = len({place.layer for place in fit.places if place.entry.stacked})
    fields = f"{sizes['M']}, heads, DESIGNS[{name!r}])"
    made = f"Stack({layers}, {fields}" if layers else f"Block({fields}"
    takes = ""
    if preset in TEXTS:
        kind = BERT if "bias" in paths else ""
        made = f"TextDecoder({made}, {sizes['W']}, {sizes['P']}{kind})"
    elif "latents" in paths:
        norm = ", final_norm=True" if layers else ""
        made = f"Latents({sizes['T']}, {made}{norm})"
    elif layers:
        takes = ", as {'params': {'blocks': params['params']}}"
    used = [f"from {room} import {one}" for one, room in ROOMS.items() if f"{one}(" in made]
    used.append("from crossattn.nn.presets import DESIGNS")
    rest = "heads, and sizes that are not the preset's, are in its config.json"
    return "\n".join([f"taken by the module below{takes}; {rest}", *used, f"module = {made}"])


def mapped(files: huggingface.Files, fit: Fit) -> list[list[str]]:
    """What each tensor becomes, layers in one row."""
    fine = {line.name for line in fit.lines if not line.problem}
    rows: dict[str, list[str]] = {}
    layers: dict[str, int] = {}
    for place in fit.places:
        if place.name in fine:
            name = place.entry.theirs
            layers[name] = layers.get(name, 0) + 1
            shape = "x".join(map(str, files.shapes[place.name])) or "1"
            many = f"{layers[name]} x " if place.entry.stacked else ""
            becomes = ", ".join(place.entry.ours)
            rows[name] = [name, f"{many}{shape}", files.dtypes[place.name], becomes]
    return [["tensor", "shape", "dtype", "becomes"], *rows.values()]


def totals(options: Options, files: huggingface.Files, fit: Fit) -> str:
    """How many tensors and parameters."""
    fine = [line.name for line in fit.lines if not line.problem and line.name in files]
    count = {
        problem: sum(line.problem == problem for line in fit.problems)
        for problem in ("unknown", "missing", "misshaped")
    }
    others = len(files) - len(fine) - count["unknown"] - count["misshaped"]
    parameters = sum(math.prod(files.shapes[name]) for name in fine)
    bad = ", ".join(f"{number} {problem}" for problem, number in count.items())
    where = f" under {shlex.quote(options.prefix)}" if options.prefix else ""
    return (
        f"{options.preset}: {len(fine)} tensors with {parameters:,} parameters fit{where}; {bad}; "
        f"{others} of the {len(files)} tensors belong to something else"
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
