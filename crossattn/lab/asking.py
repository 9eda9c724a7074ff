"""From what a call names to a suite: names, paths, suites, or a dict of named changes."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from crossattn.data.sources import Data, find_source
from crossattn.fields import changes_between
from crossattn.lab import suites
from crossattn.lab.errors import LabError, as_lab_error
from crossattn.launch.devices import Devices
from crossattn.spelling import nearest
from crossattn.train.run import Run, replace
from crossattn.train.suite import Suite

SEEDS, QUICK_SEEDS = 5, 3
# The name of a suite that is a dict of changes.
NAME = "ablation"
# The suite that has come with crossattn for a source of data, where it has another name.
SUITE_ON = {"scenes": "fusion"}
# Steps of a quick run of a suite that has no quick form.
QUICK_STEPS = 100

Changes = Mapping[str, Any]
Named = str | Path | Suite | Mapping[str, Changes]


def suite_asked(
    named: Named,
    base: Changes | Run | None,
    data: dict[str, Any],
    *,
    baseline: str | None = None,
    primary: str | None = None,
    quick: bool = False,
) -> Suite:
    """The suite that a call means, with what it says of all variants.

    Raises:
      ValueError: there is no such suite, or a change cannot be.
    """
    if isinstance(named, Mapping):
        return _suite_of_changes(named, base, data, baseline, primary, quick)
    suite = named if isinstance(named, Suite) else suites.find(str(named))
    if baseline is not None:
        check_variants(suite, [baseline], suite.name)
        suite = dataclasses.replace(suite, baseline=baseline)
    shared = changes_between(suite.base, base) if isinstance(base, Run) else dict(base or {})
    check_unvaried(suite, [*shared, *data], suite.name, sweep=suite.sweep)
    run = _with_base(suite.base, base, data, suite.quick if quick else {})
    suite = dataclasses.replace(suite, base=run)
    return dataclasses.replace(suite, primary=primary, without_questions="") if primary else suite


def run_asked(changes: Changes | Run | None, data: dict[str, Any]) -> Run:
    """The run that a call means.

    Raises:
      ValueError: there is no such field, or values do not go together.
    """
    return _with_base(Run(), changes, data, {})


def _suite_of_changes(
    variants: Mapping[str, Changes],
    base: Changes | Run | None,
    data: dict[str, Any],
    baseline: str | None,
    primary: str | None,
    quick: bool,
) -> Suite:
    """A suite of named changes: the first is the baseline where none is named.

    All share the base of the suite that has come with crossattn for the same data, where there is
    one, and its quick form.
    """
    start = base if isinstance(base, Run) else Run()
    like = _suite_on(_source_of(data) or _source_of(base) or start.data.source)
    start = like.base if like and start is not base else start
    fewer = like.quick if like else {"steps": min(start.steps, QUICK_STEPS)}
    run = _with_base(start, base, data, fewer if quick else {})
    if not variants:
        raise LabError("the dict of variants is empty: name at least the baseline")
    first = next(iter(variants)) if baseline is None else baseline
    others = ", ".join(str(one) for one in variants if one != first)
    title = f"{others} beside {first}" if others else f"{first} alone"
    judged = primary or (like.primary if like else "main/accuracy")
    named: dict[str, Any] = dict(variants)
    captions = "" if primary or not like else like.without_questions
    return Suite(NAME, title, run, named, first, judged, without_questions=captions)


def _suite_on(source: str) -> Suite | None:
    """The suite that came with crossattn for a source of data; None where there is none."""
    name = SUITE_ON.get(source, source)
    return suites.find_shipped(name) if name in suites.shipped_names() else None


def _source_of(changes: Any) -> str | None:
    """The source of data that changes name."""
    if not isinstance(changes, Mapping):
        return None
    data = changes.get("data")
    return data.source if isinstance(data, Data) else changes.get("data.source")


def _with_base(start: Run, base: Changes | Run | None, data: dict[str, Any], fewer: Changes) -> Run:
    """A run with what a call says of all variants, which a quick form does not undo."""
    start = base if isinstance(base, Run) else start
    changes = {} if isinstance(base, Run) else dict(base or {})
    if twice := sorted(changes.keys() & data.keys()):
        raise LabError(f"{', '.join(twice)} is in base and in data: leave one of them out")
    changes |= data
    run = replace(start, fewer)
    return replace(run, {**_fitting_encoder(run, changes), **changes})


def _fitting_encoder(run: Run, changes: Changes) -> dict[str, Any]:
    """An encoder that reads the images of another source, where the changes choose none."""
    source = _source_of(changes)
    if source is None or any(name in changes for name in ("model", "model.image_encoder")):
        return {}
    readers = find_source(str(source)).image_encoders
    return (
        {} if run.model.image_encoder in readers else {"model.image_encoder": next(iter(readers))}
    )


def data_changes(data: str | Path | Changes | Data | None) -> dict[str, Any]:
    """Changes of a run by which it learns from other data.

    Example:
      >>> data_changes("easy_vqa"), data_changes({"images": 200})
      ({'data.source': 'easy_vqa'}, {'data.images': 200})
    """
    if data is None:
        return {}
    if isinstance(data, Data):
        return {"data": data}
    if isinstance(data, str):
        return {"data.source": data}
    if not isinstance(data, Mapping):
        raise LabError(f"data takes the name of a source, or a dict of its settings, got {data!r}")
    for name in data:
        if (short := str(name).removeprefix("data.")) != str(name):
            raise LabError(f"data takes {short!r} without data. in front, got {name!r}")
    return {f"data.{name}": value for name, value in data.items()}


def check_variants(suite: Suite, names: Collection[str], called: str) -> None:
    """Make sure that a suite has some variants.

    Raises:
      LabError: it has not.
    """
    for name in names:
        if name not in suite.variants:
            meant = nearest(name, suite.variants)
            raise LabError(f"{called} has no variant {name!r}: {meant}")


def check_unvaried(suite: Suite, fields: Collection[str], called: str, *, sweep: bool) -> None:
    """Make sure that what all variants share is nothing that they differ in.

    Raises:
      LabError: it is.
    """
    for field in fields:
        if any(_decides(variant, field) for variant in suite.variants.values()):
            option = field.replace("_", "-")
            raise LabError(f"--{option} is what the suite {called} varies: leave it out")
    if sweep and "optimizer.learning_rate" in fields:
        raise LabError("--optimizer.learning-rate is what --sweep chooses: leave one of them out")


def _decides(changes: Changes, field: str) -> bool:
    """Whether changes of a variant set a field, a part of it, or what it is a part of."""
    paths = [*changes, *["model.block"] * ("model.preset" in changes)]
    pairs = ((f"{one}.", f"{field}.") for one in paths)
    return any(a.startswith(b) or b.startswith(a) for a, b in pairs)


def devices_of(devices: str | Changes | Devices | None) -> Devices:
    """How runs lie over the devices: a mesh like "data=4", or options of the command by name.

    Raises:
      LabError: there is no such option.

    Example:
      >>> devices_of("seed=4").mesh, devices_of({"accumulate": 2}).accumulate
      ('seed=4', 2)
    """
    if isinstance(devices, Devices):
        return devices
    if devices is None or isinstance(devices, str):
        return Devices(mesh=devices)
    known = [field.name for field in dataclasses.fields(Devices)]
    for name in devices:
        if name not in known:
            raise LabError(f"devices has no {name!r}: {nearest(name, known)}")
    with as_lab_error():
        return Devices(**devices)
