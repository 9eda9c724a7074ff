"""The page of a run shows its model's weights, knock-outs as evaluation has them, its own words."""

import base64
import dataclasses
import functools
import json
import re
import shutil
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.data.batches import Batch, gather
from crossattn.lab import explorers
from crossattn.lab.exploration import explore_folder, find_shown
from crossattn.lab.explorers import write_explorer, write_suite_explorer
from crossattn.lab.hidden_regions import CONDITIONS
from crossattn.lab.shown import shown_examples
from crossattn.train.checkpoint import Checkpoints
from crossattn.train.evaluate import Evaluator
from crossattn.train.exhibits import example_rows
from crossattn.train.folder import Folder
from crossattn.train.hidden_words import hidden_words
from crossattn.train.loop import TrainPrograms
from crossattn.train.record import RunRecord, library_versions, write_record
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import batches_of, load_dataset
from crossattn.train.step import forward
from crossattn.train.trained import UnusableRunError, load_trained, open_run
from experiments import explore

BASE = Run(
    data=Data(images=100, evaluation_images=100),
    model=Model(width=8, layers=2, heads=2),
    steps=5,
    batch_size=10,
)
VARIANTS = {
    "blind": {"model.context_view": "none"},
    "cross-attention": {},
    "resampler": {"model.connector": "perceiver_encode", "model.latents": 3},
}
EXAMPLES = 8


def save_run(folder, run, source, seed=0):
    """A run of which the newest checkpoint holds sharp attention, by parameters drawn at random."""
    write_record(folder, RunRecord("tiny", folder.parent.name, seed, run, library_versions()))
    if not run.model.attends:
        return  # is refused by its settings
    programs = TrainPrograms(run, len(source.vocabulary))
    state = programs.create(seed, batches_of(run, source.train, seed).batch(0))
    state = state._replace(params=jax.tree.map(lambda leaf: 4 * leaf, state.params))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(run.steps, state, {"epoch": 0, "batch": 0})


@pytest.fixture(scope="module")
def source():
    return load_dataset(BASE)


@pytest.fixture(scope="module")
def suite(tmp_path_factory, source):
    folder = tmp_path_factory.mktemp("suite")
    for variant, changes in VARIANTS.items():
        save_run(folder / "runs" / variant / "seed0", replace(BASE, changes), source)
    return folder


@pytest.fixture(scope="module")
def trained(suite, source):
    folders = {name: suite / "runs" / name / "seed0" for name in VARIANTS if name != "blind"}
    return {
        name: load_trained(folder, open_run(folder)[0], source) for name, folder in folders.items()
    }


@pytest.fixture(scope="module")
def evaluator(trained):
    return Evaluator(trained["cross-attention"].model)


@pytest.fixture(scope="module")
def rows(source):
    return example_rows(source.splits["iid"], EXAMPLES)


@pytest.fixture(scope="module")
def page(suite):
    return explore_folder(suite, "resampler", compare="cross-attention", examples=EXAMPLES)


def content(page):
    (found,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.html, re.S)
    return json.loads(found)


def weights_in(example):
    """(L, H, T, P), as the script of the page reads them."""
    L, H, T, P = example["shape"]
    unpacked = zlib.decompress(base64.b64decode(example["weights"]))
    levels = np.frombuffer(unpacked[: L * H * T * P], np.uint8).reshape(L, H, T, P)
    peaks = np.frombuffer(unpacked[L * H * T * P :], "<f4").reshape(L, H, T, 1)
    return levels / 255 * peaks


def weights_of(trained, examples, rows):
    """What the traces of the model say of some texts, (E, L, H, T-1, P)."""
    filled = np.resize(rows, EXAMPLES)
    batch = jax.tree.map(jnp.asarray, Batch(**gather(examples, filled)))
    seen = traced(trained.model, trained.params, batch)
    return np.asarray(seen).swapaxes(0, 1)[: len(rows)]


@functools.partial(jax.jit, static_argnums=0)
def traced(model, params, batch):
    observe = lambda seen: seen.trace.weights(through=seen.through)
    return forward(model, params, batch, observe=observe)[1]


def test_the_page_has_the_weights_of_every_layer_and_head(page, trained, source, rows):
    examples, runs = source.splits["iid"], content(page)["runs"]
    for run in runs:
        shown = [one for one in run["examples"] if not any(one["generated"])]
        assert len(shown) == EXAMPLES
        every = weights_of(trained[run["name"]], examples, rows)
        for row, one, weights in zip(rows, shown, every, strict=True):
            assert " ".join(one["words"]) == examples.words(row)
            expected = weights[:, :, : len(one["words"]) - 1]
            assert expected.max() > 0.1
            np.testing.assert_allclose(weights_in(one), expected, atol=1 / 255)
    assert [run["name"] for run in runs] == ["resampler", "cross-attention"]


