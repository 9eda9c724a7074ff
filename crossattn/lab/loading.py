"""The data of a suite, and its programs of the last time."""

import dataclasses
from pathlib import Path

import jax

from crossattn.lab.errors import as_lab_error
from crossattn.train.primary import check_source, fit_to_data, learned_by, measurable
from crossattn.train.source import Dataset, load_dataset
from crossattn.train.suite import Suite

CACHE = Path.home() / ".cache" / "crossattn" / "compiled"


def keep_programs() -> None:
    """Compiled programs are found again by the next command, or call."""
    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def load_checked(suite: Suite) -> Dataset:
    """The data of a suite, by which it can be judged.

    Raises:
      LabError: the data are not what it needs.
    """
    with as_lab_error():
        source = load_dataset(suite.base)
        check_source(suite, source)
    return source


def load_judged(suite: Suite) -> tuple[Suite, Dataset]:
    """The data, and the suite with a primary metric that they have: its own, if it is one.

    Raises:
      LabError: nothing of the data can be measured.
    """
    with as_lab_error():
        source = load_dataset(suite.base)
        learned = learned_by(suite)
        known = measurable(source.splits, source.main, **learned)
        metrics = ("accuracy", "perplexity") if learned["words"] else ("text_to_image_r1",)
        wanted = [f"{source.main}/{metric}" for metric in metrics]
        own = fit_to_data(suite, source).primary
        found = [name for name in (own, *wanted) if name in known]
        suite = dataclasses.replace(suite, primary=(found or wanted)[0])
        check_source(suite, source)
    return suite, source
