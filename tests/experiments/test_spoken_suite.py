"""The suite `spoken` as a command: from recorded words to a report. The words are tones."""

import json

import numpy as np
import pytest

from configs.spoken import SUITE
from crossattn.data.builders.spoken import SpokenSettings, compose_set
from crossattn.data.builders.spoken_words import trimmed
from crossattn.train.primary import check_source
from crossattn.train.run import replace
from crossattn.train.source import load_dataset
from experiments import ablate
from tests.support.recorded_words import TONES, tone

TINY = "--variants blind --seeds 1 --steps 2 --checkpoint-every 2 --batch-size 12 --model.width 16"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("words")
    voice = {word: trimmed(np.pad(tone(word), 900)) for word in TONES}
    compose_set(path, voice, SpokenSettings(images=16, evaluation_images=8))
    return path


def test_the_suite_can_be_judged_on_the_set(folder):
    wanted = {"data.directory": str(folder), "batch_size": 12}
    source = load_dataset(replace(SUITE.base, wanted))
    check_source(SUITE, source)
    assert source.train.counts()["after"] == 16
    assert source.splits["pairs"].counts() == {"after": 8, "before": 8}


@pytest.mark.slow
def test_from_recorded_words_to_a_report(folder, tmp_path):
    out = tmp_path / "out"
    ablate.main(["spoken", "--data.directory", str(folder), *TINY.split(), "--out", str(out)])
    results = json.loads((out / "results.json").read_text())
    assert results["primary"] == "pairs/accuracy"
    metrics = {run["variant"]: run["metrics"] for run in results["runs"]}
    found = metrics["cross-attention"]
    assert {"pointing/answer", "knockout/truth", "pairs/accuracy", "test/accuracy"} <= set(found)
    assert results["chance"]["pairs/accuracy"] == 0
    report = (out / "report.html").read_text()
    assert "a picture is a spectrogram" in report


def test_a_folder_is_asked_for_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        ablate.main(["spoken", "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "data.source recordings reads a folder of recordings" in capsys.readouterr().err
