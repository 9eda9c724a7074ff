"""The optimizer that a run describes: what it does to gradients, and its schedule."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from crossattn.shapes import Array
from crossattn.train.freezing import frozen, matched, two_stages
from crossattn.train.run import Optimizer

# Share of the peak that a decaying learning rate ends with.
END = 0.1
# The average of parameters forgets its beginning first: its decay is at most (1 + n) / (10 + n).
RAMP = 10


def optimizer_of(
    settings: Optimizer, steps: int, text_steps: int = 0
) -> optax.GradientTransformation:
    """Clipped gradients, the direction that `name` makes of them, decoupled decay, a schedule.

    The peak learning rate is 1: the step multiplies by the run's, so that runs which differ in the
    learning rate alone share one program. Parameters that are frozen have no state.

    Where the first `text_steps` train the text alone, both parts have a whole schedule of their
    own, and parameters are frozen in the second; see `two_stages`.
    """
    schedule = schedule_of(settings, steps)
    if text_steps:
        parts = [schedule_of(settings, count) for count in (text_steps, steps - text_steps)]
        schedule = optax.join_schedules(parts, [text_steps])
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.chain(
            DIRECTIONS[settings.name](),
            optax.add_decayed_weights(settings.weight_decay, _matrices),
            optax.scale_by_learning_rate(schedule),
        ),
    )
    if text_steps:
        optimizer = two_stages(optimizer, settings.frozen, text_steps)
    elif settings.frozen:
        optimizer = frozen(optimizer, settings.frozen)
    if settings.multiplied:
        faster = multiplied(settings.multiplied, settings.rate_multiplier)
        optimizer = optax.chain(optimizer, faster)
    return optimizer


def multiplied(pattern: str, factor: float) -> optax.GradientTransformation:
    """Updates that are `factor` times as large where the pattern matches a parameter's path.

    Raises:
      FrozenError: at `init`, where it matches nothing, naming what is near.

    >>> params = {"gate": jnp.ones(2), "scale": jnp.ones(2)}
    >>> faster = multiplied("gate", 10.0)
    >>> updates, _ = faster.update(params, faster.init(params))
    >>> updates["gate"].tolist(), updates["scale"].tolist()
    ([10.0, 10.0], [1.0, 1.0])
    """

    def init(params: Any) -> optax.OptState:
        matched(params, pattern, "optimizer.multiplied")
        return optax.EmptyState()

    def update(updates: Any, state: optax.OptState, params: Any = None) -> Any:
        which = matched(updates, pattern, "optimizer.multiplied")
        larger = lambda update, matches: update * factor if matches else update
        return jax.tree.map(larger, updates, which), state

    return optax.GradientTransformation(init, update)


def schedule_of(settings: Optimizer, steps: int) -> optax.Schedule:
    """Learning rate by step as a share of the peak: a linear warm-up, then `schedule`.

    Example:
      >>> halved = schedule_of(Optimizer(schedule="rsqrt", warmup=0.1), steps=100)
      >>> [round(float(halved(step)), 3) for step in (5, 10, 40)]
      [0.5, 1.0, 0.5]
    """
    warmup, steps = max(1, round(settings.warmup * steps)), max(2, steps)
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, steps, end_value=END)
    after = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, END, steps - warmup),
        "rsqrt": lambda step: jnp.sqrt(warmup / jnp.maximum(warmup, warmup + step)),
    }
    rising = optax.linear_schedule(0.0, 1.0, warmup)
    return optax.join_schedules([rising, after[settings.schedule]], [warmup])


def _adafactor() -> optax.GradientTransformation:
    """Shazeer and Stern 2018: second moments by row and column, steps relative to parameters."""
    return optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
    )


def _muon() -> optax.GradientTransformation:
    """Jordan et al. 2024, with the root mean square of AdamW's steps (Liu et al. 2025).

    Hidden matrices take orthogonal steps, one for each layer of a stack; everything else takes
    Adam's.
    """
    matrix = lambda leaf: optax.contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)
    numbers = lambda params: jax.tree_util.tree_map_with_path(
        lambda path, leaf: matrix(leaf) if _is_hidden(path, leaf) else None, params
    )
    # What it would scale and decay the chain does: a rate of -1 leaves the direction alone.
    return optax.contrib.muon(
        -1.0, consistent_rms=0.2, muon_weight_dimension_numbers=numbers, adam_weight_decay=0.0
    )


DIRECTIONS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adamw": optax.scale_by_adam,
    "lion": optax.scale_by_lion,
    "adafactor": _adafactor,
    "muon": _muon,
}


def _matrices(params: Any) -> Any:
    """Decay kernels and embeddings; not biases, norms (stacked to rank 2 by the scan)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )


def _is_hidden(path: Any, leaf: Array) -> bool:
    """Whether a parameter is a matrix between the layers that read inputs and make logits."""
    parts = [str(part.key) for part in path]
    outer = any(part in ("words", "logits") or part.endswith("encoder") for part in parts)
    return parts[-1] == "kernel" and leaf.ndim >= 2 and not outer


def averaged(average: Any, params: Any, step: Array, decay: float) -> Any:
    """The exponential moving average of parameters after a step, as it is where `decay` is 0.

    Equal parameters stay as they are, to the last bit.
    """
    if not decay:
        return average
    kept = jnp.minimum(decay, (1 + step) / (RAMP + step)).astype(jnp.float32)
    return jax.tree.map(lambda old, new: old + (1 - kept) * (new - old), average, params)
