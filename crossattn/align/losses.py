"""Losses on attention maps: arrays in, arrays of JAX out, for whoever trains a model.

Each takes maps (..., T, P) of T words over P patches, with leading axes for layers, texts and
heads, and gives back the mean over the words of each map, so that all texts have the same weight,
as in the loss of the next word. All are differentiable, under `jit` and `vmap` too, and computed in
float32 (float64 stays float64). What is not defined counts as 0, with a gradient of 0: words that
see nothing (rows of zeros), and words of which no region is known.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.shapes import Array, Bool, Float

__all__ = ["attention_supervision", "entropy_loss", "head_overlap", "map_distillation"]

Numbers = Array | np.ndarray


def attention_supervision(
    weights: Float[Numbers, "*L T P"],
    coverage: Float[Numbers, "*#L T P"],
    words: Bool[Numbers, "*#L T"] | None = None,
) -> Float[Array, "*L"]:
    """-log of the mass that falls in the true region, the mean over the words that have one.

    The mass is that of `mass_in_region`: patches count by their covered share. So the least value
    is -log of the largest share of a word's region, 0 where some patch is covered whole. (Liu et
    al. 2017, "Attention correctness in neural image captioning".)

    Args:
      weights: attention of each word, rows that sum to 1 or are zero.
      coverage: share of each patch that the word's region covers; none where it has no region.
      words: which of them count; all when None.

    Raises:
      ValueError: shapes that do not fit, arrays that are no floats.

    Example:
      >>> weights = jnp.array([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])
      >>> coverage = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])  # the last has no region
      >>> round(float(attention_supervision(weights, coverage)), 4)  # log(2) / 2
      0.3466
    """
    weights, coverage = _maps(weights=weights, coverage=coverage)
    counted = (coverage > 0).any(axis=-1) & _there(weights, words)
    mass = jnp.einsum("...p,...p->...", weights, coverage)
    return _mean(-_log(mass), counted)


def entropy_loss(
    weights: Float[Numbers, "*L T P"], words: Bool[Numbers, "*#L T"] | None = None
) -> Float[Array, "*L"]:
    """Normalised entropy, H / log(P), the mean over words: 0 is one patch, 1 is uniform.

    As `normalized_entropy` of maps that may see every patch. With a positive weight it sharpens
    attention, with a negative one it spreads it (Pereyra et al. 2017, of outputs).

    Raises:
      ValueError: as `attention_supervision`; fewer than two patches.

    Example:
      >>> round(float(entropy_loss(jnp.array([[0.5, 0.5, 0.0, 0.0]]))), 4)
      0.5
    """
    (weights,) = _maps(weights=weights)
    if weights.shape[-1] < 2:
        raise ValueError(f"weights {weights.shape}: the entropy of one patch is always 0")
    counted = _there(weights, words)
    entropy = -(weights * _log(weights)).sum(axis=-1)
    return _mean(entropy / jnp.log(weights.shape[-1]), counted)


def head_overlap(
    weights: Float[Numbers, "*L H T P"], words: Bool[Numbers, "*#L T"] | None = None
) -> Float[Array, "*L"]:
    """How alike the maps of heads are: the mean cosine of all pairs of heads, and over words.

    1 where all heads look at the same patches, 0 where no two look at the same one. (Li et al.
    2018, "Multi-head attention with disagreement regularization", of positions: here with maps of
    length 1, so that sharper maps do not look more alike.) A word counts where all heads see
    something.

    Raises:
      ValueError: as `attention_supervision`; fewer than two heads.

    Example:
      >>> apart = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
      >>> float(head_overlap(apart)), float(head_overlap(apart[:1].repeat(2, axis=0)))
      (0.0, 1.0)
    """
    (weights,) = _maps(weights=weights)
    if weights.ndim < 3 or (heads := weights.shape[-3]) < 2:
        raise ValueError(f"weights {weights.shape}: two heads or more are meant, (..., H, T, P)")
    counted = _seen(weights).all(axis=-2) & _words(words, (*weights.shape[:-3], weights.shape[-2]))
    squared = (weights**2).sum(axis=-1, keepdims=True)
    unit = weights / jnp.sqrt(jnp.where(squared == 0, 1, squared))
    # The sum over all pairs is the square of the sum, each head with itself left out.
    pairs = (unit.sum(axis=-3) ** 2).sum(axis=-1) - (unit**2).sum(axis=(-3, -1))
    return _mean(pairs / (heads * (heads - 1)), counted)


def map_distillation(
    weights: Float[Numbers, "*L T P"],
    teacher: Float[Numbers, "*#L T P"],
    words: Bool[Numbers, "*#L T"] | None = None,
) -> Float[Array, "*L"]:
    """KL(teacher map || map), the mean over words; no gradient reaches the teacher.

    (Hinton et al. 2015, of outputs; Aguilar et al. 2020 of attention, "Knowledge distillation from
    internal representations".) A word counts where both see something.

    Raises:
      ValueError: as `attention_supervision`.

    Example:
      >>> teacher = jnp.array([[1.0, 0.0]])
      >>> round(float(map_distillation(jnp.array([[0.5, 0.5]]), teacher)), 4)  # log(2)
      0.6931
    """
    weights, teacher = _maps(weights=weights, teacher=teacher)
    teacher = jax.lax.stop_gradient(teacher)
    counted = _there(weights, words) & _seen(teacher)
    return _mean((teacher * (_log(teacher) - _log(weights))).sum(axis=-1), counted)


def _maps(**arrays: Any) -> list[Array]:
    """Maps (..., T, P) in float32 or wider, which broadcast with T and P alike."""
    found = {name: jnp.asarray(array) for name, array in arrays.items()}
    for name, array in found.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} has floating-point numbers, got {array.dtype}")
    first, *others = found.values()
    last = {array.shape[-2:] for array in found.values()}
    fits = first.ndim >= 2 and first.size and len(last) == 1
    if not fits or not all(_onto(array.shape, first.shape) for array in others):
        said = ", ".join(f"{name} {array.shape}" for name, array in found.items())
        raise ValueError(f"{said}: maps (..., T, P) with entries are meant, of the same T and P")
    widest = first.dtype if first.dtype.itemsize > 4 else jnp.float32
    return [jnp.broadcast_to(array.astype(widest), first.shape) for array in found.values()]


def _onto(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array broadcasts to a shape, without making it larger."""
    try:
        return jnp.broadcast_shapes(shape, whole) == whole
    except ValueError:
        return False


def _words(words: Any, shape: tuple[int, ...]) -> Array:
    """Which words count, in a shape (..., T)."""
    if words is None:
        return jnp.ones(shape, bool)
    words = jnp.asarray(words)
    if words.dtype != bool or words.ndim < 1 or not _onto(words.shape, shape):
        said = f"{words.dtype}{list(words.shape)}"
        raise ValueError(f"words is boolean (..., T), for maps of words {shape}, got {said}")
    return jnp.broadcast_to(words, shape)


def _seen(weights: Array) -> Array:
    return (weights != 0).any(axis=-1)


def _there(weights: Array, words: Any) -> Array:
    """Which words count and see something."""
    return _seen(weights) & _words(words, weights.shape[:-1])


def _log(x: Array) -> Array:
    """log(x), of 0 that of the least number, with a gradient of 0."""
    return jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny))


def _mean(values: Array, counted: Array) -> Array:
    """The mean of what counts along the last axis; 0 where nothing does."""
    total = jnp.where(counted, values, 0).sum(axis=-1)
    return total / jnp.maximum(counted.sum(axis=-1), 1).astype(values.dtype)
