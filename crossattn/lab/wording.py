"""A call in words: as one writes it, and where it stands when it is interrupted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossattn.lab.request import Request
from crossattn.train import run_folder
from crossattn.train.folder import pending
from crossattn.train.run_folder import RunFolder
from crossattn.train.suite import Suite


def written(function: str, given: Mapping[str, Any]) -> str:
    """A call as one writes it, without what is not given.

    Example:
      >>> written("ablate", {"suite": "fusion", "data": None, "quick": True, "loggers": ()})
      "lab.ablate('fusion', quick=True)"
    """
    (_, first), *others = given.items()
    shown = [] if first is None else [_shown(first)]
    shown += [f"{name}={_shown(x)}" for name, x in others if x and name != "loggers"]
    return f"lab.{function}({', '.join(shown)})"


def _shown(value: Any) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    return f"<suite {value.name}>" if isinstance(value, Suite) else repr(value)


def standing(request: Request | None) -> str:
    """What is safe after an interruption, and how to go on, in one line."""
    if request is None:
        return "interrupted; nothing was begun"
    if isinstance(request.folder, RunFolder):
        step = request.folder.checkpoint(run_folder.VARIANT, request.folder.seed)
        at = (
            "there is no checkpoint yet"
            if step is None
            else f"its checkpoint of step {step} is safe"
        )
        return f"interrupted; {at}, the same call goes on"
    suite, seeds = request.suite, request.seeds
    every = len(suite.variants) * seeds
    done = every - sum(len(left) for _, left in pending(suite, request.folder, seeds))
    return (
        f"interrupted; {done} of {every} runs are finished and checkpoints of others are safe, "
        "the same call goes on"
    )
