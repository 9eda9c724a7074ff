"""Explanations from attention maps and their gradients, as arrays: rollout, relevancy, Grad-CAM.

They take NumPy arrays or JAX arrays, under `jit` and `vmap` too, and give back the same kind. The
gradient is that of the explained score with respect to the weights of attention after the softmax:
differentiate a function that takes the weights, or adds zeros to them.
"""

from typing import Any, NamedTuple

import numpy as np

from crossattn.align.arguments import jax_or_numpy, not_empty, not_negative, products_of
from crossattn.shapes import Array, Float

__all__ = ["Relevancy", "attention_grad_cam", "gradient_weighted_attention", "rollout"]

Numbers = Array | np.ndarray


def rollout(weights: Float[Numbers, "L ... S S"]) -> Float[Numbers, "... S S"]:
    """Attention rollout: the product over layers of row-normalised A + I (Abnar & Zuidema 2020).

    Args:
      weights: self-attention of each layer, the first layer first; the mean over heads, or heads
        as a leading axis for each head by itself.

    Returns:
      Row t says from which inputs token t comes; rows have a sum of 1. Their level of chance is
      that of any map that is 1/S everywhere.

    Raises:
      ValueError: another shape, or weights that are not finite or below 0.

    Example:
      >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
      >>> rollout(np.stack([swap, swap])).tolist()
      [[0.5, 0.5], [0.5, 0.5]]
    """
    xp, weights = jax_or_numpy("weights", weights)
    not_empty("weights", weights, "L ... S S")
    if weights.shape[-1] != weights.shape[-2]:
        raise ValueError(f"weights {weights.shape}: self-attention is square, (L, ..., S, S)")
    mixed = not_negative("weights", weights) + _eye_like(xp, weights)
    layers = mixed / mixed.sum(axis=-1, keepdims=True)
    joint = layers[0]
    for layer in layers[1:]:
        joint = products_of(xp, layer, joint)
    return joint


def gradient_weighted_attention(
    weights: Float[Numbers, "... H T S"], gradients: Float[Numbers, "... H T S"]
) -> Float[Numbers, "... T S"]:
    """Mean over heads of the positive part of gradient times attention (Chefer et al. 2021, eq. 5).

    Raises:
      ValueError: other shapes, no entries, or numbers that are not finite.

    Example:
      >>> weights, gradients = np.array([[[0.5, 0.5]]]), np.array([[[2.0, -2.0]]])
      >>> gradient_weighted_attention(weights, gradients).tolist()
      [[1.0, 0.0]]
    """
    _, weights, gradients = _of_heads(weights, gradients)
    return (weights * gradients).clip(min=0).mean(axis=-3)


def attention_grad_cam(
    weights: Float[Numbers, "... H T S"], gradients: Float[Numbers, "... H T S"]
) -> Float[Numbers, "... T S"]:
    """Grad-CAM of cross-attention: mean over heads of attention times relu(gradient).

    ALBEF (Li et al. 2021) takes the mean over words too. For non-negative weights it is
    `gradient_weighted_attention`; weights of talking heads may be negative.

    Raises:
      ValueError: as `gradient_weighted_attention`.

    Example:
      >>> weights, gradients = np.array([[[0.5, 0.5]]]), np.array([[[2.0, -2.0]]])
      >>> attention_grad_cam(weights, gradients).tolist()
      [[1.0, 0.0]]
    """
    _, weights, gradients = _of_heads(weights, gradients)
    return (weights * gradients.clip(min=0)).mean(axis=-3)


