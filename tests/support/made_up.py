"""Made-up results of suites with the shape of real ones: 4 variants or all 8, 5 seeds."""

import numpy as np

from crossattn.report.figures.gallery import Gallery
from crossattn.report.stats.comparisons import compare_variants

PRIMARY = "pairs/accuracy"
BASELINE = "cross-attention"
CLAIMS = [("cross-attention", "mean-pool"), ("mean-pool", "blind"), ("blind", "oracle-attention")]
# Accuracy on colour and on shape questions of `pairs`; the oracle is no better than the baseline.
LEVELS = {
    "blind": (0.03, 0.05),
    "mean-pool": (0.15, 0.42),
    "cross-attention": (0.86, 0.95),
    "oracle-attention": (0.88, 0.94),
}
# The whole headline suite: two without attention over patches, and one that attends to text, too.
ALL_LEVELS = {
    "blind": (0.03, 0.05),
    "mean-pool": (0.15, 0.42),
    "single-stream": (0.55, 0.83),
    "cross-attention": (0.86, 0.95),
    "co-attention": (0.84, 0.96),
    "bidirectional": (0.71, 0.88),
    "resampler": (0.35, 0.62),
    "oracle-attention": (0.97, 0.99),
}
ALL_CLAIMS = [
    ("cross-attention", "mean-pool"),
    ("mean-pool", "blind"),
    ("cross-attention", "resampler"),
    ("cross-attention", "single-stream"),
    ("co-attention", "bidirectional"),
]
NO_PATCHES = ("blind", "mean-pool")
LAYERS, HEADS = 2, 4
QUESTIONS = 127
CHANCE = {
    "iid/accuracy/colour": 1 / 6,
    "iid/accuracy/shape": 1 / 6,
    "iid/accuracy/count": 1 / 3,
    "pairs/accuracy": 0.0,
    "pairs/accuracy/colour": 0.0,
    "pairs/accuracy/shape": 0.0,
    "pointing/answer": 0.067,
    "pointing/consumed": 0.081,
    "pointing/predicted": 0.074,
    "mass/answer": 0.06,
    "knockout": 0.31,
}
# What the splits of the headline suite have beyond those, with their chance levels.
MORE = {
    "iid/open": 1 / 5,
    "iid/accuracy/exist": 1 / 2,
    "iid/accuracy/relation": 1 / 2,
    "count/accuracy": 1 / 4,
    "relations/accuracy": 1 / 2,
    "swap/text": 1 / 4,
    "swap/image": 1 / 4,
    "swap/group": 1 / 6,
}
SETTINGS = {
    "data": {
        "source": "scenes",
        "images": 10_000,
        "evaluation_images": 1_000,
        "texts_per_image": 2,
        "noise": 0.1,
    },
    "model": {
        "context_view": BASELINE,
        "image_encoder": "oracle",
        "width": 64,
        "layers": 2,
        "heads": 4,
        "block": {"mlp": {"expansion": 2.0}},
    },
    "optimizer": {"learning_rate": 0.004, "warmup": 0.1, "weight_decay": 0.01, "clip": 1.0},
    "steps": 800,
    "batch_size": 64,
}


# What was counted, which is not what the settings ask for.
COUNTS = {
    "images": {"iid": 997, "pairs": 251, "swap": 198},
    "items": {
        "iid/accuracy": 991,
        "iid/accuracy/colour": 331,
        "iid/accuracy/shape": 330,
        "iid/accuracy/count": 330,
        "pairs/accuracy": 254,
        "pairs/accuracy/colour": 127,
        "pairs/accuracy/shape": 127,
        "swap/text": 99,
        "pointing/answer": 661,
        "pointing/answer/layer0": 661,
    },
    "training_images": 9_973,
}


def settings_of(variants):
    """Of each variant, as a suite of fusions has them."""
    return {
        name: {**SETTINGS, "model": {**SETTINGS["model"], "context_view": name}}
        for name in variants
    }


def _metrics(rng, variant, items):
    level = np.mean((LEVELS | ALL_LEVELS)[variant])
    around = lambda centre: float(np.clip(centre + 0.02 * rng.normal(), 0, 1))
    metrics = {
        "iid/accuracy": around(0.2 + 0.7 * level),
        "iid/accuracy/colour": around(0.18 + 0.8 * level),
        "iid/accuracy/shape": around(0.17 + 0.8 * level),
        "iid/accuracy/count": around(0.35 + 0.5 * level),
        PRIMARY: float(items.mean()),
        "pairs/accuracy/colour": float(items[:QUESTIONS].mean()),
        "pairs/accuracy/shape": float(items[QUESTIONS:].mean()),
        "caption/slot_accuracy": around(0.2 + 0.7 * level),
        "caption/exact": around(0.5 * level),
    }
    if variant != "blind":
        metrics |= {"knockout/intact": around(level), "knockout/truth": around(0.3)}
        metrics |= {"knockout/random": around(level), "knockout/rest": around(level - 0.1)}
    if variant in NO_PATCHES:
        return metrics
    for name, centre in (("consumed", 0.5), ("predicted", 0.7), ("answer", 0.95)):
        for i in range(LAYERS):
            metrics[f"pointing/{name}/layer{i}"] = around(level * (centre - 0.3 + 0.3 * i))
            metrics[f"mass/{name}/layer{i}"] = around(0.5 * level * centre)
    for i, j in np.ndindex(LAYERS, HEADS):
        metrics[f"pointing/answer/layer{i}/head{j}"] = around(level * (0.2 + 0.5 * i + 0.1 * j))
    metrics |= {"pointing/answer": around(0.97 * level), "mass/answer": around(0.8 * level)}
    metrics |= {"pointing/fixed_patch": 0.135}
    if variant == "single-stream":
        metrics["image_mass/answer"] = around(0.4)
    return metrics


