"""Figures show what the results hold: every seed, honest intervals, and nothing on top of text."""

import numpy as np
import pytest

from crossattn.report.drawing import figure_blocks, figure_makers
from crossattn.report.figures.attention import (
    head_heat_maps,
    pointing_scatter,
    values_by_head,
)
from crossattn.report.figures.gallery import Gallery, draw_gallery, mass_inside
from crossattn.report.figures.learning import learning_curves
from crossattn.report.figures.profiles import performance_profiles
from crossattn.report.figures.style import label, style_of
from crossattn.report.figures.variants import (
    KNOCKOUTS,
    accuracy_by_split,
    forest_plot,
    knockout_plot,
)
from crossattn.report.results.runs import mean_with_interval, metric_values, metrics_in
from crossattn.report.stats.comparisons import winner_of
from tests.support.layout import check_layout, texts_of
from tests.support.made_up import ALL_LEVELS, CHANCE, HEADS, LAYERS, NO_PATCHES, PRIMARY


def drawn(name, results, curves, shown):
    runs, chance = results["runs"], results["chance"]
    splits = [m.name for m in metrics_in(results) if m.where in ("pairs", "relations", "caption")]
    return {
        "scatter": lambda: pointing_scatter(runs, primary=PRIMARY, chance=chance),
        "heads": lambda: head_heat_maps(runs, chance=chance)["pointing"],
        "accuracy": lambda: accuracy_by_split(runs, splits, chance=chance),
        "forest": lambda: forest_plot(results["comparisons"]),
        "knockout": lambda: knockout_plot(runs, chance=chance),
        "learning": lambda: learning_curves(curves),
        "gallery": lambda: draw_gallery(shown),
        "profiles": lambda: performance_profiles(
            {v: np.random.default_rng(i).random((5, 2)) for i, v in enumerate(ALL_LEVELS)}
        ),
    }[name]()


@pytest.mark.parametrize(
    "name",
    ["scatter", "heads", "accuracy", "forest", "knockout", "learning", "gallery", "profiles"],
)
def test_texts_of_eight_variants_do_not_overlap(
    name, headline, headline_curves, shown, monkeypatch
):
    figure = drawn(name, headline, headline_curves, shown)
    texts = texts_of(figure, monkeypatch)
    assert texts
    check_layout(figure, texts)


def test_texts_of_a_low_grid_do_not_overlap(suite, monkeypatch):
    figure = head_heat_maps(suite[0]["runs"], chance=CHANCE)["pointing"]
    check_layout(figure, texts_of(figure, monkeypatch))


def test_scatter_has_every_variant_with_its_seeds_and_intervals(headline):
    runs = headline["runs"]
    side, main = pointing_scatter(runs, primary=PRIMARY, chance=CHANCE).axes
    means = {}
    for axes in (side, main):
        for line in axes.lines:
            if len(line.get_xdata()) == 1:
                means[line.get_marker(), line.get_color()] = (axes, *line.get_xydata()[0])
    for index, variant in enumerate(ALL_LEVELS):
        colour, marker = style_of(index)
        axes, x, y = means[marker, colour]
        accuracy, points = (metric_values(runs, variant, n) for n in (PRIMARY, "pointing/answer"))
        assert y == accuracy.mean()
        assert axes is (side if variant in NO_PATCHES else main)
        if axes is side:
            continue
        assert x == points.mean()
        limits = [line.get_xydata() for line in main.lines if line.get_color() == colour]
        _, low, high = mean_with_interval(points)
        assert any(np.array_equal(ends, [[low, y], [high, y]]) for ends in limits)
        _, low, high = mean_with_interval(accuracy)
        assert any(np.array_equal(ends, [[x, low], [x, high]]) for ends in limits)
        dots = [dots.get_offsets().tolist() for dots in main.collections]
        assert np.stack([points, accuracy], 1).tolist() in dots
    assert side.get_xlabel() == "does not attend\nto patches"
    assert {text.get_text() for text in main.texts} == {"chance 0.067", "chance\n0.000"}


def test_legend_of_hidden_regions_is_whole():
    assert [*map(label, KNOCKOUTS.values())] == [*KNOCKOUTS.values()]


def test_without_hidden_regions_there_is_no_figure_of_them(headline):
    """Data without regions have a perceptual score, which is causal as well."""
    runs = [
        run | {"metrics": {PRIMARY: 0.5, "perceptual_score/context": 0.1}}
        for run in headline["runs"]
    ]
    makers = figure_makers(headline | {"runs": runs})
    assert makers["knockout"]() is None
    assert figure_makers(headline)["knockout"]() is not None


def test_scatter_without_a_strip_or_without_points(headline):
    some = [run for run in headline["runs"] if run["variant"] not in NO_PATCHES]
    (axes,) = pointing_scatter(some, primary=PRIMARY, chance={}).axes
    assert axes.get_ylabel() == PRIMARY
    none = [run for run in headline["runs"] if run["variant"] in NO_PATCHES]
    assert pointing_scatter(none, primary=PRIMARY, chance={}) is None
    assert head_heat_maps(none, chance={}) == {}


