"""The learning rate that does best on validation data, chosen once and kept in a file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from crossattn.files import damage
from crossattn.train.loop import NonFiniteLossError
from crossattn.train.multihost import barrier, broadcast
from crossattn.train.outcome import seal_files, write_json
from crossattn.train.texts import best_rate

FILE = "chosen.json"


def chosen_rate(
    folder: Path,
    rates: Sequence[float],
    score: Callable[[float], tuple[str, float]],
    notify: Callable[[str], None],
) -> float:
    """The best of the learning rates; read back where it has been chosen before.

    Args:
      folder: of this sweep alone.
      rates: to choose from.
      score: of a learning rate what it is judged by, see `best_rate`, and its value; its run leaves
        the folder there.
      notify: called with what a user should know.

    Raises:
      NonFiniteLossError: no learning rate keeps the loss finite.
    """
    file = folder / FILE
    broken = damage(folder, [FILE])
    if broken and file.exists():
        notify(f"{folder}: {broken}: choosing the learning rate again")
    if broadcast([bool(broken)])[0]:
        by, scores = _scores(folder, rates, score)
        finite = {rate: value for rate, value in scores.items() if value is not None}
        record = {
            "learning_rate": best_rate(finite, by),
            f"validation_{by}": {f"{rate:g}": value for rate, value in scores.items()},
        }
        write_json(file, record)
        seal_files(folder, FILE)
        barrier(f"rate of {folder.name}")
    return json.loads(file.read_text())["learning_rate"]


def _scores(
    folder: Path, rates: Sequence[float], score: Callable[[float], tuple[str, float]]
) -> tuple[str, dict[float, float | None]]:
    """What the rates are judged by, and each value: None where the loss does not stay finite."""
    by, scores = "", dict[float, float | None]()
    for rate in rates:
        try:
            by, scores[rate] = score(rate)
        except NonFiniteLossError:
            scores[rate] = None
    if not by:
        raise NonFiniteLossError(f"{folder.name}: no learning rate of the sweep stays finite")
    return by, scores
