"""What a checkpoint holds beside its arrays, and whether what was read is what was written."""

import contextlib
import gc
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from crossattn.train.digest import digest, name_of
from crossattn.train.step import State

Metrics = dict[str, float]
WITHOUT_DIGEST = (
    "the checkpoint of step {step} is of an older version and has no digest: taken as it is"
)


class Restored(NamedTuple):
    """What a checkpoint held.

    Attributes:
      step: number of finished steps.
      state: after them.
      position: where the data stood.
      unlogged: metrics of the last steps, which no line of the log holds yet.
      damaged: steps of newer checkpoints that cannot be read, or are not what was written.
      checked: whether the digest was compared; what older versions wrote has none.
    """

    step: int
    state: State
    position: dict[str, int]
    unlogged: list[Metrics]
    damaged: tuple[int, ...]
    checked: bool


def describe_content(step: int, stands: dict[str, Any]) -> str:
    """What a digest stands for beside the arrays."""
    return json.dumps([step, stands["position"], stands["unlogged"]], sort_keys=True)


def whole_content(
    step: int, state: State, stands: Any, damaged: tuple[int, ...]
) -> Restored | None:
    """What was read, where it is what was written; else None.

    Checkpoints from before there were digests hold the bare position, numbers alone, which no
    flipped bit makes of one with a digest. They are taken: hours of training are worth more than
    the small chance of a flipped bit, and who restores says so.
    """
    if not isinstance(stands, dict):
        return None
    if all(type(value) is int for value in stands.values()):
        return Restored(step, state, stands, [], damaged, checked=False)
    if set(stands) != {"position", "unlogged", "digest"}:
        return None
    if digest(state, describe_content(step, stands)) != stands["digest"]:
        return None
    return Restored(step, state, stands["position"], stands["unlogged"], damaged, checked=True)


def named_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by names, which are the same for a tree and for what Orbax says of a saved one."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {name_of(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}


@contextlib.contextmanager
def quiet_reading() -> Iterator[None]:
    """Keep to ourselves what coroutines print that a failed read leaves behind."""
    hook = sys.unraisablehook
    # Ctrl-C may meet the collection of garbage, too: that is told.
    dropped = lambda found: issubclass(found.exc_type, KeyboardInterrupt)
    sys.unraisablehook = lambda found: hook(found) if dropped(found) else None
    try:
        yield
    except Exception as error:
        # Their frames must be gone before the hook is back.
        said = error.with_traceback(None)
        said.__context__ = said.__cause__ = None
        gc.collect()
        raise said from None
    finally:
        sys.unraisablehook = hook
