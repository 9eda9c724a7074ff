"""One run outside any suite: a folder that holds what the folder of a suite's run holds."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from crossattn.fields import flat
from crossattn.train import record
from crossattn.train.folder import Folder, FolderError
from crossattn.train.record import RunRecord, library_versions, read_record, write_record
from crossattn.train.run import Run
from crossattn.train.stale import Stale
from crossattn.train.suite import WITHOUT_EFFECT, Suite

# The names of the suite and of its variant where a run has neither.
NAME, VARIANT = "train", "model"


def suite_of(run: Run, primary: str = "main/accuracy") -> Suite:
    """The suite of one variant that a run by itself is, judged by one metric."""
    return Suite(NAME, "one model by itself", run, {VARIANT: {}}, VARIANT, primary)


@dataclasses.dataclass(frozen=True)
class RunFolder(Folder):
    """Where a run's results lie: `run.json`, `log.jsonl`, `checkpoints/`, `metrics.json`, ..."""

    seed: int = 0
    kind: ClassVar[str] = "run"

    def run(self, variant: str, seed: int) -> Path:
        """The folder itself, which has one run."""
        return self.path

    def claim(self, suite: Suite) -> None:
        """Make a checked folder this run's."""
        described = RunRecord(NAME, VARIANT, self.seed, suite.base, library_versions())
        write_record(self.path, described)

    def stale(self, suite: Suite) -> list[Stale]:
        """Nothing: a folder of another run is refused."""
        return []

    def _check_identity(self, suite: Suite) -> None:
        try:
            there = read_record(self.path)
        except record.RecordError as error:
            raise FolderError(f"{error}: choose another folder with --out") from None
        before, now = (
            {"seed": seed, **flat(dataclasses.asdict(run))}
            for seed, run in ((there.seed, there.run), (self.seed, suite.base))
        )
        differing = [
            f"{name} is {before.get(name)} there and {now.get(name)} here"
            for name in dict.fromkeys((*before, *now))
            if name not in WITHOUT_EFFECT and before.get(name) != now.get(name)
        ]
        if differing:
            raise FolderError(
                f"{self.path} holds a run with other settings ({'; '.join(differing)}): "
                "type the same options again, or choose another folder with --out"
            )

    @property
    def _identity(self) -> Path:
        return self.path / record.FILE
