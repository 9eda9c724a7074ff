"""A results folder keeps what still belongs to its suite, and says what does not."""

import dataclasses
import io
import json

import numpy as np
import pytest

from crossattn.fields import flat
from crossattn.files import SEAL, seal
from crossattn.train.folder import Folder, FolderError, pending
from crossattn.train.former import LATE_FIELDS
from crossattn.train.record import (
    RecordError,
    RunRecord,
    library_versions,
    read_record,
    write_record,
)
from crossattn.train.run import Data, Run, replace
from crossattn.train.stale import MEASURED
from crossattn.train.suite import Suite

SUITE = Suite(
    name="made",
    title="up",
    base=Run(data=Data(images=100, evaluation_images=100), steps=7),
    variants={"heads-4": {}, "heads-8": {"model.heads": 8}, "deep": {"model.layers": 3}},
    baseline="heads-4",
    primary="iid/accuracy",
)
SEEDS = 2


def finish(folder, suite, variant, seed):
    """What a finished run leaves, as far as anybody looks at it here."""
    where = folder.run(variant, seed)
    write_record(
        where, RunRecord(suite.name, variant, seed, suite.run(variant), library_versions())
    )
    (where / "checkpoints").mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{suite.primary: np.ones(3)})
    (where / "items.npz").write_bytes(buffer.getvalue())
    (where / "metrics.json").write_text(json.dumps({"metrics": {suite.primary: 1.0}}))
    seal(where, MEASURED)


@pytest.fixture
def folder(tmp_path):
    found = Folder(tmp_path / "out")
    found.path.mkdir()
    found.claim(SUITE)
    for variant in SUITE.variants:
        for seed in range(SEEDS):
            finish(found, SUITE, variant, seed)
    return found


def changed(**fields):
    return dataclasses.replace(SUITE, **fields)


def left(suite, folder):
    return dict(pending(suite, folder, SEEDS))


def test_a_run_of_the_release_before_is_run_again_and_read_by_nobody(folder):
    file = folder.run("deep", 1) / "run.json"
    former = file.read_text().replace('"optimizer"', '"optimiser"')
    file.write_text(former.replace('"format": 2', '"format": 1'))
    assert left(SUITE, folder) == {"deep": [1]}
    said = "deep has changed (run.json is of another version): its run is run again"
    assert folder.changes(SUITE) == [f"{said}; the former ones are kept in {folder.path / 'stale'}"]
    with pytest.raises(RecordError, match="has another format than this crossattn reads"):
        read_record(file.parent)


@pytest.mark.parametrize(
    "suite",
    [
        SUITE,
        changed(variants=dict(reversed(SUITE.variants.items()))),
        changed(baseline="deep", claims=(("deep", "heads-4"),), title="down", notes=("new",)),
        changed(base=replace(SUITE.base, {"checkpoint_every": 3}), learning_rates=(0.1,)),
        changed(quick={"steps": 3}),
    ],
)
def test_what_decides_no_number_makes_nothing_stale(suite, folder):
    folder.check(suite)
    assert folder.changes(suite) == []
    assert left(suite, folder) == {}


def test_a_folder_of_an_earlier_version_goes_on(folder):
    for sweep in (False, True):
        settings = {**dataclasses.asdict(SUITE.base), "sweep": sweep}
        identity = {"suite": "made", "fingerprint": "0123456789ab", "settings": settings}
        (folder.path / "suite.json").write_text(json.dumps(identity))
        folder.check(changed(sweep=sweep))
        assert folder.changes(changed(sweep=sweep)) == []
        with pytest.raises(FolderError, match=f"sweep is {sweep} there and {not sweep} here"):
            folder.check(changed(sweep=not sweep))


def test_an_added_variant_is_all_that_runs(folder):
    more = changed(variants={"wide": {"model.width": 128}, **SUITE.variants})
    folder.check(more)
    assert folder.changes(more) == []
    folder.claim(more)
    assert left(more, folder) == {"wide": [0, 1]}