def make_results(seeds=5, variants=tuple(LEVELS), *, levels=None, claims=None):
    """(results, items), as a suite writes them."""
    levels = levels or LEVELS
    claims = claims or (CLAIMS if len(variants) == len(LEVELS) else [])
    rng = np.random.default_rng(0)
    runs, items = [], {}
    for variant in variants:
        centres = np.repeat(levels[variant], QUESTIONS)
        chances = np.clip(centres + 0.03 * rng.normal(size=(seeds, 1)), 0, 1)
        items[variant] = (rng.random((seeds, 2 * QUESTIONS)) < chances).astype(np.uint8)
        runs += [
            {"variant": variant, "seed": seed, "metrics": _metrics(rng, variant, row)}
            for seed, row in enumerate(items[variant])
        ]
    results = {
        "suite": "fusion",
        "primary": PRIMARY,
        "runs": runs,
        "comparisons": compare_variants(
            runs, items, primary=PRIMARY, baseline=BASELINE, claims=claims
        ),
        "chance": CHANCE,
        "asked": {
            "quick": False,
            "seeds": seeds,
            "variants": list(variants),
            "suite": list(variants),
        },
        "settings": settings_of(variants),
        "counts": COUNTS,
        "learning_rate_sweep": {},
        "environment": {
            "date": "2026-11-22",
            "versions": [{"python": "3.11.7", "jax": "0.10.2", "flax": "0.12.8"}],
            "device": "2 x cpu",
            "processor": "Imagined Processor 7 (x86_64)",
            "cores": 2,
            "settings": SETTINGS,
            "timings": {
                name: {"parameters": 123_457 + i, "step_seconds": 0.0123 + i / 1000}
                for i, name in enumerate(variants)
            },
        },
    }
    return results, items


def make_all(seeds=5):
    """(results, items) of a suite with eight variants, and splits of many kinds."""
    results, items = make_results(seeds, tuple(ALL_LEVELS), levels=ALL_LEVELS, claims=ALL_CLAIMS)
    rng = np.random.default_rng(3)
    for run in results["runs"]:
        level = np.mean(ALL_LEVELS[run["variant"]])
        for name, floor in MORE.items():
            value = floor + (1 - floor) * 0.9 * level + 0.02 * rng.normal()
            run["metrics"][name] = float(np.clip(value, 0, 1))
    return {**results, "chance": CHANCE | MORE}, items


def make_curves(seeds=5, levels=None):
    rng = np.random.default_rng(1)
    steps = np.arange(0, 1200, 50)
    curves = {}
    for index, variant in enumerate(levels or LEVELS):
        curves[variant] = {}
        for seed in range(seeds):
            floor = (1.5, 1.2, 0.3, 0.15, 0.6, 0.33, 0.4, 0.14)[index] * np.exp(0.1 * rng.normal())
            loss = floor + 2.5 * np.exp(-steps / 200) + 0.02 * rng.random(len(steps))
            accuracy = 1 - loss / loss.max()
            curves[variant][seed] = {
                "step": steps.tolist(),
                "loss": loss.tolist(),
                "accuracy": accuracy.tolist(),
            }
    return curves


def make_gallery():
    rng = np.random.default_rng(2)
    pixels = rng.integers(205, 245, (3, 64, 64, 3)).astype(np.uint8)
    outlines = np.zeros((3, 5, 64, 64), bool)
    row, column = np.mgrid[:64, :64]
    centres = [[(14, 12), (40, 44)], [(50, 20), (20, 50)], [(7, 8), (57, 55)]]
    for picture, places in enumerate(centres):
        for word, (y, x) in enumerate(places):
            disc = (row - y) ** 2 + (column - x) ** 2 <= 64
            pixels[picture][disc] = ((220, 60, 40), (40, 80, 200))[word]
            outlines[picture, 2 * word : 2 * word + 2] = disc
    coverage = outlines.reshape(3, 5, 8, 8, 8, 8).mean((3, 5)).reshape(3, 5, 64)
    weights = coverage + 0.05 * rng.random((3, 5, 64))
    return Gallery(
        pixels=pixels,
        words=[["red", "disc", "blue", "ring", "of"], ["red", "disc", "blue", "ring"], ["red"]],
        weights=weights / weights.sum(-1, keepdims=True),
        grid=(8, 8),
        outlines=outlines,
        captions=[
            "a red disc left of a blue ring and above a yellow square and a green star right of a "
            "purple cross and below a grey triangle",
            "what colour is the ring ? blue",
            "red",
        ],
        readings=[
            ["consumed", "consumed", "predicted", "predicted", "consumed"],
            ["consumed"] * 4,
            ["predicted"],
        ],
    )
