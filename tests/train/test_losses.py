"""The terms of a run's loss: what they are of, on one device and on many, and old folders."""

import dataclasses
import json
import re

import pytest

from crossattn.fields import flat
from crossattn.train.former import with_late_fields
from crossattn.train.losses import Losses
from crossattn.train.record import (
    RecordError,
    RunRecord,
    library_versions,
    read_record,
    write_record,
)
from crossattn.train.run import Run, replace
from crossattn.train.stale import find_stale
from crossattn.train.suite import Suite


def test_what_was_written_before_has_the_default_loss(tmp_path):
    run, path = Run(steps=7), tmp_path / "runs" / "plain" / "seed0"
    write_record(path, RunRecord("mine", "plain", 0, run, library_versions()))
    content = json.loads((path / "run.json").read_text())
    assert flat(content["run"]) == with_late_fields(flat(content["run"]))
    del content["run"]["loss"]
    (path / "run.json").write_text(json.dumps(content))
    assert read_record(path).run == run
    suite = Suite("mine", "-", run, {"plain": {}}, "plain", "pairs/accuracy")
    assert list(find_stale(tmp_path, suite)) == []
    other = dataclasses.replace(suite, base=replace(run, {"loss.attention": 0.5}))
    (found,) = find_stale(tmp_path, other)
    assert "loss.attention 0.0 -> 0.5" in found.why
    content["run"]["loss"] = 3
    (path / "run.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"run\.json is damaged"):
        read_record(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss.attention": -1.0}, "loss.attention cannot be negative, got -1.0"),
        ({"loss.attention": "much"}, "loss.attention takes a finite number, got 'much'"),
        ({"loss.next_word": 0.0}, "loss: all weights are 0, so nothing would be learned"),
        ({"loss.attention_heads": (1,)}, "loss.attention_heads is for loss.attention"),
        ({"loss.attention": 1.0, "loss.attention_heads": (4,)}, "heads are 0 to 3 of this model"),
        ({"loss.attention": 1.0, "loss.attention_layers": (2,)}, "layers are 0 to 1 of this model"),
        ({"loss.attention": 1.0, "loss.attention_layers": (0, 0)}, "different numbers from 0 on"),
        ({"loss.entropy": 0.1, "model.context_view": "none"}, "set it to tokens, or loss.entropy"),
        ({"loss.attention": 0.1, "model.context_view": "mean"}, "model.context_view mean has not"),
        ({"loss.attention": 0.1, "model.contexts": ("boxes",)}, "add image to model.contexts"),
        ({"loss.diversity": 0.1, "model.heads": 1}, "is about pairs of heads, model.heads is 1"),
        (
            {"loss.distillation": 1.0, "loss.distillation_teacher": "average"},
            "set optimizer.ema, as to 0.99",
        ),
        (
            {"loss.attention": 1.0, "model.block.cross_attention.logits.talking": True},
            "set model.block.cross_attention.logits.talking to False",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_in_one_line(changes, said):
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        replace(Run(), changes)
    assert "\n" not in str(raised.value)


def test_the_terms_are_those_with_a_weight():
    assert Losses().plain
    assert not Losses(next_word=2.0).plain
    assert Losses(attention=0.5, entropy=-0.1).terms == {
        "next_word": 1.0,
        "attention": 0.5,
        "entropy": -0.1,
    }
