"""Drawings of variants show what their settings say, and what the baseline has not."""

import dataclasses

import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from configs.fusion import SUITE as FUSION
from configs.gating import SUITE as GATING
from configs.presets import SUITE as PRESETS
from configs.retrieval import SUITE as RETRIEVAL
from configs.slots import SUITE as SLOTS
from crossattn.report.figures.designs import (
    MOST_PANELS,
    NEW,
    NEW_EDGE,
    draw_designs,
    panels_of,
)
from crossattn.report.methods import objectives
from crossattn.report.results.designs import SublayerGroup, _decoder, design_of, designs_of
from crossattn.report.results.settings import settings_of
from tests.support.layout import check_layout, texts_of


def results_of(suite):
    runs = {name: suite.run(name) for name in suite.variants}
    return {
        "settings": {name: dataclasses.asdict(run) for name, run in runs.items()},
        "changes": {name: dict(changes) for name, changes in suite.variants.items()},
    }


@pytest.fixture(scope="module")
def fusion():
    return designs_of(results_of(FUSION), FUSION.baseline)


def test_each_way_of_joining_is_drawn_as_it_is(fusion):
    assert next(iter(fusion)) == FUSION.baseline
    assert {name: design.read for name, design in fusion.items()} == {
        "cross-attention": "all of it",
        "blind": "nothing",
        "mean-pool": "its mean",
        "single-stream": "",
        "co-attention": "",
        "bidirectional": "",
        "resampler": "perceiver_encode\n16 latents",
        "oracle-attention": "the true region",
    }
    assert [name for name, design in fusion.items() if design.joint] == ["single-stream"]
    two = SublayerGroup(("self", "cross", "MLP"), ("", "cross", "MLP"), "2 layers")
    assert fusion["co-attention"].groups == (two,)
    assert fusion["cross-attention"].notes == ()
    assert "exchange = one-product" in fusion["bidirectional"].notes
    assert "exchange = one-product" not in fusion["co-attention"].notes


def test_every_preset_has_a_drawing_of_its_own_order():
    designs = designs_of(results_of(PRESETS), PRESETS.baseline)
    assert designs.keys() == PRESETS.variants.keys()
    words = {name: [group.words for group in design.groups] for name, design in designs.items()}
    assert words["flamingo"] == [("cross", "MLP"), ("self", "MLP")]
    assert words["coca_decoder"] == [("self", "MLP"), ("self", "cross", "MLP")]
    assert words["merged"] == [("merged", "MLP")]
    sam = designs["sam_two_way"].groups[0]
    assert sam.words == ("self", "cross", "MLP", "")
    assert sam.picture == ("", "", "", "cross")
    assert designs["bottleneck"].tokens == "16 tokens"
    assert "extra_keys.sink = True" in " ".join(designs["sinks"].notes)
    panels = panels_of(designs)
    assert len(panels) <= MOST_PANELS
    assert panels[0][0][0] == PRESETS.baseline


def test_a_model_of_no_known_preset_has_none():
    assert design_of({"context_view": "tokens"}) is None


@pytest.mark.parametrize("suite", [FUSION, PRESETS, SLOTS, RETRIEVAL], ids=lambda suite: suite.name)
def test_all_of_a_drawing_can_be_read(suite, monkeypatch):
    designs = designs_of(results_of(suite), suite.baseline)
    figure = draw_designs(designs, suite.baseline)
    texts = texts_of(figure, monkeypatch)
    check_layout(figure, texts)
    said = [text for text, _ in texts]
    assert f"{suite.baseline} (baseline)" in said
    assert figure.get_size_inches()[1] < 13


