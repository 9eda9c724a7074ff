"""The methods section of a paper: full sentences, in plain text, from what results.json holds.

A sentence whose numbers are missing is left out: results of older runs say less.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from crossattn.report.environment import hardware_sentences
from crossattn.report.methods_of_evaluation import evaluation_sentences, statistics_sentences
from crossattn.report.results.completeness import banner
from crossattn.report.results.counts import count
from crossattn.report.results.runs import Results, variants_of
from crossattn.report.results.settings import (
    differing_settings,
    in_words,
    listed,
    settings_of,
    varied,
)

Settings = Mapping[str, Mapping[str, Any]]

PERCEPTION = {
    "oracle": "symbolic patch features",
    "features": "features of another encoder",
    "frames": "log-mel frames of sound",
}
# What a loss trains a model for, where its weight is not 0.
OBJECTIVES = {
    "loss.next_word": "to write a text word by word, seeing a picture beside it",
    "loss.contrastive": (
        "to give a picture and its text vectors that are nearer to each other than to those of the "
        "rest of a batch"
    ),
    "loss.matching": "to tell a text of a picture from a wrong one that is like it",
}
# Where variants differ in one of these, they do not train on the same texts.
DATA = ("steps", "batch_size")


def methods_section(results: Results) -> list[str]:
    """Paragraphs on model and training, evaluation and statistics, software and hardware.

    Every setting is that of the variants as they ran: one that differs between variants stands
    there once for each value, with their names.

    Example:
        >>> results = {"suite": "fusion", "primary": "iid/accuracy", "comparisons": [],
        ...            "runs": [{"variant": "blind", "seed": 0, "metrics": {}}],
        ...            "learning_rate_sweep": {}, "environment": {"device": "2 x cpu"}}
        >>> methods_section(results)[-1]
        'All runs used 2 x cpu.'
    """
    environment = results["environment"]
    settings = settings_of(results)
    paragraphs = [
        banner(results),
        [*_variants(results, settings), *_model(settings), *_training(results, settings)],
        [*evaluation_sentences(results), *statistics_sentences(results)],
        list(hardware_sentences(environment)),
    ]
    return [" ".join(sentences) for sentences in paragraphs if sentences]


def same_training(settings: Settings) -> bool:
    """Whether all variants see the same texts in the same order for as many steps.

    Example:
        >>> same_training({"a": {"steps": 10}, "b": {"steps": 20}})
        False
    """
    return not any(
        field in DATA or field.startswith("data.") for field in differing_settings(settings)
    )


def _variants(results: Results, settings: Settings) -> Iterator[str]:
    variants = variants_of(results["runs"])
    yield f"We compare {count(len(variants), 'variant')}: {listed(variants)}."
    timings = results["environment"].get("timings", {})
    sizes = sorted({t["parameters"] for t in timings.values() if t.get("parameters")})
    if len(sizes) == 1:
        yield f"Each has {sizes[0]:,} parameters."
    elif sizes:
        yield f"They have from {sizes[0]:,} to {sizes[-1]:,} parameters."
    if settings and (fields := varied(results)):
        yield (
            f"They differ in {listed(fields)} and share all other settings; the table of changes "
            "says what each variant changes."
        )


def _model(settings: Settings) -> Iterator[str]:
    parts = [
        in_words(settings, ["model.layers"], lambda layers: count(layers, "layer")),
        in_words(settings, ["model.width"], lambda width: f"of width {width}"),
        in_words(settings, ["model.heads"], lambda heads: f"with {count(heads, 'attention head')}"),
        in_words(
            settings,
            ["model.block.mlp.expansion"],
            lambda times: f"and MLPs {times:g} times as wide",
        ),
    ]
    if all(parts[:3]):
        yield f"The model is a decoder of {' '.join(part for part in parts if part)}."
    if settings and any(own.get("loss.contrastive") for own in settings.values()):
        yield objectives(settings)
    yield from initial_values(settings)
    yield from perception(settings)


def objectives(settings: Settings) -> str:
    """A sentence on what the variants are trained for.

    Example:
        >>> objectives({"a": {}, "b": {"loss.next_word": 0, "loss.matching": 1}})[:79]
        'What each variant is trained for: to write a text word by word, seeing a pictur'
        >>> objectives({"a": {}, "b": {"loss.contrastive": 1.0}})[-12:]
        'a batch (b).'
    """
    trained = {
        field: [n for n, own in settings.items() if own.get(field, field == "loss.next_word")]
        for field in OBJECTIVES
    }
    found = {OBJECTIVES[field]: names for field, names in trained.items() if names}
    if all(len(names) == len(settings) for names in found.values()):
        said = " and ".join(found or [OBJECTIVES["loss.next_word"]])
        return f"Each variant is a model that is trained {said}."
    said = "; ".join(f"{what} ({listed(names)})" for what, names in found.items())
    return f"What each variant is trained for: {said}."


def initial_values(settings: Settings) -> Iterator[str]:
    """A sentence on what training begins with.

    Example:
        >>> list(initial_values({"a": {"initial": ""}, "b": {"initial": ""}}))
        ['All parameters are drawn at random before training.']
        >>> list(initial_values({"a": {"initial": "data/whisper"}, "b": {"initial": ""}}))[0][:44]
        'The text decoder of a begins with published '
    """
    begun = [
        n for n, own in settings.items() if own.get("initial") and not own.get("ignore_initial")
    ]
    if begun:
        yield (
            f"The text decoder of {listed(begun)} begins with published parameters; all others are "
            "drawn at random before training."
        )
    elif settings:
        yield "All parameters are drawn at random before training."


def perception(settings: Settings) -> Iterator[str]:
    """A sentence on what models see of an image.

    Example:
        >>> list(perception({"a": {"model.image_encoder": "oracle", "data.noise": 0.1}}))[0][:48]
        'Images are perceived as symbolic patch features '
    """
    perceived = in_words(settings, ["model.image_encoder", "data.noise"], _perceived)
    if perceived:
        yield f"Images are perceived as {perceived}."


def _perceived(image_encoder: str, noise: float) -> str:
    kind = PERCEPTION.get(image_encoder, f"{image_encoder} features of pixels")
    noisy = image_encoder == "oracle" and noise
    return kind + (f" with Gaussian noise of standard deviation {noise:g}" if noisy else "")


def _training(results: Results, settings: Settings) -> Iterator[str]:
    seeds = len({run["seed"] for run in results["runs"]})
    text = f"Every variant was trained from {count(seeds, 'random seed')}"
    text += _among(" for ", in_words(settings, ["steps"], lambda steps: count(steps, "step")))
    batch = in_words(settings, ["batch_size"], lambda size: count(size, "text"))
    text += _among(" on batches of ", batch)
    text += _among(" from ", _pictures(results, settings))
    each = in_words(settings, ["data.texts_per_image"], lambda n: f"{count(n, 'text')} per image")
    yield text + (f", {each} in a batch" if each else "") + "."
    if same_training(settings):
        yield (
            "For a given seed all variants see the same examples in the same order and are "
            "evaluated on the same items."
        )
    else:
        yield "The variants do not all see the same examples; they are evaluated on the same items."
    yield from _optimizer(settings)
    rates = _rates(results["learning_rate_sweep"])
    rate = in_words(settings, ["optimizer.learning_rate"], lambda rate: f"{rate:g}")
    if rates:
        yield f"The peak learning rate was chosen per variant on validation data: {rates}."
    elif rate and "optimizer.learning_rate" in differing_settings(settings):
        yield f"The peak learning rate is {rate}, as the suite sets it; it was not tuned."
    elif rate:
        yield f"The peak learning rate is {rate} for all variants; it was not tuned per variant."


def _among(link: str, words: str) -> str:
    return link + words if words else ""


def _pictures(results: Results, settings: Settings) -> str:
    """How many images of what were trained on: counted, or as set where nobody counted."""
    real = results.get("counts", {}).get("training_images")
    fields = ["data.images", "data.source"]
    if real and not {*fields} & {*differing_settings(settings)}:
        return in_words(settings, fields, lambda _, source: f"{real:,} training images of {source}")
    return in_words(
        settings,
        fields,
        lambda images, source: f"{f'{images:,}' if images else 'all'} training images of {source}",
    )


OPTIMIZERS = {"adamw": "AdamW", "lion": "Lion", "adafactor": "Adafactor", "muon": "Muon"}
SCHEDULES = {
    "cosine": "a cosine decay to a tenth of the peak",
    "linear": "a linear decay to a tenth of the peak",
    "constant": "a constant rate",
    "rsqrt": "a decay by the square root of the step",
}
# Said where a variant has a value that is not zero or empty.
BESIDE = {
    "label_smoothing": "Labels are smoothed by {}.",
    "optimizer.ema": "What is evaluated is a moving average of the parameters, of decay {}.",
    "optimizer.frozen": "Parameters of these paths are not trained: {}.",
    "optimizer.adapted": "Beside frozen kernels of these paths low-rank adapters are trained: {}.",
    "optimizer.multiplied": "Parameters of these paths have a learning rate of their own: {}.",
    "pretrain_text_steps": (
        "Of the steps these come first, without an image, and train all of the text: {}; then the "
        "optimizer and its schedule begin again, and what is frozen is so from there on."
    ),
    "data.mismatched": (
        "In training this share of the images gives way to another image of the batch: {}."
    ),
    "loss.attention": "The mass of attention in the true region is supervised, with weight {}.",
    "loss.entropy": "The normalised entropy of attention is in the loss, with weight {}.",
    "loss.diversity": "The overlap of heads is in the loss, with weight {}.",
    "loss.distillation": "Attention is drawn to that of a teacher, with weight {}.",
}


def _optimizer(settings: Settings) -> Iterator[str]:
    parts = [
        in_words(settings, ["optimizer.weight_decay"], lambda decay: f"{decay:g}"),
        in_words(settings, ["optimizer.warmup"], lambda share: f"{100 * share:g} %"),
        in_words(settings, ["optimizer.clip"], lambda clip: f"{clip:g}"),
    ]
    if not all(parts):
        return
    decay, warmup, clip = parts
    # Earlier results name neither: there was one of each.
    name = in_words(settings, ["optimizer.name"], OPTIMIZERS.get) or OPTIMIZERS["adamw"]
    then = in_words(settings, ["optimizer.schedule"], SCHEDULES.get) or SCHEDULES["cosine"]
    yield (
        f"We use {name} with weight decay {decay}, a linear warm-up over the first {warmup} of "
        f"the steps and {then}, and clip gradients to a global norm of {clip}."
    )
    for field, sentence in BESIDE.items():
        if any(own.get(field) for own in settings.values()):
            yield sentence.format(in_words(settings, [field], lambda value: f"{value}" or "none"))


def _rates(sweep: Any) -> str:
    if not isinstance(sweep, Mapping):
        return ""
    return listed([f"{found['learning_rate']:g} ({name})" for name, found in sweep.items()])
