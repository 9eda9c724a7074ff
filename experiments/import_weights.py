"""Show which tensors of a checkpoint are parameters of a preset, and which do not fit.

python -m experiments.import_weights DIR --preset blip_decoder --prefix text_decoder.
python -m experiments.import_weights DIR --preset mllama --prefix model.layers.{i}.
python -m experiments.import_weights FILE.safetensors --preset whisper_decoder
"""

import dataclasses
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.interop import huggingface
from crossattn.interop.names import CLASSES
from crossattn.interop.table import Fit, aligned, misfits
from crossattn.nn.design import Design
from crossattn.nn.presets import DESIGNS

from .command_line import fail, manual, nearest, parse, plain_errors, typed

COMMAND = "import_weights"
MISFIT = 1
# Where what a printed program names is found.
ROOMS = {
    "replace": "dataclasses",
    "TextDecoder": "crossattn.models.text_decoder",
    "Block": "crossattn.nn.block",
    "Latents": "crossattn.nn.latents",
    "DESIGNS": "crossattn.nn.presets",
    "Join": "crossattn.nn.slots",
    "Logits": "crossattn.nn.slots",
    "Stack": "crossattn.nn.stack",
    "qformer": "crossattn.nn.stream_presets",
}
# What a sublayer's parameters stand under.
PARTS = {
    "self": "self_attention",
    "cross": "cross_attention",
    "merged": "cross_attention",
    "feed": "feed_forward",
}
# The designs of text decoders' layers.
BERT = ", first_norm=True, final_norm=False, transformed=True, epsilon=1e-12"
ELSEWHERE = {"flamingo": "published models of its kind are idefics and mllama"}
TEXTS = {"blip_decoder": "encoder_decoder_post", "whisper_decoder": "whisper"}