class Relevancy(NamedTuple):
    """Relevancy of two streams of tokens for each other (Chefer et al. 2021, rules 5 to 11).

    Begin with `start`, apply the layers in the order in which the model does, and read a row: of
    `x_to_context` for the context tokens that a token of x owes its output to. Where a stream has
    its own encoder, its layers come first. Each method returns a new value; `weights` are those of
    `gradient_weighted_attention`. Leading axes are examples.

    Attributes:
      x_to_x: of x for x, (..., T, T); the identity at the start.
      x_to_context: of the context for x, (..., T, S); zero at the start.
      context_to_x: of x for the context, (..., S, T); zero at the start.
      context_to_context: of the context for itself, (..., S, S); the identity at the start.

    Example:
      >>> weights = np.array([[0.25, 0.0], [0.5, 0.0], [0.0, 1.0]])
      >>> Relevancy.start(weights).cross_attention(weights).x_to_context.tolist()
      [[0.25, 0.0], [0.5, 0.0], [0.0, 1.0]]
    """

    x_to_x: Any
    x_to_context: Any
    context_to_x: Any
    context_to_context: Any

    @classmethod
    def start(cls, weights: Float[Numbers, "... T S"]) -> "Relevancy":
        """What no layer has mixed yet, for cross-attention of this shape and dtype.

        Raises:
          ValueError: an array without tokens, or with numbers that are not finite.
        """
        xp, weights = jax_or_numpy("weights", weights)
        *batch, T, S = not_empty("weights", weights, "... T S").shape
        zeros = lambda *sizes: xp.zeros((*batch, *sizes), weights.dtype)
        eye = lambda size: zeros(size, size) + _eye_like(xp, zeros(size, size))
        return cls(eye(T), zeros(T, S), zeros(S, T), eye(S))

    def self_attention(self, weights: Float[Numbers, "... T T"]) -> "Relevancy":
        """After a layer of self-attention of x (rules 6 and 7).

        Raises:
          ValueError: another shape, or weights that are not finite.
        """
        xp, weights = self._checked("weights", weights, self.x_to_x)
        return self._replace(
            x_to_x=self.x_to_x + products_of(xp, weights, self.x_to_x),
            x_to_context=self.x_to_context + products_of(xp, weights, self.x_to_context),
        )

    def context_self_attention(self, weights: Float[Numbers, "... S S"]) -> "Relevancy":
        """After a layer of self-attention of the context.

        Raises:
          ValueError: another shape, or weights that are not finite.
        """
        return self._turned().self_attention(weights)._turned()

    def cross_attention(
        self,
        weights: Float[Numbers, "... T S"],
        context_weights: Float[Numbers, "... S T"] | None = None,
    ) -> "Relevancy":
        """After a layer in which x attends to the context (rules 8 to 11).

        Args:
          weights: of x over the context.
          context_weights: of the context over x, where both attend to each other at once, each to
            what the other was before.

        Raises:
          ValueError: other shapes, or weights that are not finite.
        """
        xp, weights = self._checked("weights", weights, self.x_to_context)
        x, context = _without_residual(self.x_to_x), _without_residual(self.context_to_context)
        read = products_of(xp, x.swapaxes(-1, -2), products_of(xp, weights, context))
        after = self._replace(
            x_to_context=self.x_to_context + read,
            x_to_x=self.x_to_x + products_of(xp, weights, self.context_to_x),
        )
        if context_weights is None:
            return after
        other = self._turned().cross_attention(context_weights)
        return after._replace(context_to_x=other.x_to_context, context_to_context=other.x_to_x)

    def _turned(self) -> "Relevancy":
        """The same with x as context."""
        return Relevancy(*reversed(self))

    def _checked(self, name, weights, like):
        xp, weights = jax_or_numpy(name, weights)
        if weights.shape != like.shape:
            raise ValueError(f"{name} {weights.shape}: {like.shape} is meant, the mean over heads")
        return xp, weights


def _of_heads(weights, gradients):
    xp, weights = jax_or_numpy("weights", weights)
    _, gradients = jax_or_numpy("gradients", gradients)
    if weights.shape != gradients.shape:
        said = f"weights {weights.shape}, gradients {gradients.shape}"
        raise ValueError(f"{said}: one shape (..., H, T, S) is meant")
    return xp, not_empty("weights", weights, "... H T S"), gradients


def _eye_like(xp, square):
    eye = xp.eye(square.shape[-1], dtype=square.dtype)
    return xp.broadcast_to(eye, square.shape)


def _without_residual(relevancy):
    """R - I with rows of sum 1, plus I; a row that nothing was added to stays that of I."""
    xp, _ = jax_or_numpy("relevancy", relevancy)
    eye = _eye_like(xp, relevancy)
    added = relevancy - eye
    total = added.sum(axis=-1, keepdims=True)
    return added / xp.where(total > 0, total, 1) + eye
