"""Swap pairs: two captions of the same words, two images (Thrush et al. 2022, Winoground)."""

import numpy as np

from crossattn.align.arguments import finite_numbers
from crossattn.align.inputs import SwapPairs
from crossattn.align.measures import Measure, register_measure
from crossattn.shapes import Float


def swap_scores(score: Float[np.ndarray, "N 2 2"]) -> dict[str, Float[np.ndarray, " N"]]:
    """Text, image and group score of each pair; comparisons are strict, so that a tie is wrong.

    Args:
      score: score[n, c, i] of caption c with image i; caption c belongs to image c.

    Returns:
      0 or 1 per pair: "text" where the right caption wins for both images, "image" where the right
      image wins for both captions, "group" where both hold. A scorer that ignores the image gets 0
      in all three.

    Raises:
      ValueError: another shape, or scores that are not finite.

    Example:
      >>> {k: v.tolist() for k, v in swap_scores(np.array([[[2.0, 0.0], [1.0, 3.0]]])).items()}
      {'text': [1.0], 'image': [1.0], 'group': [1.0]}
    """
    score = finite_numbers("score", score)
    if score.ndim != 3 or score.shape[1:] != (2, 2):
        raise ValueError(
            f"score has shape {score.shape}: (N, 2, 2) is meant, two captions with two images"
        )
    text = (score[:, 0, 0] > score[:, 1, 0]) & (score[:, 1, 1] > score[:, 0, 1])
    image = (score[:, 0, 0] > score[:, 0, 1]) & (score[:, 1, 1] > score[:, 1, 0])
    scores = {"text": text, "image": image, "group": text & image}
    return {name: value.astype(float) for name, value in scores.items()}


def _register(name: str, chance: float, wins: str) -> None:
    register_measure(
        Measure(
            name,
            "task",
            SwapPairs,
            lambda pairs: swap_scores(pairs.score)[name],
            f"{name.capitalize()}: {wins}.",
            chance=chance,
            chance_meaning="Chance of pairs: scores that are random and independent (text and "
            "image 1/4, group 1/6); a scorer that ignores the image ties, and a tie counts as "
            "wrong, so that it gets 0.",
        )
    )


# What random scores reach of a pair: two comparisons of two, both; the two right of four on top.
_register("text", 1 / 4, "how often the right caption scores higher for both images")
_register("image", 1 / 4, "how often the right image scores higher for both captions")
_register("group", 1 / 6, "how often both hold")
