"""What each variant is made of, as boxes: read from its settings, so that every suite has them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from crossattn.fields import flat
from crossattn.nn import presets
from crossattn.report.results.counts import count
from crossattn.report.results.runs import Results
from crossattn.report.results.settings import in_figures

Model = Mapping[str, Any]
READ = {"tokens": "all of it", "mean": "its mean", "none": "nothing", "truth": "the true region"}
NORMS = {"pre": "norm before", "post": "norm behind", "sandwich": "norm before and behind"}
SPELT = {"mlp": "MLP", "x_to_context": "cross"}
# What words of a text that reads nothing else are made of.
TEXT = ("self", "MLP")
# Fields that boxes and the line below them show.
DRAWN = (
    *("preset", "context_view", "connector", "latents", "image_encoder", "contexts"),
    *("cross_every", "cross_at", "layers", "width", "heads", "block.order", "block.one_sided"),
    *("encoder_layers", "block.residual.norm", "block.residual.gate"),
)


@dataclasses.dataclass(frozen=True)
class SublayerGroup:
    """Sublayers that are repeated together.

    Attributes:
        words: those of the words; "" where they have none at that place.
        picture: as many, those of a stream of the picture; all "" where it has none.
        times: how many there are, in words.
    """

    words: tuple[str, ...]
    picture: tuple[str, ...]
    times: str


@dataclasses.dataclass(frozen=True)
class Design:
    """How the words of a variant meet the picture.

    Attributes:
        picture: what is perceived, and how.
        read: what words read of it; "" where the picture has a stream of its own.
        groups: from the first to the last.
        joint: whether words and picture are one stream.
        tokens: what two streams exchange through, if not directly.
        summary: sizes, norms and gates in words.
        notes: what else differs from the baseline.
        writes: whether it is trained to say the next word.
        compares: whether it is trained to compare a picture with a text.
    """

    picture: str
    read: str
    groups: tuple[SublayerGroup, ...]
    joint: bool = False
    tokens: str = ""
    summary: str = ""
    notes: tuple[str, ...] = ()
    writes: bool = True
    compares: bool = False


def designs_of(results: Results, baseline: str | None) -> dict[str, Design]:
    """The design of each variant, the baseline's first; none where the settings do not say."""
    known = results.get("settings", {})
    return {
        name: _of_variant(design, name, results, baseline)
        for name in sorted(known, key=lambda name: name != baseline)
        if (design := design_of(known[name]["model"])) is not None
    }


def design_of(model: Model) -> Design | None:
    """The design that a model's settings describe; None where they name no preset of ours.

    Example:
        >>> block = {"order": ("self", "cross", "mlp"), "residual": {"norm": "pre", "gate": None}}
        >>> design = design_of({"preset": "encoder_decoder_pre", "context_view": "mean",
        ...     "connector": "", "image_encoder": "oracle", "contexts": ("image",), "layers": 2,
        ...     "cross_every": 1, "latents": 16, "width": 64, "heads": 4, "block": block})
        >>> design.read, design.groups[0].words, design.summary
        ('its mean', ('self', 'cross', 'MLP'), 'width 64, 4 heads, norm before, no gate')
    """
    if model.get("preset") not in presets.names():
        return None
    use = presets.get(model["preset"]).use
    own = DESIGNS.get(use, _decoder)(model)
    image = "sound" if model["image_encoder"] == "frames" else "picture"
    parts = [image if one == "image" else one for one in model["contexts"]]
    seen = "\n+ ".join(parts) if len(parts) > 1 else f"{parts[0]}\n{model['image_encoder']}"
    if depth := model.get("encoder_layers", 0):
        seen += f"\n{count(depth, 'layer')}"
    nothing = model["context_view"] == "none" and not own.read
    return dataclasses.replace(
        own,
        picture="nothing" if nothing else seen,
        summary=_summary(model),
    )


def _of_variant(design: Design, name: str, results: Results, baseline: str | None) -> Design:
    """A design with the losses of its variant, if results say them, and what else differs."""
    loss = results["settings"][name].get("loss", {})
    return dataclasses.replace(
        design,
        notes=_notes(results, name, baseline),
        writes=loss.get("next_word", 1) != 0,
        compares=loss.get("contrastive", 0) != 0,
    )