def test_answers_without_a_region_are_those_of_evaluation(trained, source, rows, evaluator):
    examples, one = source.splits["iid"], trained["cross-attention"]
    shown = dict(zip(rows, texts(shown_examples(one, "iid", rows)), strict=True))
    hidden, compared = hidden_words(examples), 0
    for condition, label in CONDITIONS.items():
        visible = hidden.visible[condition]
        said = evaluator.predict(one.params, hidden.examples, visible, attention=False).words
        for at, row in enumerate(hidden.rows):
            if row in shown:
                (answer,) = (one for one in shown[row].answers if one.hidden == label)
                assert answer.word == examples.vocabulary[said[at, hidden.words[at]]]
                np.testing.assert_array_equal(answer.keys, ~visible[at])
                assert answer.position == hidden.words[at]
                compared += 1
    assert compared >= 2 * len(CONDITIONS)
    # An answer without a region, a number, is there with nothing hidden.
    assert {len(example.answers) for row, example in shown.items() if examples.answer[row]} == {
        1,
        3,
    }


def texts(shown):
    """The examples of the data, without what the model wrote."""
    return [example for example in shown if not any(example.generated)]


def test_captions_are_the_models_own_with_the_map_of_each_step(trained, source, evaluator):
    examples, one = source.splits["iid"], trained["cross-attention"]
    rows = np.flatnonzero(examples.kind == examples.kinds.index("caption"))[:2]
    chosen = examples.rows(rows)
    reference = evaluator.write(one.params, chosen)
    shown = shown_examples(one, "iid", rows)
    tokens = np.zeros_like(chosen.tokens)
    for at, written in enumerate(shown[1::2]):
        tokens[at, : len(written.words)] = [examples.vocabulary.index(w) for w in written.words]
    every = weights_of(one, dataclasses.replace(chosen, tokens=tokens), np.arange(len(rows)))
    for at, (told, written) in enumerate(zip(shown[::2], shown[1::2], strict=True)):
        assert " ".join(told.words) == examples.words(rows[at])
        assert not any(told.generated)
        # Evaluation writes as many words as the reference has.
        length = min(len(told.words), len(written.words))
        spelled = [examples.vocabulary[token] for token in reference[at, :length]]
        assert list(written.words[:length]) == spelled
        first = int(np.flatnonzero(chosen.target[at])[0])
        assert written.generated == (False,) * first + (True,) * (len(written.words) - first)
        expected = every[at][:, :, : len(written.words) - 1]
        np.testing.assert_allclose(written.weights, expected, atol=1e-3)


def test_true_regions_are_those_of_the_scene(trained, source, rows):
    examples = source.splits["iid"]
    shown = texts(shown_examples(trained["resampler"], "iid", rows))
    for row, example in zip(rows, shown, strict=True):
        image = examples.image[row : row + 1]
        assert (example.image == source.pictures(image)[0]).all()
        mask = source.masks(image)[0]
        there = examples.grounded[row].any()
        assert (example.regions is not None) == there
        for word, region in enumerate(example.regions if there else ()):
            objects = np.flatnonzero(examples.grounded[row, word])
            assert (region == np.isin(mask, objects + 1)).all()
            assert region.any() == bool(len(objects))


def test_examples_are_of_every_kind_and_of_a_fixed_seed(source):
    examples = source.splits["iid"]
    kinds = set(np.unique(examples.kind))
    rows = example_rows(examples, len(kinds))
    assert set(examples.kind[rows]) == kinds
    many = example_rows(examples, 2 * len(kinds))
    assert (many[: len(kinds)] == rows).all()
    assert np.bincount(examples.kind[many]).max() == 2
    assert len(example_rows(examples, 10**6)) == len(examples)


def test_examples_begin_with_a_known_region(source):
    """Also where few texts have one, and the first kind has none."""
    examples = source.splits["iid"]
    last = np.flatnonzero(examples.kind == examples.kind.max())[-1]
    known = np.arange(len(examples)) == last
    few = dataclasses.replace(examples, grounded=examples.grounded & known[:, None, None])
    assert few.grounded.any()
    assert example_rows(few, 3)[0] == last
    assert set(few.kind[example_rows(few, len(np.unique(few.kind)))]) == set(few.kind)
    none = dataclasses.replace(examples, grounded=np.zeros_like(examples.grounded))
    assert sorted(example_rows(none, 10**6)) == list(range(len(none)))


def test_another_split_is_shown_with_its_own_pictures(trained, source):
    part = source.splits["pairs"]
    rows = example_rows(part, 2)
    for row, example in zip(rows, shown_examples(trained["resampler"], "pairs", rows), strict=True):
        (picture,) = source.pictures(part.image[row : row + 1], "pairs")
        assert (example.image == picture).all()
        assert example.regions.any()


def test_the_first_variant_that_looks_at_patches_is_shown(suite):
    assert find_shown(suite) == (suite / "runs" / "cross-attention" / "seed0", None)
    record = suite / "runs" / "blind" / "seed0" / "run.json"
    assert find_shown(record) == (record.parent, None)
    checkpoint = suite / "runs" / "resampler" / "seed0" / "checkpoints" / "5"
    assert find_shown(checkpoint) == (checkpoint.parents[1], 5)


