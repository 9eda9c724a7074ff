"""Every statement of Methods is one about the variants as they ran."""

import dataclasses
import json
import re

import numpy as np
import pytest

from crossattn.fields import flat
from crossattn.launch.results import asked, write_results
from crossattn.nn.config import BlockConfig, MLPConfig
from crossattn.report.document import write_report
from crossattn.report.methods import methods_section
from crossattn.report.results.settings import ALL_WHEN_EMPTY, changes_table, shared_table
from crossattn.train.finished import Finished
from crossattn.train.folder import Folder, FolderError
from crossattn.train.run import Data, Model, Optimizer, Run, replace
from crossattn.train.suite import Suite
from tests.support.made_up import BASELINE, PRIMARY, make_results

BASE = Run(
    data=Data(images=700, evaluation_images=1_300, texts_per_image=2, noise=0.31),
    model=Model(width=48, layers=3, heads=6, block=BlockConfig(mlp=MLPConfig(expansion=5.0))),
    optimizer=Optimizer(learning_rate=4e-3, warmup=0.17, weight_decay=0.023, clip=1.9),
    steps=811,
    batch_size=34,
)
SUITE = Suite(
    name="mixed",
    title="what differs is said",
    base=BASE,
    variants={
        "base": {},
        "lr": {"optimizer.learning_rate": 1e-3, "optimizer.weight_decay": 0.5},
        "heads": {"model.heads": 8},
        "depth": {"model.layers": 1, "steps": 1_622, "batch_size": 68},
        "blind": {"model.context_view": "none"},
    },
    baseline="base",
    primary="iid/accuracy",
    claims=(("base", "depth"),),
    quick={},
)
COUNTS = {
    "images": {"iid": 23, "pairs": 7},
    "items": {"iid/accuracy": 19, "iid/accuracy/colour": 12, "iid/accuracy/shape": 8},
    "training_images": 613,
}


def made(folder, *, sweep=None, suite=SUITE, devices=("cpu",), there=None):
    """Results of a real suite, written as the command writes them; all numbers are made up."""
    rng = np.random.default_rng(0)
    items = {name: rng.random((3, 19)) for name in suite.variants}
    runs = [
        {"variant": name, "seed": seed, "metrics": {"iid/accuracy": float(own[seed].mean())}}
        for name, own in items.items()
        for seed in range(3)
        if there is None or (name, seed) in there
    ]
    items = {name: own[: sum(r["variant"] == name for r in runs)] for name, own in items.items()}
    finished = Finished(
        runs=runs,
        chance={"iid/accuracy": 0.291},
        items={name: own for name, own in items.items() if len(own)},
        curves={},
        timings={"base": {"parameters": 1_201, "step_seconds": 0.0141}},
        sweep=sweep or {},
        versions=[{"jax": "0.97.5"}],
        processors=["Made-up 3"],
        devices=list(devices),
        counts=COUNTS,
    )
    folder.mkdir(exist_ok=True)
    wanted = asked(SUITE, suite, seeds=3, quick=False)
    return write_results(suite, Folder(folder), finished, "2 x cpu", "one at a time", wanted)