def test_a_changed_variant_is_named_kept_aside_and_run_again(folder):
    new = changed(variants={**SUITE.variants, "heads-8": {"model.heads": 16, "steps": 9}})
    folder.check(new)
    (said,) = folder.changes(new)
    assert (
        "heads-8 has changed (model.heads 8 -> 16, steps 7 -> 9): its 2 runs are run again" in said
    )
    # A dry run asks before anything is moved.
    (said,) = folder.changes(new, dry=True)
    kept = f"the former ones would be kept in {folder.path / 'stale'}"
    assert said.endswith(f": its 2 runs would be run again; {kept}")
    assert left(new, folder) == {"heads-8": [0, 1]}
    assert folder.finished("heads-8", 0)
    folder.claim(new)
    assert left(new, folder) == {"heads-8": [0, 1]}
    assert not folder.run("heads-8", 0).exists()
    assert (folder.path / "stale" / "heads-8" / "1" / "seed1" / "metrics.json").exists()
    assert folder.changes(new) == []
    # And once more, one run of the new ones being there.
    finish(folder, new, "heads-8", 0)
    newer = changed(variants={**SUITE.variants, "heads-8": {"model.heads": 2}})
    assert "its run is run again" in folder.changes(newer)[0]
    folder.claim(newer)
    assert (folder.path / "stale" / "heads-8" / "2" / "seed0" / "metrics.json").exists()
    assert left(newer, folder) == {"heads-8": [0, 1]}


def test_a_removed_variant_stays_and_a_renamed_one_runs_again(folder):
    variants = {"heads-4": {}, "deep": {"model.layers": 3}, "eight": {"model.heads": 8}}
    new = changed(variants=variants)
    folder.check(new)
    (said,) = folder.changes(new)
    assert said == (
        "heads-8 is no variant of made now: its 2 runs stay and are not reported; eight has the "
        "same settings, and under its new name is run again"
    )
    folder.claim(new)
    assert left(new, folder) == {"eight": [0, 1]}
    # Back again, nothing was lost.
    assert left(SUITE, folder) == {}


def test_a_removed_variant_that_comes_back_changed_is_run_again(folder):
    folder.claim(changed(variants={"heads-4": {}}))
    back = changed(variants={**SUITE.variants, "deep": {"model.layers": 5}})
    assert left(back, folder) == {"deep": [0, 1]}


def test_what_all_variants_share_must_not_change(folder):
    with pytest.raises(FolderError, match=r"steps is 7 there and 9 here.*choose another"):
        folder.check(changed(base=replace(SUITE.base, {"steps": 9})))
    with pytest.raises(FolderError, match="sweep is False there and True here"):
        folder.check(changed(sweep=True))
    # Unless each variant says it for itself.
    own = {name: {"steps": 7, **changes} for name, changes in SUITE.variants.items()}
    same = changed(base=replace(SUITE.base, {"steps": 9}), variants=own)
    folder.check(same)
    assert folder.changes(same) == []


def test_another_primary_metric_is_measured_again(folder):
    new = changed(primary="pairs/accuracy")
    finish(folder, new, "deep", 1)  # measured by it already
    said = folder.changes(new)
    assert "heads-4 was not measured by pairs/accuracy: its 2 runs are measured again" in said[0]
    assert "deep was not measured by pairs/accuracy: its run is measured again" in said[2]
    folder.claim(new)
    assert left(new, folder) == {"heads-4": [0, 1], "heads-8": [0, 1], "deep": [0]}
    # From its checkpoint: all else stays where it is.
    assert {path.name for path in folder.run("deep", 0).iterdir()} == {
        *("run.json", "checkpoints", SEAL)
    }
    assert (folder.path / "stale" / "deep" / "1" / "seed0" / "metrics.json").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"run": 3}', None])
def test_a_run_that_does_not_say_what_it_is_is_not_believed(content, folder):
    path = folder.run("deep", 1) / "run.json"
    path.unlink() if content is None else path.write_bytes(content)
    assert "deep has changed (run.json cannot be read): its run is" in folder.changes(SUITE)[0]
    assert left(SUITE, folder) == {"deep": [1]}
    folder.claim(SUITE)
    finish(folder, SUITE, "deep", 1)
    assert folder.changes(SUITE) == []


