"""The recipe of CONTRIBUTING for a source of data: a file, and a line or its name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from crossattn.data.sources import find_source, load_source
from crossattn.train.record import read_record
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import batches_of, load_dataset
from experiments import ablate
from tests.support import driver

ROOT = Path(__file__).resolve().parents[2]
driver.install()

# A bright square in one of four patches, and the question which one it is in.
FILE = '''
import dataclasses

import numpy as np

from crossattn.data.dataset import Dataset
from crossattn.data.examples import Examples
from crossattn.data.sources import PictureData, Source


@dataclasses.dataclass(frozen=True)
class SquareData(PictureData):
    """Settings of `squares`."""

    shades: int = 2
    """Shades of grey that a square has."""


def examples(count, shades, seed):
    random = np.random.default_rng(seed)
    place, pixels = random.integers(0, 4, count), np.zeros((count, 2, 8, 2, 8, 3), np.uint8)
    row, column = np.divmod(place, 2)
    light = 255 - 40 * random.integers(0, shades, count).astype(np.uint8)
    pixels[np.arange(count), row, :, column] = light[:, None, None, None]
    tokens = np.stack([np.full(count, 1), np.full(count, 2), 3 + place], axis=1).astype(np.int32)
    answer = np.arange(3) == np.full((count, 1), 2)
    return Examples(
        images=pixels.reshape(count, 16, 16, 3),
        coverage=(place[:, None] == np.arange(4))[:, None].astype(np.float32),
        image=np.arange(count),
        tokens=tokens,
        target=answer,
        grounded=answer[..., None],
        kind=np.zeros(count, np.int8),
        answer=np.full(count, 2, np.int32),
        vocabulary=("<pad>", "where", "?", "northwest", "northeast", "southwest", "southeast"),
        kinds=("place",),
        grid=(2, 2),
        chance={"place": 1 / 4},
    )


def load(settings):
    data = settings.data
    shades = getattr(data, "shades", 2)
    few = {name: examples(20, shades, seed) for seed, name in enumerate(("validation", "iid"))}
    return Dataset(examples(data.images, shades, 7), few, main="iid")


SQUARES = Source("squares", load, SquareData, image_encoders={"patch": 1, "conv": 1})
NOTHING = 3
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "mydata.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    find_source.cache_clear()
    yield tmp_path / "mypkg"
    for name in [name for name in sys.modules if name.split(".")[0] == "mypkg"]:
        del sys.modules[name]
    find_source.cache_clear()


@pytest.mark.slow
def test_a_source_of_ones_own_is_trained_measured_and_reported(package, tmp_path, capsys):
    jax.devices()  # all that the tests have, before the command asks for one per core
    name, out = "mypkg.mydata:SQUARES", tmp_path / "out"
    line = f"tiny --variants cross-attention --data.source {name} --data.shades 3 --data.images 40"
    rest = f"--model.image-encoder patch --steps 4 --seeds 1 --out {out}"
    ablate.main([*line.split(), *rest.split()])
    results = json.loads((out / "results.json").read_text())
    (measured,) = results["runs"]
    assert {"iid/accuracy", "pointing/answer", "knockout/truth"} <= set(measured["metrics"])
    assert results["chance"]["iid/accuracy"] == 0.25
    assert "mypkg.mydata" in (out / "report.md").read_text()
    assert (out / "figures" / "gallery.png").exists()
    run = read_record(next(out.glob("runs/cross-attention/*/run.json")).parent).run
    assert run.data == Data(source=name, images=40, evaluation_images=100, shades=3)


def test_the_recipe_of_a_source_in_the_package(tmp_path):
    """One file and one line."""
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "crossattn", copy / "crossattn", ignore=ignored)
    (copy / "crossattn" / "data" / "squares.py").write_text(FILE)
    registry = copy / "crossattn" / "data" / "sources.py"
    line = '    "squares": "crossattn.data.squares:SQUARES",\n'
    text = registry.read_text()
    registry.write_text(text.replace("SOURCES = {\n", f"SOURCES = {{\n{line}"))
    assert len(registry.read_text().splitlines()) == len(text.splitlines()) + 1
    program = """
