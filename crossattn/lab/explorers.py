"""The page that stands beside a report: the words of one of its models."""

from collections.abc import Callable, Iterable
from pathlib import Path

import jax

from crossattn.lab.exploration import explore_trained
from crossattn.train.folder import Folder
from crossattn.train.record import read_record
from crossattn.train.source import Dataset
from crossattn.train.trained import TrainedRun, load_trained

FILE = "explore.html"
# Texts on it; fewer where it would be larger than this.
COUNTS, LARGEST = (8, 4, 2, 1), 2_000_000


def write_suite_explorer(
    source: Dataset, folder: Folder, variants: Iterable[str], notify: Callable[[str], None]
) -> str:
    """Write the page of the first variant that looks at patches, by its seed 0, beside a report.

    Returns:
      Whose words it shows; "" where there is no such page. Why is told where that is an error: a
      report does not fail for it.
    """
    if jax.process_count() > 1:
        return ""  # all processes would have to read the checkpoint
    for variant in variants:
        run = folder.run(variant, 0)
        if (run / "maps.npz").exists():
            try:
                trained = load_trained(run, read_record(run), source, notify=notify)
                return write_explorer(folder.path, trained)
            except Exception as error:
                notify(f"no {FILE}: {type(error).__name__}: {error}")
                return ""
    return ""


def write_explorer(folder: Path, trained: TrainedRun, split: str | None = None) -> str:
    """Write the page of a run into a folder.

    Returns:
      Whose words it shows; "" where even one text is too much for a page beside a report.
    """
    of = trained.record
    for count in COUNTS:
        page = explore_trained(trained, count, split=split)
        if len(page.html.encode()) <= LARGEST:
            page.save(folder / FILE)
            return f"{of.variant}, seed {of.seed}"
    return ""
