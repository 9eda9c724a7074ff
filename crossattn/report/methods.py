"""The methods section of a paper: full sentences, in plain text, from what results.json holds.

A sentence whose numbers are missing is left out: results of older runs say less.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crossattn.report.runs import variants_of
from crossattn.report.statistics import ALPHA, BOOTSTRAP

__all__ = ["count", "methods"]

Results = Mapping[str, Any]

PERCEPTION = {"oracle": "symbolic patch features"}


def methods(results: Results) -> list[str]:
    """Paragraphs on model and training, evaluation and statistics, software and hardware.

    Example:
        >>> results = {"suite": "fusion", "primary": "iid/accuracy", "comparisons": [],
        ...            "runs": [{"variant": "blind", "seed": 0, "metrics": {}}],
        ...            "learning_rate_sweep": {}, "environment": {"device": "2 x cpu"}}
        >>> methods(results)[-1]
        'All runs used 2 x cpu.'
    """
    environment = results["environment"]
    settings = environment.get("settings", {})
    paragraphs = [
        [*_variants(results), *_model(settings), *_training(results, settings)],
        [*_evaluation(results, settings), *_statistics(results)],
        list(_hardware(environment)),
    ]
    return [" ".join(sentences) for sentences in paragraphs if sentences]


def count(number: int, thing: str) -> str:
    """A number with its thing, as in "1 seed" and "1,000 items".

    Example:
        >>> count(1, "seed"), count(1000, "item")
        ('1 seed', '1,000 items')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _has(settings: Mapping[str, Any], *names: str) -> bool:
    return all(name in settings for name in names)


def _variants(results: Results) -> Iterator[str]:
    variants = variants_of(results["runs"])
    yield f"We compare {count(len(variants), 'variant')}: {_listed(variants)}."
    timings = results["environment"].get("timings", {})
    sizes = sorted({t["parameters"] for t in timings.values() if t.get("parameters")})
    if len(sizes) == 1:
        yield f"Each has {sizes[0]:,} parameters."
    elif sizes:
        yield f"They have from {sizes[0]:,} to {sizes[-1]:,} parameters."


def _model(settings: Mapping[str, Any]) -> Iterator[str]:
    model = settings.get("model", {})
    if not _has(model, "layers", "width", "heads"):
        return
    expansion = model.get("expansion")
    hidden = f" and feed-forward layers {expansion} times as wide" if expansion else ""
    yield (
        f"All share one configuration, of which a variant changes only what its name says: a "
        f"decoder of {count(model['layers'], 'layer')} of width {model['width']} with "
        f"{count(model['heads'], 'attention head')}{hidden}."
    )
    if "perception" in model:
        perceived = PERCEPTION.get(model["perception"], f"{model['perception']} features of pixels")
        noise = settings.get("data", {}).get("noise")
        noisy = model["perception"] == "oracle" and noise
        extent = f" with Gaussian noise of standard deviation {noise:g}" if noisy else ""
        yield f"Images are perceived as {perceived}{extent}."


def _training(results: Results, settings: Mapping[str, Any]) -> Iterator[str]:
    data, optimiser = settings.get("data", {}), settings.get("optimiser", {})
    seeds = len({run["seed"] for run in results["runs"]})
    text = f"Every variant was trained from {count(seeds, 'random seed')}"
    if _has(settings, "steps", "batch_size"):
        text += f" for {count(settings['steps'], 'step')}"
        text += f" on batches of {settings['batch_size']:,} texts"
    if _has(data, "images", "source"):
        images = f"{data['images']:,}" if data["images"] else "all"
        text += f" from {images} training images of {data['source']}"
    if _has(data, "texts_per_image"):
        text += f", {count(data['texts_per_image'], 'text')} per image in a batch"
    yield text + "."
    yield (
        "For a given seed all variants see the same examples in the same order and are evaluated "
        "on the same items."
    )
    if _has(optimiser, "learning_rate", "warmup", "weight_decay", "clip"):
        yield (
            f"We use AdamW with weight decay {optimiser['weight_decay']:g}, a linear warm-up over "
            f"the first {optimiser['warmup']:.0%} of the steps and a cosine decay to a tenth of "
            f"the peak, and clip gradients to a global norm of {optimiser['clip']:g}.".replace(
                "%", " %"
            )
        )
    rates = _rates(results["learning_rate_sweep"])
    if rates:
        yield f"The peak learning rate was chosen per variant on validation data: {rates}."
    elif "learning_rate" in optimiser and not results["learning_rate_sweep"]:
        yield (
            f"The peak learning rate is {optimiser['learning_rate']:g} for all variants; it was "
            "not tuned per variant."
        )


def _rates(sweep: Any) -> str:
    if not isinstance(sweep, Mapping):
        return ""
    return _listed([f"{found['learning_rate']:g} ({name})" for name, found in sweep.items()])


def _evaluation(results: Results, settings: Mapping[str, Any]) -> Iterator[str]:
    images = settings.get("data", {}).get("evaluation_images")
    if images:
        yield f"Each evaluation split holds {images:,} images."
    text = f"The primary metric is {results['primary']}"
    comparisons = results["comparisons"]
    items = comparisons[0]["items"] if comparisons else None
    if items:
        text += f", a mean over {count(items, 'item')} per seed"
    chance = results.get("chance", {}).get(results["primary"])
    if chance is not None:
        text += f"; a model that sees no image reaches {chance:.3f}"
    yield text + "."
    if any("pointing/answer" in run["metrics"] for run in results["runs"]):
        yield (
            "Pointing is the share of answers at whose position the most attended patch lies on "
            "the true region, in the layer chosen on validation data."
        )


def _statistics(results: Results) -> Iterator[str]:
    comparisons = results["comparisons"]
    if not comparisons:
        return
    if comparisons[0]["seeds"] == 1:
        yield "With one seed no differences were tested."
        return
    yield (
        f"Differences are paired by seed and item. Each p-value is the larger of a hierarchical "
        f"bootstrap over seeds and items ({BOOTSTRAP.resamples:,} resamples) and a paired t test "
        f"over seeds, each interval covers those of both, and Holm's procedure corrects for "
        f"{count(len(comparisons), 'comparison')} at a family-wise error rate of {ALPHA:g}. "
        "Other intervals are Student's over seeds at 95 %."
    )


def _hardware(environment: Mapping[str, Any]) -> Iterator[str]:
    found = [environment[name] for name in ("device", "processor") if environment.get(name)]
    if found:
        date = f", in {environment['date'][:7]}" if environment.get("date") else ""
        yield f"All runs used {' on '.join(map(str, found))}{date}."
    paces = {
        name: timing["step_seconds"]
        for name, timing in environment.get("timings", {}).items()
        if "step_seconds" in timing
    }
    if paces:
        fast, slow = min(paces, key=paces.__getitem__), max(paces, key=paces.__getitem__)
        text = f"The median training step took {1000 * paces[fast]:.1f} ms ({fast})"
        yield text + (f" to {1000 * paces[slow]:.1f} ms ({slow})." if len(paces) > 1 else ".")
    versions = environment.get("versions") or []
    for used in versions if isinstance(versions, list) else [versions]:
        yield f"Software: {_listed([f'{name} {version}' for name, version in used.items()])}."


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them.

    Example:
        >>> _listed(["a", "b", "c"])
        'a, b and c'
    """
    *most, last = names or [""]
    return f"{', '.join(most)} and {last}" if most else last
