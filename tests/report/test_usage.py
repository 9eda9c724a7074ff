"""The report of usage: its tables, intervals over seeds or answers, and its place in a suite's."""

import json

import numpy as np
import pytest

from crossattn.report.render.blocks import Heading, TableBlock
from crossattn.report.usage import (
    explanation_table,
    head_table,
    usage_blocks,
    usage_section,
    use_table,
)


def made_up(seeds):
    """Results in which attention lies on the region and no answer depends on it."""
    rng = np.random.default_rng(0)
    levels = {
        "pointing/answer": 0.9,
        "knockout/truth": 0.7,
        "knockout/random": 0.7,
        "spearman/attention": 0.1,
        "kendall/attention": 0.1,
        "spearman/random": 0.0,
        "spearman/attention/layer0/head1": 0.3,
        "pointing/answer/layer0/head1": 0.8,
    }
    items = {name: x + 0.02 * rng.normal(size=(seeds, 400)) for name, x in levels.items()}
    rows = lambda variant, shift: [
        {
            "variant": variant,
            "seed": s,
            "metrics": {n: x[s].mean() - shift for n, x in items.items()},
        }
        for s in range(seeds)
    ]
    return {
        "suite": "fusion",
        "split": "iid",
        "answers": 64,
        "parts": 16,
        "runs": rows("cross-attention", 0.0),
        "references": rows("untrained", 0.8),
        "chance": {"pointing/answer": 0.1},
        "items": {"cross-attention": {name: x.tolist() for name, x in items.items()}},
    }


@pytest.mark.parametrize("seeds", [1, 4])
def test_planted_attention_without_use(seeds):
    _, rows = use_table(made_up(seeds))
    assert [row[0] for row in rows] == ["untrained", "cross-attention"]
    assert rows[1][-1] == "attends but does not use"
    _, rows = explanation_table(made_up(seeds), "cross-attention")
    assert [row[0] for row in rows] == ["chance", "raw attention", "random"]
    assert float(rows[1][1].split(" [")[0]) == pytest.approx(0.1, abs=0.01)
    _, rows = head_table(made_up(seeds), "cross-attention")
    assert [row[0] for row in rows] == ["chance", "layer 0, head 1"]
    assert all("[" in cell for cell in rows[1][1:])


def test_terms_stand_before_their_tables(blank):
    blocks = list(usage_blocks(made_up(3)))
    heads = [block.text for block in blocks if isinstance(block, Heading)]
    assert heads[1:] == [
        "Attention and use",
        "Explanations beside causal effects",
        "Layers and heads",
    ]
    names = [block.name for block in blocks if isinstance(block, TableBlock)]
    assert names[0] == "use"
    assert names[1:3] == ["explanations-cross-attention", "explanations-untrained"]
    assert names[3:] == ["heads-cross-attention"]


def test_a_suite_shows_what_usage_found(tmp_path):
    assert list(usage_section(tmp_path)) == []
    (tmp_path / "usage").mkdir()
    (tmp_path / "usage" / "usage.json").write_text("{")
    assert list(usage_section(tmp_path)) == []
    (tmp_path / "usage" / "usage.json").write_text(json.dumps(made_up(3)))
    assert any(isinstance(block, TableBlock) for block in usage_section(tmp_path))


@pytest.mark.parametrize("seeds", [1, 4])
def test_who_answers_nothing_has_nothing_to_lose(seeds):
    results = made_up(seeds)
    results["chance"]["knockout/intact"] = 0.2
    for intact, verdict in ((0.7, "attends but does not use"), (0.05, "inconclusive")):
        for run in results["runs"]:
            run["metrics"]["knockout/intact"] = intact
        rows = (
            np.full((seeds, 400), intact) + 0.01 * np.random.default_rng(1).random(400)
        ).tolist()
        results["items"]["cross-attention"]["knockout/intact"] = rows
        assert use_table(results)[1][1][-1] == verdict