def test_a_run_that_has_not_begun_is_nothing_to_keep(folder):
    new = changed(variants={**SUITE.variants, "wide": {"model.width": 32}})
    run = folder.run("wide", 0)
    run.mkdir(parents=True)
    (run / ".run.json.1234").write_text("half")
    (folder.path / "runs" / "wide" / "seed of mine").mkdir()
    assert folder.changes(new) == []
    # A kill left its settings alone, and they have changed since.
    write_record(run, RunRecord("made", "wide", 0, new.run("wide"), {}))
    newer = changed(variants={**SUITE.variants, "wide": {"model.width": 16}})
    folder.claim(newer)
    write_record(run, RunRecord("made", "wide", 0, newer.run("wide"), {}))
    assert folder.changes(newer) == []


def test_a_sweep_is_stale_with_its_variant(folder):
    swept = changed(sweep=True, name="swept")
    other = Folder(folder.path.parent / "swept")
    other.path.mkdir()
    other.claim(swept)
    record = RunRecord(
        "swept", "deep", 1, replace(swept.run("deep"), {"optimizer.learning_rate": 8e-3}), {}
    )
    write_record(other.path / "sweep" / "deep" / "rate0.008", record)
    (other.path / "sweep" / "deep" / "rate0.008" / "checkpoints").mkdir()
    assert other.changes(swept) == []
    new = dataclasses.replace(swept, variants={**SUITE.variants, "deep": {"model.layers": 4}})
    assert "deep has changed (model.layers 3 -> 4): its sweep is run again" in other.changes(new)[0]
    other.claim(new)
    assert (other.path / "stale" / "deep" / "1" / "sweep" / "rate0.008").is_dir()
    with pytest.raises(FolderError, match=r"learning_rates is \[.*\] there and \[0.1\] here"):
        other.check(dataclasses.replace(new, learning_rates=(0.1,)))


def without_late_fields(written, path=""):
    """Settings, nested or by path, without the fields that results of earlier versions have not."""
    late = {"loss", *flat(LATE_FIELDS)}
    within = lambda name, one: without_late_fields(one, f"{path}{name}.")
    return {
        name: within(name, one) if isinstance(one, dict) else one
        for name, one in written.items()
        if path + name not in late and not name.startswith("loss.")
    }


def test_results_that_are_older_than_a_field_still_belong(folder):
    for file in folder.path.rglob("*.json"):
        if part := {"run.json": "run", "suite.json": "settings"}.get(file.name):
            content = json.loads(file.read_text())
            content[part] = without_late_fields(content[part])
            assert not flat(content[part]).keys() & flat(LATE_FIELDS)
            file.write_text(json.dumps(content))
    folder.check(SUITE)
    assert left(SUITE, folder) == {}
    assert read_record(folder.run("deep", 1)).run == SUITE.run("deep")
    noisy = changed(base=replace(SUITE.base, {"data.mismatched": 0.5}))
    with pytest.raises(FolderError, match=r"data\.mismatched is 0\.0 there and 0\.5 here"):
        folder.check(noisy)
    variants = {**SUITE.variants, "deep": {"model.layers": 3, "pretrain_text_steps": 3}}
    assert left(changed(variants=variants), folder) == {"deep": [0, 1]}


def test_a_source_without_a_late_field_has_nothing_stale(tmp_path):
    suite = changed(base=Run(data=Data(source="tfds"), steps=7))
    assert not hasattr(suite.base.data, "mismatched")
    found = Folder(tmp_path / "out")
    found.path.mkdir()
    found.claim(suite)
    for seed in range(SEEDS):
        finish(found, suite, "deep", seed)
    found.check(suite)
    assert "deep" not in left(suite, found)
    assert read_record(found.run("deep", 1)).run == suite.run("deep")