from crossattn.train.run import Data, Model, Run
from crossattn.train.source import batches_of, load_dataset
run = Run(Data(source="squares", images=40, shades=5), Model(image_encoder="patch"), batch_size=10)
source = load_dataset(run)
print(batches_of(run, source.train, 0).batch(3).images.shape, source.pictures([0]).shape)
"""
    environment = {**os.environ, "PYTHONPATH": str(copy), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "(5, 16, 16, 3) (1, 16, 16, 3)\n", done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mypkg.mydata", r"has no 'mypkg\.mydata': choose one of .* Your own is MODULE:NAME"),
        ("mypkg.mydato:load", r"cannot import mypkg\.mydato \(ModuleNotFoundError: No module"),
        ("mypkg.mydata:lod", r"mypkg\.mydata has no lod; it has .*load"),
        ("mypkg.mydata:NOTHING", "expected a Source or a function load.*NOTHING is int 3"),
        ("mypkg.mydata:SquareData", "expected a Source or a function load"),
        ("mypkg.broken:load", r"cannot import mypkg\.broken \(ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_source_is_said_in_one_line(name, message, package):
    (package / "broken.py").write_text("1 / 0")
    for build in (lambda: Data(source=name), lambda: replace(Run(), {"data.source": name})):
        with pytest.raises(ValueError, match=f"data.source.*{message}") as caught:
            build()
        assert "\n" not in str(caught.value)


def test_settings_of_another_source_are_refused(package):
    with pytest.raises(ValueError, match=r"data\.noise is for source scenes, not for mypkg"):
        Data(source="mypkg.mydata:SQUARES", noise=0.2)
    with pytest.raises(ValueError, match=r"shades takes a whole number, got 0\.5"):
        replace(Run(), {"data.source": "mypkg.mydata:SQUARES", "data.shades": 0.5})
    with pytest.raises(ValueError, match="'oracle' is not for mypkg"):
        load_dataset(Run(data=Data(source="mypkg.mydata:SQUARES")))


CHANGES = [
    ("return 3", "returned a int, expected a Dataset"),
    ("return dataclasses.replace(made, main='test')", "it has no split 'test'; it has validation"),
    ("made.splits.pop('validation')", "it has no split 'validation'"),
    ("change('iid', images=part.images[:, :8])", "iid: .*make a grid of 1 x 2 .* has 2 x 2"),
    ("change('iid', images=part.images / 255)", r"iid: images are float64 .*reads pixels: uint8"),
    ("change('iid', coverage=part.coverage * 2)", "iid: coverage has values from 0 to 2"),
    ("change('iid', coverage=part.coverage * np.nan)", "iid: coverage has values from nan"),
    (
        "change('iid', tokens=part.tokens.astype(float))",
        "iid: tokens is float64, expected integers",
    ),
    ("change('iid', grounded=part.grounded * 1)", "iid: grounded is int64, expected bool"),
    ("change('iid', tokens=part.tokens + 9)", "tokens must lie in 0 to 6"),
    ("change('iid', tokens=part.tokens[:, :2])", "target has shape"),
    ("change('iid', vocabulary=(*part.vocabulary, 'more'))", "its vocabulary is not that of iid"),
    ("change('iid', chance={})", "iid: chance lacks 'place', whose rows have answers"),
    ("change('iid', answer=np.ones_like(part.answer))", "iid: an answer is no target"),
    ("change('iid', target=part.target | True)", "iid: a target is the first token or padding"),
    ("change('iid', image=part.image[:0])", "image has shape"),
    (
        "return dataclasses.replace(made, draw=lambda n: np.zeros((1, 8)))",
        "pictures are float64",
    ),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_what_it_returns_is_validated(change, message, package):
    changed = f"""
from mypkg.mydata import *

_load = load

def load(settings):
    made = _load(settings)
    def change(name, **fields):
        made.splits[name] = dataclasses.replace(made.splits[name], **fields)
    part = made.splits["iid"]
    {change}
    return made
"""
    (package / "changed.py").write_text(changed)
    run = Run(data=Data(source="mypkg.changed:load", images=20), model=Model(image_encoder="patch"))
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(run)
    assert "\n" not in str(caught.value)


def test_what_is_shown_without_functions_of_ones_own(package):
    dataset = load_source(Data(source="mypkg.mydata:load", images=20), "patch")
    examples, shown = dataset.splits["iid"], np.arange(3)
    np.testing.assert_array_equal(dataset.pictures(shown), examples.images[:3])
    inside = dataset.masks(shown).reshape(3, 2, 8, 2, 8).any((2, 4)).reshape(3, 4)
    np.testing.assert_array_equal(inside, examples.coverage[:3, 0] > 0)
    with pytest.raises(ValueError, match="do not fill one batch"):
        batches_of(Run(data=Data(source="mypkg.mydata:load")), dataset.train, 0)