def numbers(text):
    return [float(x.replace(",", "")) for x in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def test_every_number_of_a_variant_is_its_own(tmp_path):
    """All numbers of Methods, read back: none is one that no variant had."""
    model, evaluation, hardware = methods_section(made(tmp_path / "out"))
    assert "1 layer (depth) and 3 layers (all other variants) of width 48" in model
    assert "8 attention heads (heads) and with 6 attention heads (all other variants)" in model
    assert "for 1,622 steps (depth) and 811 steps (all other variants)" in model
    assert "batches of 68 texts (depth) and 34 texts (all other variants)" in model
    assert "rate is 0.001 (lr) and 0.004 (all other variants)" in model
    assert "weight decay 0.5 (lr) and 0.023 (all other variants)" in model
    assert "The variants do not all see the same examples" in model
    assert numbers(model) == [
        *(5, 1_201),
        *(1, 3, 48, 8, 6, 5, 0.31),
        *(3, 1_622, 811, 68, 34, 613, 2),
        *(0.5, 0.023, 17, 1.9, 0.001, 0.004),
    ]
    assert numbers(evaluation) == [
        *(23, 19, 12, 8, 7, 19, 0.291),
        *(4_000, 4, 0.05, 95, 0, 1, 1, 1),
    ]
    assert "2 x cpu on Made-up 3, in 20" in hardware
    assert "14.1 ms (base). Software: jax 0.97.5." in hardware


def test_a_sweep_gives_each_variant_its_rate(tmp_path):
    sweep = {name: {"learning_rate": 0.01 * (i + 1)} for i, name in enumerate(SUITE.variants)}
    results = made(tmp_path / "out", sweep=sweep)
    rates = {n: own["optimizer"]["learning_rate"] for n, own in results["settings"].items()}
    assert rates == {name: found["learning_rate"] for name, found in sweep.items()}
    (model, *_) = methods_section(results)
    assert "0.01 (base), 0.02 (lr), 0.03 (heads), 0.04 (depth) and 0.05 (blind)" in model
    assert "0.004" not in model


def test_a_table_says_what_each_variant_changes(tmp_path, undrawn):
    results = json.loads(json.dumps(made(tmp_path / "out")))
    header, rows = changes_table(results)
    assert header == ["variant", "what it changes"]
    assert dict(rows) == {
        "base": "nothing: it is the base",
        "lr": "optimizer.learning_rate = 0.001 (base: 0.004); "
        "optimizer.weight_decay = 0.5 (base: 0.023)",
        "heads": "model.heads = 8 (base: 6)",
        "depth": "model.layers = 1 (base: 3); steps = 1622 (base: 811); batch_size = 68 (base: 34)",
        "blind": "model.context_view = none (base: tokens)",
    }
    text = write_report(results, tmp_path, title="x", command="make").read_text()
    for row in rows:
        assert f"| {row[0]} | {row[1]} |" in text
    for kind in ("csv", "tex"):
        assert "what it changes" in (tmp_path / "tables" / f"changes.{kind}").read_text()
    assert "heads" in (tmp_path / "report.html").read_text().split("what it changes")[1]
    meanings = results["meanings"]
    assert set(meanings) == {field for own in SUITE.variants.values() for field in own}
    told = text.split("What the settings are")[1].split("## ")[0]
    assert all(f"| {field} | {meaning} |" in told for field, meaning in meanings.items())
    assert meanings["model.heads"] == "H, heads of each attention."
    assert "Numbers of loss are weights" not in told
    # What differs is not among what is shared, and what the base says of it stands nowhere.
    shared = (tmp_path / "tables" / "settings.csv").read_text()
    assert "model.width,48\n" in shared
    assert "learning_rate" not in shared
    assert '"learning_rate"' not in text
    assert "1,300" not in text


def test_variants_that_share_their_data_are_said_to(suite):
    model = methods_section(suite[0])[0]
    assert "all variants see the same examples in the same order" in model
    other = {**suite[0], "settings": {**suite[0]["settings"]}}
    changed = {**other["settings"][BASELINE], "steps": 7}
    other["settings"] = {**other["settings"], BASELINE: changed}
    assert "same order" not in methods_section(other)[0]


def test_results_without_settings_say_nothing_of_them(suite):
    older = {name: x for name, x in suite[0].items() if name not in ("settings", "counts", "asked")}
    text = " ".join(methods_section(older))
    for words in ("learning rate", "layers", "heads", "evaluation splits", "steps", "images"):
        assert words not in text


def test_a_report_of_some_variants_has_their_settings(tmp_path):
    results = made(tmp_path / "out", suite=SUITE.only(["heads"]))
    assert set(results["settings"]) == {"base", "heads"}
    assert results["asked"]["suite"] == list(SUITE.variants)
    text = " ".join(methods_section(results))
    assert "They differ in model.heads and share" in text
    assert "0.004 for all variants" in text


def test_what_earlier_commands_ran_on_is_said(tmp_path):
    """The last command may have run nothing at all."""
    results = made(tmp_path / "out", devices=["NVIDIA H200"])
    assert methods_section(results)[2].startswith("All runs used NVIDIA H200 on Made-up 3, in 20")


def test_chance_is_defined_where_it_stands(suite):
    evaluation = methods_section(suite[0])[1]
    assert "predictor that reads only the text and has learnt the answers" in evaluation
    assert "reaches 0.000. (Its level is 0 because" in evaluation
    assert PRIMARY in evaluation


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_have_no_test(seeds):
    text = " ".join(methods_section(make_results(seeds=seeds)[0]))
    assert "no differences were tested and no intervals computed" in text
    assert "Student" not in text


def test_what_is_not_the_default_of_training_is_said(tmp_path):
    changes = {"optimizer.name": "lion", "optimizer.ema": 0.99, "optimizer.schedule": "rsqrt"}
    changes |= {"label_smoothing": 0.1, "optimizer.frozen": "words"}
    base = replace(BASE, changes | {"pretrain_text_steps": 1, "data.mismatched": 0.25})
    text = methods_section(made(tmp_path, suite=dataclasses.replace(SUITE, base=base)))
    said = " ".join(str(text).split())
    for part in (
        "We use Lion with weight decay",
        "and a decay by the square root of the step, and clip",
        "Labels are smoothed by 0.1.",
        "moving average of the parameters, of decay 0.99",
        "of these paths are not trained: words.",
        "without an image, and train all of the text: 1; then the optimizer and its schedule begin",
        "gives way to another image of the batch: 0.25.",
    ):
        assert part in said


CLAIMS = (("base", "depth"), ("base", "heads"))


@pytest.mark.parametrize(
    ("there", "compared", "claims"),
    [
        ([("lr", 0)], [], "2 open"),
        ([("base", 0), ("base", 1)], [], "2 open"),
        ([*(("base", seed) for seed in range(3)), ("depth", 0)], [], "2 open"),
        (
            [(name, seed) for name in ("base", "depth") for seed in range(3)],
            ["depth"],
            "1 inconclusive, 1 open",
        ),
    ],
)
def test_a_report_may_come_early(there, compared, claims, tmp_path, undrawn):
    """Of the variants and seeds that are there; a claim is open until all of its runs are."""
    suite = dataclasses.replace(SUITE, claims=CLAIMS)
    results = json.loads(json.dumps(made(tmp_path, suite=suite, there=there)))
    assert [found["variant"] for found in results["comparisons"]] == compared
    report = write_report(results, tmp_path, title="x", claims=CLAIMS, command="make").read_text()
    assert f"\n\n{len(there)} of 15 runs finished; primary metric" in report
    assert f"UNFINISHED: {15 - len(there)} of 15 runs are missing" in report
    assert f"before it ran: {claims}, which concludes nothing." in report
    assert "| base > heads | open | - | - |" in report
    assert ("| base > depth | open |" in report) == (not compared)
    assert "is better than" not in report


def test_a_measure_that_only_some_seeds_have_is_said(tmp_path):
    """It was registered while the suite was half done: the seeds would no longer be paired."""
    runs = [
        {"variant": "base", "seed": 0, "metrics": {"iid/accuracy": 0.5, "iid/open": 0.5}},
        {"variant": "base", "seed": 1, "metrics": {"iid/accuracy": 0.5}},
    ]
    finished = Finished(runs, {}, {}, {}, {}, {}, [])
    wanted = asked(SUITE, SUITE, seeds=2, quick=False)
    with pytest.raises(FolderError, match=r"base have iid/open: .*remove .*seed1.metrics\.json, "):
        write_results(SUITE, Folder(tmp_path), finished, "cpu", "-", wanted)


def test_an_empty_list_that_chooses_nothing_is_said_to_choose_all(tmp_path):
    fields = flat(dataclasses.asdict(Run()))
    assert [fields[name] for name in ALL_WHEN_EMPTY] == [()] * len(ALL_WHEN_EMPTY)
    one = {"loss.attention": 1.0, "loss.attention_layers": (0, 2)}
    suite = dataclasses.replace(SUITE, variants={"base": {}, "one": one}, claims=())
    results = made(tmp_path, suite=suite)
    assert "loss.attention_layers = 0 2 (base: all)" in dict(changes_table(results)[1])["one"]
    shared = dict(shared_table(results)[1])
    assert (shared["loss.attention_heads"], shared["data.curriculum_words"]) == ("all", "none")


def test_what_follows_from_a_change_is_not_said(tmp_path):
    """A preset changes all of a block; what the suite varies is the preset."""
    results = made(tmp_path)
    for field in ("layers", "width"):
        results["settings"]["heads"]["model"][field] = 7  # as if it followed from heads
    assert dict(changes_table(results)[1])["heads"] == "model.heads = 8 (base: 6)"
    text = " ".join(methods_section(results))
    assert "optimizer.weight_decay" in text.split("They differ in ")[1].split(" and share")[0]
    assert "model.width" not in text
    assert "model.width" not in dict(shared_table(results)[1])
