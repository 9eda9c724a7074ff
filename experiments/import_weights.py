"""Show which tensors of a checkpoint are parameters of a preset, and which do not fit.

python -m experiments.import_weights DIR --preset blip_decoder --prefix text_decoder.
python -m experiments.import_weights DIR --preset mllama --prefix model.layers.{i}.
python -m experiments.import_weights FILE.safetensors --preset whisper_decoder
"""

import dataclasses
import math
import shlex
from pathlib import Path
from typing import Annotated, Any

import tyro

from crossattn.files import printable
from crossattn.interop import config, huggingface
from crossattn.interop.files import WeightsError
from crossattn.interop.module_code import module
from crossattn.interop.names import CLASSES
from crossattn.interop.table import Fit, SelectionError, aligned, misfits
from crossattn.spelling import nearest

from .command_line import fail, manual, parse, plain_errors, takes, typed
from .entry import start

COMMAND = "import_weights"
MISFIT = 1
# What is said to be 0 as well.
MISFITS = ("unknown", "missing", "misshaped")
ELSEWHERE = {"flamingo": "published models of its kind are idefics and mllama"}


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """List what would be imported of safetensors files; only their headers are read, and pairs of
    tensors that ought to be the same.

    The way back is crossattn.interop.huggingface.save(params, NAME, FILE), byte for byte.
    The exit code is 0 when everything fits, and 1 when something does not.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """A safetensors file, or a folder with one or with several and their index."""
    preset: Annotated[str, tyro.conf.arg(metavar="NAME", help_behavior_hint="(required)")] = ""
    """The preset or model whose parameters they are."""
    prefix: Annotated[str, takes("PREFIX")] = ""
    """What stands before the names; {i} in it is the number of a layer."""
    parts: Annotated[tuple[str, ...], takes("PART ...")] = ()
    """Only these parts of the parameters, such as cross_attention, or stack/blocks."""


def main(arguments: list[str]) -> None:
    """Parse, look, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        presets = "\n".join(aligned([["preset", "parameters of"], *CLASSES.items()]))
        print(f"{manual(__doc__)}\n{presets}\n", flush=True)
    options = parse(COMMAND, ImportOptions(tyro.MISSING), arguments or ["--help"])
    if options.preset not in huggingface.importable():
        hint = ELSEWHERE.get(options.preset) or nearest(options.preset, huggingface.importable())
        what = f"no preset {options.preset!r} to import" if options.preset else "no --preset given"
        fail(COMMAND, f"{what}: {hint}")
    with plain_errors(COMMAND, (WeightsError, SelectionError)):
        files = huggingface.Files(options.source)
        given: Any = {"prefix": options.prefix, "parts": options.parts}
        fit = huggingface.look(files, options.preset, **given)
        if not fit.problems and (more := huggingface.untied(fit, files)):
            fit = dataclasses.replace(fit, lines=(*more, *fit.lines))
        content = config.read_config(files.folder)
        beside = None if content is None else config.Config(content, options.preset, options.prefix)
    text = "\n\n".join(said(options, files, fit, beside))
    # Tables escape the names in their cells; what else came from a file or a path is escaped here.
    print("\n".join(map(printable, text.split("\n"))))
    if fit.problems:
        raise SystemExit(MISFIT)


def said(
    options: ImportOptions, files: huggingface.Files, fit: Fit, beside: config.Config | None
) -> list[str]:
    """The tables, the totals, and what was compared with the config.json beside them."""
    if prefixes := huggingface.elsewhere(fit, files, options.preset):
        again = [str(options.source), "--preset", options.preset, "--prefix", prefixes[-1]]
        hint = f"{huggingface.hint(prefixes)}; try\n{typed(COMMAND, again)}"
        return [totals(options, files, fit), hint]
    paragraphs = []
    if any(place.name in files for place in fit.places):
        paragraphs.append("\n".join(aligned(mapped(files, fit))))
    if fit.problems:
        paragraphs.append("\n".join(misfits(fit.problems)))
    paragraphs += [totals(options, files, fit), heads_said(files, beside)]
    if fit.ignored:
        names = ", ".join(map(printable, fit.ignored))
        paragraphs.append(f"{len(fit.ignored)} ignored, as the class itself does: {names}")
    if not fit.problems:
        made = "" if options.parts else module(options.preset, fit, beside)
        compared = made if beside is not None else ""
        paragraphs += filter(None, [made, program(options, fit, compared)])
    return paragraphs


def heads_said(files: huggingface.Files, beside: config.Config | None) -> str:
    """How many heads there are, or why that is not known.

    >>> from types import SimpleNamespace
    >>> heads_said(SimpleNamespace(folder="weights"), None)
    'heads could not be checked: there is no config.json in weights'
    """
    if beside is None:
        return f"heads could not be checked: there is no config.json in {files.folder}"
    if beside.heads is None:
        return f"heads could not be checked: config.json in {files.folder} does not say how many"
    return f"heads: {beside.heads}, as {beside.found['heads'][0]} in config.json"


def program(options: ImportOptions, fit: Fit, compared: str) -> str:
    """The line that reads the parameters; null keys are cut into heads as the module has them.

    The module above it is compared with config.json where there is one.
    """
    given = f", prefix={options.prefix!r}" if options.prefix else ""
    given += f", parts={options.parts!r}" if options.parts else ""
    made, start = "", "from crossattn.interop import huggingface; "
    if options.preset == "null_key":
        streams = ", ".join(
            f"jax.numpy.ones((1, 1, {fit.sizes.get(n, fit.sizes['M'])}))" for n in "MN"
        )
        made = f"import jax; like = jax.eval_shape(module.init, jax.random.key(0), {streams}); "
        given += ", like=like"
    given += ", module=module" if compared else ""
    call = f"huggingface.load({str(options.source)!r}, {options.preset!r}{given})"
    return f"{start}{made}params = {call}"


def mapped(files: huggingface.Files, fit: Fit) -> list[list[str]]:
    """What each tensor becomes, layers in one row."""
    fine = {line.name for line in fit.lines if not line.problem}
    rows: dict[str, list[str]] = {}
    layers: dict[str, int] = {}
    for place in fit.places:
        if place.name in fine:
            name = place.entry.theirs if place.entry.stacked else place.name
            layers[name] = layers.get(name, 0) + 1
            shape = "x".join(map(str, files.shapes[place.name])) or "1"
            many = f"{layers[name]} x " if place.entry.stacked else ""
            becomes = ", ".join(place.entry.ours)
            rows[name] = [name, f"{many}{shape}", files.dtypes[place.name], becomes]
    return [["tensor", "shape", "dtype", "becomes"], *rows.values()]


def totals(options: ImportOptions, files: huggingface.Files, fit: Fit) -> str:
    """How many tensors and parameters."""
    fine = [line.name for line in fit.lines if not line.problem and line.name in files]
    count = {
        problem: sum(line.problem == problem for line in fit.problems)
        for problem in ("unknown", "missing", "misshaped", "dtype", "untied", "config")
    }
    others = len(files) - len(fine) - count["unknown"] - count["misshaped"] - count["dtype"]
    parameters = sum(math.prod(files.shapes[name]) for name in fine)
    bad = ", ".join(
        f"{number} {problem}" for problem, number in count.items() if number or problem in MISFITS
    )
    where = f" under {shlex.quote(options.prefix)}" if options.prefix else ""
    return (
        f"{options.preset}: {len(fine)} tensors with {parameters:,} parameters fit{where}; {bad}; "
        f"{others} of the {len(files)} tensors belong to something else"
    )


if __name__ == "__main__":
    start(main)
