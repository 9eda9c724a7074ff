"""The suite `folder` as a command: from pictures and captions to a report."""

import json

import pytest

from experiments import ablate
from tests.support.picture_folders import write_folder

TINY = "--variants blind --seeds 1 --steps 2 --checkpoint-every 2 --batch-size 4 --model.width 16"
SMALLER = "--model.layers 1 --model.heads 2 --data.image-size 16"


def ablated(pictures, out):
    options = [*TINY.split(), *SMALLER.split(), "--out", str(out)]
    ablate.main(["folder", "--data.directory", str(pictures), *options])
    return json.loads((out / "results.json").read_text())


@pytest.mark.slow
def test_from_captions_to_a_report(tmp_path, capsys):
    pictures, out = write_folder(tmp_path / "pictures", 12, questions=False), tmp_path / "out"
    first = ablated(pictures, out)
    assert first["primary"] == "test/perplexity"
    assert {run["variant"] for run in first["runs"]} == {"blind", "cross-attention"}
    report = (out / "report.html").read_text()
    assert f"12 pictures of {pictures}/captions.jsonl, with 12 captions" in report
    capsys.readouterr()

    assert ablated(pictures, out)["runs"] == first["runs"]
    assert "2 runs are finished, 0 to go" in capsys.readouterr().err

    # Other words: what was learnt from the former ones is set aside.
    file = pictures / "captions.jsonl"
    file.write_text(file.read_text().replace("disc", "circle"))
    ablated(pictures, out)
    said = capsys.readouterr().err
    assert "cross-attention has changed (data.fingerprint" in said
    assert sorted(place.name for place in (out / "stale").iterdir()) == ["blind", "cross-attention"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "type --data.directory DIR, in which a file such as captions.jsonl has lines like"),
        (["--data.directory", "NONE"], "there is no folder"),
        (["--data.directory", "PICTURES", "--batch-size", "64"], "lower batch_size to 16 or less"),
        (["--data.directory", "PICTURES", "--data.box-format", "xyxy"], "pixels"),
        (["--data.directory", "PICTURES", "--data.question-feature", "q"], "for source tfds"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, capsys, options, why):
    places = {"PICTURES": str(write_folder(tmp_path / "pictures", 12)), "NONE": str(tmp_path / "x")}
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        ablate.main(["folder", *(places.get(word, word) for word in options), "--out", str(out)])
    assert end.value.code == 2
    assert why in capsys.readouterr().err
    assert not (out / "suite.json").exists()