def test_what_is_not_trained_to_write_has_no_next_word():
    designs = designs_of(results_of(RETRIEVAL), RETRIEVAL.baseline)
    figure = draw_designs(designs, RETRIEVAL.baseline)
    ends = {"next\nword", "word,\nvector", "vector"}
    said = {
        axes.get_title(loc="left"): sorted({text.get_text() for text in axes.texts} & ends)
        for axes in figure.axes
    }
    assert said == {
        "dual-encoder (baseline)": ["vector"],
        "captioner": ["next\nword"],
        "coca": ["vector", "word,\nvector"],
        "coca-matching": ["vector", "word,\nvector"],
    }
    results = results_of(RETRIEVAL) | {"runs": [{"variant": name} for name in designs]}
    text = objectives(settings_of(results))
    assert "word by word, seeing a picture beside it (captioner, coca and coca-matching)" in text
    assert "rest of a batch (dual-encoder, coca and coca-matching); " in text


def test_patterns_of_parameters_are_broken_behind_a_bar():
    designs = designs_of(results_of(GATING), GATING.baseline)
    figure = draw_designs(designs, GATING.baseline)
    (panel,) = (a for a in figure.axes if a.get_title(loc="left") == "frozen-tanh-0-fast")
    lines = [text.get_text() for text in panel.texts if text.get_color() == NEW_EDGE]
    assert " ".join(lines).replace("| ", "|").startswith("cross_residual.gate = tanh; optimizer.")
    assert "optimizer.multiplied = cross_residual/gate" in " ".join(lines)
    assert all(line.endswith(("|", ";")) for line in lines[:-1])


def orange(figure):
    """Columns of the boxes that are new in each panel."""
    found = {}
    for axes in figure.axes:
        boxes = [box for box in axes.patches if isinstance(box, Rectangle)]
        new = [box for box in boxes if box.get_fill() and box.get_facecolor() == to_rgba(NEW)]
        found[axes.get_title(loc="left")] = sorted(int(box.get_center()[0]) for box in new)
    return found


def test_what_the_baseline_has_not_is_orange(fusion):
    new = orange(draw_designs(fusion, FUSION.baseline))
    assert new["cross-attention (baseline)"] == []
    # What is read of the picture stands above the words that read it.
    for name in ("blind", "mean-pool", "resampler", "oracle-attention"):
        assert new[name] == [2]
    assert new["co-attention"] == [2, 3]  # the sublayers of the picture's own stream
    assert new["single-stream"] == [1, 2]


def test_sublayers_that_stand_elsewhere_are_new():
    designs = designs_of(results_of(PRESETS), PRESETS.baseline)
    few = {name: designs[name] for name in (PRESETS.baseline, "flamingo", "vilbert")}
    new = orange(draw_designs(few, PRESETS.baseline))
    assert new["flamingo"] == [3, 4]  # reading comes first, then the layers of text
    assert new["vilbert"] == [1, 2, 3, 3, 4, 4]


def test_a_gate_is_named_in_words():
    designs = designs_of(results_of(SLOTS), SLOTS.baseline)
    assert designs["no gate, pre"].summary.endswith("norm before, no gate")
    assert designs["tanh, post"].summary.endswith("norm behind, tanh gate")
    assert designs["tanh, post"].notes == ()


def test_only_sizes_that_differ_are_orange():
    designs = designs_of(results_of(SLOTS), SLOTS.baseline)
    figure = draw_designs(designs, SLOTS.baseline)
    new = {
        axes.get_title(loc="left"): [
            text.get_text() for text in axes.texts if text.get_color() == NEW_EDGE
        ]
        for axes in figure.axes
    }
    assert new["no gate, pre (baseline)"] == []
    assert new["tanh, pre"] == ["tanh gate"]
    assert new["no gate, post"] == ["norm behind,"]
    assert new["tanh, post"] == ["norm behind, tanh gate"]


def test_layers_stand_on_both_sides_of_the_one_that_reads():
    model = {"preset": "encoder_decoder_pre", "context_view": "tokens", "connector": ""}
    sizes = {"layers": 4, "cross_every": 4, "cross_at": 2, "block": {"order": ["self", "cross"]}}
    groups = _decoder(model | sizes).groups
    assert [one.times for one in groups] == ["2 of 4 layers", "1 of 4", "1 of 4 layers"]