def _order(model: Model) -> tuple[str, ...]:
    return tuple(SPELT.get(one, one) for one in model["block"]["order"])


def _alone(words: tuple[str, ...], times: str) -> SublayerGroup:
    return SublayerGroup(words, ("",) * len(words), times)


def _decoder(model: Model) -> Design:
    own, layers, every = _order(model), model["layers"], model["cross_every"]
    read = READ[model["context_view"]]
    if model["connector"]:
        read = f"{model['connector']}\n{model['latents']} latents"
    groups = [_alone(own, count(layers, "layer"))]
    text = tuple(one for one in own if one != "cross")
    if presets.get(model["preset"]).family == "coca":
        lower = layers // 2
        groups = [_alone(text, count(lower, "layer")), _alone(own, count(layers - lower, "layer"))]
    elif every > 1:
        reading, at = layers // every, model.get("cross_at", 0)
        # Short where an arrow comes down beside it.
        own_group = _alone(own, f"{reading} of {layers}")
        around = lambda count: [_alone(text, f"{count * reading} of {layers} layers")] * bool(count)
        groups = [*around(at), own_group, *around(every - 1 - at)]
    return Design("", read, tuple(groups))


def _interleaved(model: Model) -> Design:
    reading = model["layers"] // model["cross_every"]
    groups = (
        _alone(_order(model), count(reading, "block")),
        _alone(TEXT, count(model["layers"], "layer")),
    )
    return dataclasses.replace(_decoder(model), groups=groups)


def _connector(model: Model) -> Design:
    own = {"connector": model["preset"], "block": {"order": ("self", "cross", "mlp")}}
    return _decoder({**model, **own})


def _two_stream(model: Model) -> Design:
    order, alone = tuple(model["block"]["order"]), tuple(model["block"]["one_sided"])
    if "self" not in order:  # a layer that only exchanges stands between unimodal ones
        order = (*order, "self", "mlp")
    words = tuple("" if one == "context_to_x" else SPELT.get(one, one) for one in order)
    picture = tuple(
        "cross"
        if one == "context_to_x"
        else ""
        if one == "x_to_context" or one in alone
        else SPELT.get(one, one)
        for one in order
    )
    return Design("", "", (SublayerGroup(words, picture, count(model["layers"], "layer")),))


def _bottleneck(model: Model) -> Design:
    own = _order(model)
    group = SublayerGroup(own, own, count(model["layers"], "layer"))
    return Design("", "", (group,), tokens=f"{model['latents']} tokens")


def _prefix(model: Model) -> Design:
    group = _alone(_order(model), count(model["layers"], "layer"))
    return Design("", "", (group,), joint=True)


def _adapter(model: Model) -> Design:
    group = _alone(("self", "cross", "MLP"), count(model["layers"], "layer"))
    return Design("", "each apart", (group,))


DESIGNS: dict[str, Callable[[Model], Design]] = {
    "interleaved": _interleaved,
    "connector": _connector,
    "two_stream": _two_stream,
    "bottleneck": _bottleneck,
    "prefix": _prefix,
    "adapter": _adapter,
}


def _summary(model: Model) -> str:
    said = [f"width {model['width']}", count(model["heads"], "head")]
    if residual := model["block"].get("residual"):
        gate = f"{residual['gate']} gate" if residual["gate"] else "no gate"
        said += [NORMS.get(residual["norm"], "no norm"), gate]
    return ", ".join(said)


def _notes(results: Results, variant: str, baseline: str | None) -> tuple[str, ...]:
    """What differs from the baseline and is not drawn, as "field = value"."""
    known = results["settings"]
    if baseline not in known:
        return ()
    own, other = flat(known[variant]), flat(known[baseline])
    declared = tuple(f"{field}." for field in results.get("changes", {}).get(variant, {}))
    drawn = {f"model.{field}" for field in DRAWN}
    return tuple(
        f"{field.removeprefix('model.').removeprefix('block.')} = {in_figures(value, field)}"
        for field, value in own.items()
        if field not in drawn
        and (value != other[field] if field in other else f"{field}.".startswith(declared))
    )
