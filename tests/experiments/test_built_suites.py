"""The suites `stamps` and `kanji`, on tiny sets that are built of made-up packages."""

import json

import numpy as np
import pytest

from configs import fusion, kanji, stamps
from crossattn.data.builders.builder import build_set, find_builder
from crossattn.data.builders.kanji import KanjiSettings
from crossattn.data.builders.stamps import StampSettings
from crossattn.train.primary import fit_to_data
from crossattn.train.run import replace
from crossattn.train.source import load_dataset
from experiments import ablate
from tests.support.made_up_kanji import write_kanji_package
from tests.support.made_up_stamps import write_stamps_package

FEW = {"images": 24, "evaluation_images": 8}
SETS = {
    "stamps": (stamps.SUITE, StampSettings(**FEW, things=6), write_stamps_package),
    "kanji": (kanji.SUITE, KanjiSettings(**FEW, parts=5), write_kanji_package),
}


def built(name, folder):
    suite, settings, write = SETS[name]
    build_set(find_builder(name), folder / name, settings, write(folder / "package"))
    return suite, folder / name


@pytest.mark.parametrize("name", SETS)
def test_a_suite_has_the_rows_of_fusion_and_its_set_what_they_need(name, tmp_path):
    suite, folder = built(name, tmp_path)
    assert list(suite.variants) == list(fusion.SUITE.variants)
    assert suite.claims == fusion.SUITE.claims
    data = load_dataset(replace(suite.base, {"data.directory": str(folder)}))
    assert set(data.splits) == {"validation", "test", "pairs"}
    assert fit_to_data(suite, data).primary == fusion.SUITE.primary
    for part in (data.train, *data.splits.values()):
        asked = np.flatnonzero(part.answer > 0)
        regions = part.grounded[asked, part.answer[asked]].any(-1)
        verdicts = part.kind[asked] == part.kinds.index("yes/no")
        assert (regions == ~verdicts).all()
        assert len(asked) == len(part)
    assert not data.splits["pairs"].chance["other"]
    assert "have masks" in data.about


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_suite_runs_to_its_report(name, tmp_path):
    suite, folder = built(name, tmp_path)
    options = "--quick --seeds 1 --steps 2 --checkpoint-every 2 --batch-size 8 --variants blind"
    out = tmp_path / "out"
    ablate.main([suite.name, "--data.directory", str(folder), *options.split(), "--out", str(out)])
    results = json.loads((out / "results.json").read_text())
    assert results["primary"] == "pairs/accuracy"
    assert {run["variant"] for run in results["runs"]} == {"blind", "cross-attention"}
    assert "knockout/truth" in (out / "results.json").read_text()
