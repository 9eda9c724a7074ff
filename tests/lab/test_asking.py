"""What a call asks for: the suite that a dict of changes is, and refusals in one line."""

import pytest

from crossattn import lab
from crossattn.lab.asking import suite_asked
from crossattn.train.run import replace
from tests.support import driver

BASE = replace(driver.SUITE.base, {"steps": 13})
ONE = {"a": {}}


def test_a_dict_of_changes_is_a_suite():
    suite = suite_asked({"plain": {}, "wide": {"model.width": 128}}, {"steps": 7}, {})
    fusion = suite_asked("fusion", None, {})
    assert (suite.name, suite.baseline, suite.title) == ("ablation", "plain", "wide beside plain")
    assert suite.base == replace(fusion.base, {"steps": 7})
    assert suite.run("wide").model.width == 128
    easy = suite_asked({"a": {}}, None, {"data.source": "easy_vqa"}, quick=True)
    assert (easy.base.model.image_encoder, easy.base.steps) == ("window", 60)
    assert easy.primary == "test/accuracy"
    assert suite_asked("folder", None, {}).without_questions == "test/perplexity"
    for named in ("folder", {"a": {}}):
        own = suite_asked(named, None, {"data.source": "folder"}, primary="test/slots")
        assert (own.primary, own.without_questions) == ("test/slots", "")
    whole = suite_asked({"a": {}, "b": {"model.layers": 1}}, BASE, {}, baseline="b")
    assert (whole.base, whole.baseline) == (BASE, "b")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lab.ablate("fusoin"), "there is no suite 'fusoin': did you mean fusion?"),
        (lambda: lab.ablate({}), "the dict of variants is empty: name at least the baseline"),
        (lambda: lab.ablate({"a": "b"}), "variant a: takes a dict of changes by field, got 'b'"),
        (lambda: lab.ablate({"a": {"model.widht": 8}}), "did you mean model.width?"),
        (lambda: lab.ablate(ONE, baseline="b"), "no variant b; there are a"),
        (lambda: lab.ablate(ONE, variants=["b"]), "ablation has no variant 'b'"),
        (lambda: lab.ablate(ONE, seeds=0), "seeds must be at least 1, got 0"),
        (lambda: lab.ablate(ONE, data="sceens"), "data.source has no 'sceens': did you mean"),
        (lambda: lab.ablate(ONE, data={"noise": 2, "flip": True}), "data.flip is for source"),
        (lambda: lab.train(data={"data.source": "scenes"}), "takes 'source' without data."),
        (lambda: lab.ablate(ONE, base={"data.images": 100}, data={"images": 200}), "in base and"),
        (lambda: lab.ablate(ONE, devices={"msh": "a"}), "devices has no 'msh': did you mean mesh?"),
        (lambda: lab.ablate(ONE, devices="sed=2"), "mesh=: "),
        (lambda: lab.ablate(ONE, loggers=["wandbb"]), "loggers: there is no 'wandbb'"),
        (
            lambda: lab.ablate("fusion", base={"model.context_view": "none"}),
            "model.context_view is",
        ),
        (lambda: lab.train({"steps": 0}), "steps must be positive, got 0"),
        (lambda: lab.train(seed=-1), "seed cannot be negative, got -1"),
        (lambda: lab.open_results("nowhere"), "nowhere holds no results of an ablation"),
        (lambda: lab.evaluate("nowhere"), "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_is_a_value_error_in_one_line(call, said, unchecked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("crossattn.lab.calls.load_judged", lambda suite: (suite, None))
    with pytest.raises((ValueError, RuntimeError)) as error:
        call()
    assert said in str(error.value)
    assert "--" not in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