def test_grid_holds_the_mean_of_every_head(headline):
    runs = headline["runs"]
    figure = head_heat_maps(runs, chance=CHANCE)["pointing"]
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == [name for name in ALL_LEVELS if name not in NO_PATCHES]
    for variant, axes in panels.items():
        (image,) = axes.images
        assert (image.norm.vmin, image.norm.vmax) == (0, 1)
        grid = image.get_array()
        assert grid.shape == (LAYERS, HEADS)
        for layer, head in np.ndindex(LAYERS, HEADS):
            metric = f"pointing/answer/layer{layer}/head{head}"
            assert grid[layer, head] == metric_values(runs, variant, metric).mean()
        assert [text.get_text() for text in axes.texts] == [f"{x:.2f}" for x in grid.ravel()]
    bar = figure.axes[-1]
    assert "chance" in [label.get_text() for label in bar.get_yticklabels()]
    assert CHANCE["pointing/answer"] in bar.get_yticks()


def test_grid_of_layers_with_different_heads():
    metrics = {f"pointing/answer/layer{i}/head{j}": 0.5 for i, j in ((0, 0), (1, 0), (1, 10))}
    runs = [{"variant": "a", "seed": 0, "metrics": metrics}]
    grid = values_by_head(runs, "a")
    assert grid.shape == (2, 11)
    assert np.argwhere(~np.isnan(grid)).tolist() == [[0, 0], [1, 0], [1, 10]]
    axes = head_heat_maps(runs, chance={})["pointing"].axes[0]
    assert len(axes.texts) == 3


def test_accuracy_has_a_panel_for_each_metric(headline):
    metrics = ["iid/accuracy/colour", "pairs/accuracy", "caption/exact", "swap/text"]
    figure = accuracy_by_split(headline["runs"], metrics, chance=headline["chance"])
    assert [axes.get_title() for axes in figure.axes] == metrics
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == list(ALL_LEVELS)
    dots = [dots.get_offsets()[:, 0].tolist() for dots in first.collections]
    own = [metric_values(headline["runs"], name, metrics[0]).tolist() for name in ALL_LEVELS]
    assert dots == own
    chance = [line for line in figure.axes[1].lines if line.get_color() == "black"]
    assert list(chance[0].get_xdata()) == [0, 0]


def test_a_figure_that_leaves_metrics_out_says_so(headline):
    many = {f"iid/accuracy/kind{number}": 0.5 for number in range(20)}
    runs = [{**run, "metrics": run["metrics"] | many} for run in headline["runs"]]
    few = [{**run, "metrics": {PRIMARY: run["metrics"][PRIMARY]}} for run in headline["runs"]]
    captions = [
        figure_blocks({**headline, "runs": own}, None, None, ())["accuracy"][0].caption
        for own in (runs, few)
    ]
    every = len(metrics_in({**headline, "runs": runs}, "task"))
    assert f"Drawn are 18 of {every} metrics" in captions[0]
    assert "Drawn are" not in captions[1]


def test_forest_shows_every_seed_and_marks_winners(suite):
    comparisons = suite[0]["comparisons"]
    axes = forest_plot(comparisons).axes[0]
    dots = [c.get_offsets()[:, 0].tolist() for c in axes.collections if len(c.get_offsets()) == 5]
    assert dots == [found["seed_differences"] for found in comparisons]
    squares = [line for line in axes.lines if line.get_marker() == "s"]
    filled = [square.get_markerfacecolor() != "white" for square in squares]
    assert filled == [winner_of(found) is not None for found in comparisons]


def test_learning_curves_use_the_steps_that_all_seeds_have():
    seeds = {
        0: {"step": [0, 10, 20], "loss": [4.0, 2.0, 1.0]},
        1: {"step": [0, 20], "loss": [2.0, 3.0]},
    }
    axes = learning_curves({"a": seeds, "b": {0: seeds[0]}}).axes
    assert len(axes) == 1
    mean = axes[0].lines[2]
    assert (mean.get_xdata().tolist(), mean.get_ydata().tolist()) == ([0, 20], [3, 2])


def test_gallery_shows_masses_and_readings(shown):
    figure = draw_gallery(shown)
    titles = [axes.get_title() for axes in figure.axes]
    coverage = shown.outlines[0, 0].reshape(8, 8, 8, 8).mean((1, 3)).ravel()
    mass = (shown.weights[0, 0] * coverage).sum()
    assert titles[1] == f"red\nconsumed\nmass {mass:.2f}"
    assert titles[5].endswith("no region")
    assert "predicted" in titles[3]


def test_mass_of_all_attention_inside_is_one():
    weights = np.zeros((2, 3))
    weights[1, 2] = 1
    outline = np.zeros((4, 9), bool)
    outline[2:, 6:] = True
    assert mass_inside(weights, outline) == 1
    assert mass_inside(weights, ~outline) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": (8, 7)}, r"weights must be \(3, 5, 56\), got \(3, 5, 64\)"),
        ({"outlines": np.zeros((3, 5, 32, 64), bool)}, r"outlines must be \(3, 5, 64, 64\)"),
        ({"captions": ["one"]}, "3 pictures need as many"),
        ({"words": [["a"] * 6, [], []]}, "6 words but weights of 5"),
        (
            {
                "grid": (1, 64),
                "pixels": np.zeros((3, 64, 63, 3), np.uint8),
                "outlines": np.zeros((3, 5, 64, 63), bool),
            },
            "do not divide",
        ),
    ],
)
def test_gallery_refuses_what_does_not_fit(shown, change, message):
    fields = {name: getattr(shown, name) for name in shown.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        Gallery(**{**fields, **change})