def test_a_report_has_the_page_of_the_first_variant_that_looks_at_patches(suite, source, tmp_path):
    folder, told = Folder(shutil.copytree(suite, tmp_path / "suite")), []
    order = ["blind", "resampler", "cross-attention"]
    assert write_suite_explorer(source, folder, order, told.append) == ""
    for variant in order[1:]:
        (folder.run(variant, 0) / "maps.npz").touch()
    assert write_suite_explorer(source, folder, order, told.append) == "resampler, seed 0"
    page = (folder.path / "explore.html").read_text()
    assert "tiny: resampler, seed 0, step 5" in page
    assert not told
    # A report does not fail for it.
    damage_checkpoint(folder.run("resampler", 0) / "checkpoints" / "5")
    assert write_suite_explorer(source, folder, order, told.append) == ""
    assert "no explore.html: CheckpointError: no checkpoint in" in told[-1]


def test_a_page_beside_a_report_is_small(trained, tmp_path, monkeypatch):
    assert write_explorer(tmp_path, trained["resampler"])
    whole = len((tmp_path / "explore.html").read_bytes())
    monkeypatch.setattr(explorers, "LARGEST", whole - 1)
    assert write_explorer(tmp_path, trained["resampler"])
    assert len((tmp_path / "explore.html").read_bytes()) < whole
    monkeypatch.setattr(explorers, "LARGEST", 1)
    assert not write_explorer(tmp_path, trained["resampler"])


def test_the_command_writes_the_page(suite, tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    arguments = ["--examples", "2", "--variant", "cross-attention", "--out"]
    explore.main([str(suite), *arguments, str(out)])
    assert capsys.readouterr().out == f"page: {out}\n"
    assert "tiny: cross-attention, seed 0, step 5" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["NOWHERE"], "there is no folder"),
        (["FILE"], "metrics.json is a file: give the folder of a run, or run.json"),
        (["SUITE", "--variant", "resampelr"], "has no variant 'resampelr': did you mean resampler"),
        (["SUITE", "--seed", "3"], "has no trained variant with seed 3 that sees patches"),
        (["SUITE", "--variant", "blind"], "blind looks at no single patches"),
        (["SUITE", "--compare", "blind"], "blind looks at no single patches"),
        (["SUITE", "--compare", "nothing"], "has no variant 'nothing'"),
        (["SUITE", "--split", "pars"], "--split pars is no split of this run's data: did you mean"),
        (["SUITE", "--examples", "0"], "--examples must be at least 1, got 0"),
        (["SUITE", "--out", "SUITE"], "is a folder: name a file in it"),
        (["UNTRAINED"], "has no checkpoint yet: train the run first"),
        (["DAMAGED"], "can be read (damaged: 5)"),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments, said, suite, tmp_path, capsys):
    whole = suite / "runs" / "resampler" / "seed0"
    places = {"NOWHERE": tmp_path / "no", "SUITE": suite, "FILE": tmp_path / "metrics.json"}
    places["FILE"].write_text("{}")
    for name in ("UNTRAINED", "DAMAGED"):
        if name in arguments:
            places[name] = tmp_path / name
            shutil.copytree(whole, places[name])
    if "UNTRAINED" in arguments:
        shutil.rmtree(places["UNTRAINED"] / "checkpoints")
    if "DAMAGED" in arguments:
        damage_checkpoint(places["DAMAGED"] / "checkpoints" / "5")
    with pytest.raises(SystemExit) as end:
        explore.main([str(places.get(word, word)) for word in arguments])
    shown = capsys.readouterr()
    assert (end.value.code, shown.out) == (2, "")
    assert said in shown.err
    assert shown.err.startswith("explore: ")
    assert shown.err.count("\n") == 1


def damage_checkpoint(folder):
    largest = max(folder.rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def test_the_same_run_of_two_folders_is_told_apart_by_the_folder(suite, tmp_path):
    run = "runs/cross-attention/seed0"
    longer = tmp_path / "longer"
    shutil.copytree(suite / run, longer / run)
    page = explore_folder(suite, "cross-attention", compare=longer / run, examples=1).html
    for folder in (suite, longer):
        assert f"tiny: cross-attention, seed 0, step 5 ({folder.name})" in page
    again = shutil.copytree(longer, tmp_path / "other" / "longer")
    page = explore_folder(longer / run, compare=again / run, examples=1).html
    for folder in (longer, again):
        assert f"tiny: cross-attention, seed 0, step 5 ({folder})" in page


def test_the_page_of_a_checkpoint_is_not_that_of_the_run(suite, tmp_path, capsys):
    run = shutil.copytree(suite / "runs" / "cross-attention" / "seed0", tmp_path / "seed0")
    explore.main([str(run / "checkpoints" / "5"), "--examples", "1"])
    assert capsys.readouterr().out == f"page: {run / 'explore-step5.html'}\n"
    assert not (run / "explore.html").exists()


def test_runs_on_other_data_are_not_shown_side_by_side(suite, tmp_path):
    other = shutil.copytree(suite / "runs" / "cross-attention" / "seed0", tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    record["run"]["data"]["seed"] = 1
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(UnusableRunError, match="other texts: runs side by side are of the same"):
        explore_folder(suite, "cross-attention", compare=other)
