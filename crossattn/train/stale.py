"""What in a results folder no longer belongs to a suite that has changed since it ran.

Every run says in its run.json what it was made with. A run of a variant that has changed is stale:
it is moved to `stale/VARIANT/N/`, never deleted, and run again. Where only the primary metric has
changed, what was measured is moved, and measured again from the checkpoint.
"""

import dataclasses
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from crossattn.fields import flat
from crossattn.files import contents
from crossattn.train import record
from crossattn.train.former import with_late_fields
from crossattn.train.suite import FINGERPRINT, WITHOUT_EFFECT, Suite

# What a finished run has in any case, beside the checksums, which are written last.
MEASURED = ("metrics.json", "items.npz")
# Settings of a suite and of none of its runs.
SHARED = ("sweep", "learning_rates")


@dataclasses.dataclass(frozen=True)
class Stale:
    """What is to be set aside of a variant.

    Attributes:
      variant: of the suite.
      why: what has changed, for people.
      places: folders of runs, and the one of the sweep, that were made with other settings.
      measured: folders of runs of which only the primary metric was not measured.
    """

    variant: str
    why: str
    places: tuple[Path, ...] = ()
    measured: tuple[Path, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """The seeds that are to be run, or measured, again."""
        runs = (*self.places, *self.measured)
        return [int(run.name.removeprefix("seed")) for run in runs if run.parent.name != "sweep"]

    def described(self, *, dry: bool) -> str:
        """What is done, or in a dry run what would be done."""
        count = len(self.seeds)
        runs = {0: "its sweep", 1: "its run"}.get(count, f"its {count} runs")
        be = "would be" if dry else "is" if count < 2 else "are"
        then = "run" if self.places else "measured"
        return f"{self.variant} {self.why}: {runs} {be} {then} again"

    def set_aside(self, folder: Path) -> Path:
        """Move it to where nothing looks for it."""
        former = folder / "stale" / self.variant
        taken = (int(one.name) for one in former.glob("*") if one.name.isdigit())
        number = 1 + max(taken, default=0)
        where = former / str(number)
        where.mkdir(parents=True)
        for place in self.places:
            place.rename(where / ("sweep" if place.parent.name == "sweep" else place.name))
        for run in self.measured:
            (where / run.name).mkdir()
            for name in MEASURED:
                if (run / name).exists():
                    (run / name).rename(where / run.name / name)
        return where


def find_stale(folder: Path, suite: Suite) -> Iterator[Stale]:
    """What is stale, variant by variant; reads only."""
    for variant in suite.variants:
        wanted = suite.settings(variant)
        runs = _runs(folder / "runs" / variant)
        told = {run: _differences(run, wanted) for run in runs}
        places = [run for run, said in told.items() if said]
        rates = sorted((folder / "sweep" / variant).glob("rate*"))
        if swept := next(filter(None, (_differences(rate, wanted) for rate in rates)), ""):
            told[rates[0].parent] = swept
            places.append(rates[0].parent)
        if places:
            yield Stale(variant, f"has changed ({told[places[0]]})", places=tuple(places))
        named = {suite.primary, suite.without_questions} - {""}
        unmeasured = [run for run in runs if not told[run] and _lacks(run, named)]
        if unmeasured:
            why = f"was not measured by {suite.primary}"
            yield Stale(variant, why, measured=tuple(unmeasured))


def left_over(folder: Path, suite: Suite, *, dry: bool) -> Iterator[str]:
    """What is said of runs of which the suite has no variant; they stay."""
    be = "would be" if dry else "is"
    for place in sorted((folder / "runs").glob("*")):
        runs = [run for run in _runs(place) if (run / record.FILE).exists()]
        if place.name in suite.variants or not runs:
            continue
        said = f"{place.name} is no variant of {suite.name} now: "
        several = f"its {len(runs)} runs stay and are not reported"
        said += several if len(runs) > 1 else "its run stays and is not reported"
        new = [name for name in suite.variants if not _differences(runs[0], suite.settings(name))]
        if new:
            said += f"; {new[0]} has the same settings, and under its new name {be} run again"
        yield said


def _runs(variant: Path) -> list[Path]:
    """Folders of the runs of a variant."""
    found = [run for run in variant.glob("seed*") if run.name.removeprefix("seed").isdigit()]
    return sorted(run for run in found if run.is_dir())


def _differences(run: Path, wanted: dict[str, Any]) -> str:
    """In which settings a run differs, for people; empty where it does not, or has not begun."""
    try:
        content = json.loads(contents(run / record.FILE))
        there, format = with_late_fields(flat(content["run"])), content["format"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        begun = any((run / name).exists() for name in ("checkpoints", *MEASURED))
        return f"{record.FILE} cannot be read" if begun else ""
    if format != record.FORMAT:
        return f"{record.FILE} is of another version"
    missing = object()
    wanted = with_late_fields(wanted)
    swept = () if "optimizer.learning_rate" in wanted else ("optimizer.learning_rate",)
    names = dict.fromkeys((*wanted, *there))
    # Whoever has not read the data yet does not know it.
    unread = () if FINGERPRINT in wanted else (FINGERPRINT,)
    for ignored in (*SHARED, *WITHOUT_EFFECT, *swept, *unread):
        names.pop(ignored, None)
    changed = [name for name in names if there.get(name, missing) != wanted.get(name, missing)]
    return ", ".join(f"{name} {there.get(name)} -> {wanted.get(name)}" for name in changed)


def _lacks(run: Path, named: Iterable[str]) -> bool:
    """Whether a run was measured, but item by item on none of the metrics that may be primary."""
    try:
        with zipfile.ZipFile(run / "items.npz") as items:
            return not any(f"{primary}.npy" in items.namelist() for primary in named)
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile):
        return False  # what is damaged is not finished, whatever the metric
