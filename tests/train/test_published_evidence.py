"""Published sets by their protocols: an all-knowing model gets full marks; runs resume exactly."""

import json

import numpy as np
import pytest

from crossattn.lab import training
from crossattn.train.evidence import measure_model
from crossattn.train.run import Data, Model, Run
from crossattn.train.source import load_dataset
from experiments import train
from tests.support import published_sets as made
from tests.train.test_evidence import Knowing

# What each set is judged by, and what a model reaches that knows and sees all.
MARKS = {
    "coco_captions": {"caption/exact": 1, "sugarcrepe/contrast": 1, "valse/contrast": 1,
                      "sugarcrepe/contrast/add_att": 1, "swap/text": 1},
    "flickr30k_entities": {"caption/exact": 1, "pointing/caption": 1, "box_accuracy/caption": 1},
    "refcoco": {"caption/exact": 1, "box_accuracy/caption": 1},
    # 8 of 10 people say so.
    "vqa_v2": {"test/accuracy": 1, "test/vqa_accuracy": 1, "test/vqa_accuracy/yes/no": 1},
    "gqa": {"test/accuracy": 1, "testdev/accuracy": 1, "box_accuracy/answer": 1},
    "clevr": {"test/accuracy": 1, "pointing/answer": 1},
    "nlvr2": {"test/accuracy": 1, "test/consistency": 1},
}  # fmt: skip


class Judging(Knowing):
    """Also knows which of two captions is true, and which of two pictures."""

    def predict(self, params, examples, visible=None, *, attention=True):
        said = super().predict(params, examples, visible, attention=attention)
        pairs = np.tile([1.0, 0.0, 0.0, 1.0], len(examples))[: len(examples)]
        contrasts = np.tile([1.0, 0.0], len(examples))[: len(examples)]
        return said._replace(log_likelihood=pairs if examples.kinds == KINDS else contrasts)


KINDS = ("yes/no", "number", "other", "caption")


def settings(name, tmp_path):
    found = {"directory": made.WRITERS[name](tmp_path / name)}
    if name == "coco_captions":
        found["winoground"] = made.write_winoground(tmp_path / "winoground")
        found["sugarcrepe"] = made.write_sugarcrepe(tmp_path / "sugarcrepe")
        found["valse"] = made.write_valse(tmp_path / "valse")
    return {field: str(place) for field, place in found.items()}


@pytest.mark.parametrize("name", MARKS)
def test_an_all_knowing_model_gets_full_marks(tmp_path, name):
    data = Data(name, image_size=96, **settings(name, tmp_path))
    source = load_dataset(Run(data=data, model=Model(image_encoder="patch")))
    evidence = measure_model(Judging(), None, source.splits, main=source.main)
    found = {metric: evidence.metrics[metric] for metric in MARKS[name]}
    assert found == MARKS[name]
    assert all(0 <= evidence.chance[metric] < 1 for metric in found if "box" in metric)


TINY = (
    *("--model.image-encoder", "window", "--data.image-size", "32", "--batch-size", "4"),
    *("--model.width", "8", "--model.layers", "1", "--model.heads", "2", "--steps", "5"),
    *("--checkpoint-every", "2"),
)


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("name", MARKS)
def test_a_run_is_trained_killed_resumed_and_evaluated(tmp_path, monkeypatch, name):
    options = [*TINY, "--data.source", name]
    for field, place in settings(name, tmp_path).items():
        options += [f"--data.{field}", place]

    class Fatal(training.Bar):
        def __call__(self, label, step, metrics):
            super().__call__(label, step, metrics)
            if step == 3:
                raise KilledError

    metrics = {}
    for out in ("whole", "killed"):
        if out == "killed":
            with monkeypatch.context() as patch:
                patch.setattr(training, "Bar", Fatal)
                with pytest.raises(KilledError):
                    train.main([*options, "--out", str(tmp_path / out)])
        train.main([*options, "--out", str(tmp_path / out)])
        metrics[out] = json.loads((tmp_path / out / "metrics.json").read_text())["metrics"]
    assert metrics["whole"] == metrics["killed"]
    assert set(MARKS[name]) <= metrics["whole"].keys()