@dataclasses.dataclass(frozen=True)
class Options:
    """List what would be imported of safetensors files; only their headers are read.

    The way back is crossattn.interop.huggingface.save(params, NAME, FILE), byte for byte.
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
        hint = ELSEWHERE.get(options.preset) or nearest(options.preset, huggingface.names())
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
        paragraphs += filter(None, [module(options.preset, fit), program(options, fit)])
    return paragraphs


def program(options: Options, fit: Fit) -> str:
    """The line that reads the parameters; null keys are cut into heads as the module has them."""
    given = f", prefix={options.prefix!r}" if options.prefix else ""
    made, start = "", "from crossattn.interop import huggingface; "
    if options.preset == "null_key":
        streams = ", ".join(
            f"jax.numpy.ones((1, 1, {fit.sizes.get(n, fit.sizes['M'])}))" for n in "MN"
        )
        made = f"import jax; like = jax.eval_shape(module.init, jax.random.key(0), {streams}); "
        given += ", like=like"
    call = f"huggingface.load({str(options.source)!r}, {options.preset!r}{given})"
    return f"{start}{made}params = {call}"


def module(preset: str, fit: Fit) -> str:
    """Which module takes the parameters, as far as tensors tell; "" for two streams."""
    name, sizes = TEXTS.get(preset, preset), fit.sizes
    if name not in DESIGNS and name != "qformer":
        return ""
    paths = {p for place in fit.places for p in (*place.entry.ours, *place.entry.zeros)}
    changed = changes(name, fit, paths)
    heads = str(heads_of(sizes) or "heads")
    layers = len({place.layer for place in fit.places if place.entry.stacked})
    base = "qformer(width=1, heads=1).design" if name == "qformer" else f"DESIGNS[{name!r}]"
    fields = f"{sizes['M']}, {heads}, {'design' if changed else base})"
    made = f"Stack({layers}, {fields}" if layers else f"Block({fields}"
    takes = ""
    if preset in TEXTS:
        kind = BERT if "bias" in paths else ""
        made = f"TextDecoder({made}, {sizes['W']}, {sizes['P']}{kind})"
    elif name == "qformer":
        made, takes = asking(sizes, paths, changed)
    elif "latents" in paths:
        norm = ", final_norm=True" if layers else ""
        made = f"Latents({sizes['T']}, {made}{norm})"
    elif layers:
        takes = ", as {'params': {'blocks': params['params']}}"
    lines = [f"module = {made}"]
    if changed:
        new = ", ".join(f"{field}={value}" for field, value in changed.items())
        lines = [f"design = {base}", f"design = replace(design, {new})", *lines]
    code = "\n".join(lines)
    used = [
        f"from {room} import {one}" for one, room in ROOMS.items() if re.search(rf"\b{one}\b", code)
    ]
    rest = "what tensors do not tell, such as heads, is in its config.json"
    return "\n".join([f"taken by the module below{takes}; {rest}", *used, *lines])


def asking(
    sizes: Mapping[str, int], paths: set[str], changed: Mapping[str, str]
) -> tuple[str, str]:
    """A `QFormer`, and how it takes parameters that have no queries."""
    layers = {path.split("/")[0] for path in paths if path.startswith("layer_")}
    reading = sorted(
        int(path.split("/")[0].removeprefix("layer_"))
        for path in paths
        if path.endswith("/cross_attention/query/kernel")
    )
    every = reading[1] if len(reading) > 1 else len(layers)
    queries = sizes.get("R", "queries")
    made = f"qformer(width={sizes['M']}, heads=heads, layers={len(layers)}, queries={queries}"
    made += (f", every={every}" if every != 2 else "") + ")"
    takes = "" if "R" in sizes else " with params['params']['queries'], which are elsewhere,"
    return made + (".clone(design=design)" if changed else ""), takes


def changes(name: str, fit: Fit, paths: set[str]) -> dict[str, str]:
    """Fields of the design that tensors show to be others than the preset's."""
    design, sizes = DESIGNS.get(name, Design()), fit.sizes
    has = lambda part: any(f"/{part}/" in f"/{path}" for path in paths)
    found = {}
    order = tuple(one for one in design.order if has(PARTS[one]))
    if order != design.order:
        found["order"] = repr(order)
    if not has("cross_join") and (design.cross_join or design.join).site != "none":
        found["cross_join"] = "Join(site='none', residual=False)"
    gates = [p.entry.target for p in fit.places if p.entry.ours[0].endswith("cross_join/gate")]
    if ["M"] in gates and design.join.gate == "tanh":
        found["join"] = "replace(design.join, gate='tanh-each')"
    for field, site in (("own", "self"), ("cross", "cross")):
        new = attention_of(site, sizes)
        if site == "cross" and has("query_norm") and "logits" not in design.cross:
            new["logits"] = "Logits(norm='rms')"
        if new:
            fields = ", ".join(f"{one!r}: {value}" for one, value in new.items())
            found[field] = f"design.{field}.copy({{{fields}}})"
    hidden, width = sizes.get("F.feed_forward"), sizes["M"]
    if hidden is not None and hidden != 4 * width:
        found["feed"] = f"design.feed.copy({{'expansion': {hidden} / {width}}})"
    return found


def heads_of(sizes: Mapping[str, int]) -> int | None:
    """How many heads there are, where something has one number for each, or the size of one."""
    return sizes.get("H") or (sizes["Q.cross"] // sizes["D"] if "D" in sizes else None)


def attention_of(site: str, sizes: Mapping[str, int]) -> dict[str, str]:
    """Fields of a `CrossAttention` whose heads are not M / H wide and all of a kind.

    >>> attention_of("cross", {"M": 12, "Q.cross": 12, "K.cross": 4, "V.cross": 4})
    {'key_value_heads': 'heads // 3'}
    >>> attention_of("cross", {"M": 12, "Q.cross": 16, "K.cross": 8, "V.cross": 8, "D": 4})
    {'key_value_heads': '2', 'head_size': '4'}
    """
    queries = sizes.get(f"Q.{site}", sizes["M"])
    keys = sizes.get(f"K.{site}", queries)
    values, heads = sizes.get(f"V.{site}", keys), heads_of(sizes)
    divided = lambda n: f"{n} // heads" if heads is None else str(n // heads)
    found = {}
    if keys != queries:
        ratio = queries // keys
        found["key_value_heads"] = f"heads // {ratio}" if heads is None else str(heads // ratio)
    if queries != sizes["M"]:
        found["head_size"] = divided(queries)
    if values != keys:
        found["value_size"] = divided(values)
    return found


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
