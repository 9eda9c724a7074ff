"""What a step draws, and what it hides: functions of its number and of its batch."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from crossattn.data.batches import Batch
from crossattn.shapes import Array

__all__ = ["dropout_rngs", "shown_or_hidden", "step_key"]

PURPOSES = {"dropout": 1, "matching": 2}


def step_key(purpose: Literal["dropout", "matching"], step: Array, batch: Batch) -> Array:
    """The key of a step for one purpose, in the texts of which seeds differ."""
    key = jax.random.fold_in(jax.random.key(PURPOSES[purpose]), step)
    return jax.random.fold_in(key, batch.tokens.sum())


def dropout_rngs(dropout: float, step: Array, batch: Batch) -> Any:
    """What modules draw in a step; None where nothing is dropped."""
    return {"dropout": step_key("dropout", step, batch)} if dropout else None


def shown_or_hidden(batch: Batch, shown: Array) -> tuple[Batch, Array]:
    """A batch and its visible patches: where it is not shown, words have nothing but words."""
    visible = jnp.broadcast_to(shown, (batch.coverage.shape[0], batch.coverage.shape[-1]))
    boxes = None if batch.boxes is None else jnp.where(shown, batch.boxes, 0)
    return batch._replace(boxes=boxes), visible
