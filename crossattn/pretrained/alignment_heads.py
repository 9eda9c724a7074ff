"""Heads that point at the spoken word, as published with Whisper (openai/whisper, `__init__.py`).

There they are `_ALIGNMENT_HEADS`, bytes in base 85; Hugging Face and CTranslate2 keep the same
heads as `alignment_heads` in generation_config.json and config.json.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["PUBLISHED_HEADS", "published_heads"]

Heads = tuple[tuple[int, int], ...]

# fmt: off
# {(layers, heads, size of the vocabulary): (layer, head)}; large and large-v2 have the same sizes.
PUBLISHED_HEADS: dict[tuple[int, int, int], Heads] = {
    # tiny.en, tiny
    (4, 6, 51864): ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)),
    (4, 6, 51865): ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)),
    # base.en, base
    (6, 8, 51864): ((3, 3), (4, 7), (5, 1), (5, 5), (5, 7)),
    (6, 8, 51865): ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)),
    # small.en, small
    (12, 12, 51864): (
        (6, 6), (7, 0), (7, 3), (7, 8), (8, 2), (8, 5), (8, 7), (9, 0), (9, 4), (9, 8), (9, 10),
        (10, 0), (10, 1), (10, 2), (10, 3), (10, 6), (10, 11), (11, 2), (11, 4),
    ),
    (12, 12, 51865): (
        (5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5),
    ),
    # medium.en, medium
    (24, 16, 51864): (
        (11, 4), (14, 1), (14, 12), (14, 14), (15, 4), (16, 0), (16, 4), (16, 9), (17, 12),
        (17, 14), (18, 7), (18, 10), (18, 15), (20, 0), (20, 3), (20, 9), (20, 14), (21, 12),
    ),
    (24, 16, 51865): ((13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)),
    # large-v3, large-v3-turbo
    (32, 20, 51866): (
        (7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4), (24, 1),
        (25, 6),
    ),
    (4, 20, 51866): ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)),
}
# fmt: on


def published_heads(sizes: tuple[int, int, int], says: Mapping[str, Any]) -> Heads:
    """The (layer, head) that point at the spoken word.

    Those that the settings of the checkpoint have; else those of the published model of its size;
    else, as published for others, all heads of the second half of the layers.

    Args:
      sizes: layers and heads of the decoder, and its vocabulary.
      says: the settings in which `alignment_heads` may be.

    Raises:
      ValueError: heads that the decoder does not have.

    Example:
      >>> published_heads((4, 6, 51864), {})[0], published_heads((2, 2, 99), {})
      ((1, 0), ((1, 0), (1, 1)))
    """
    layers, heads, _ = sizes
    found = says.get("alignment_heads")
    if found is None:
        half = tuple((n, head) for n in range(layers // 2, layers) for head in range(heads))
        return PUBLISHED_HEADS.get(sizes, half)
    try:
        chosen = tuple((int(layer), int(head)) for layer, head in found)
    except (TypeError, ValueError):
        raise ValueError(f"alignment_heads are pairs (layer, head), got {found!r}") from None
    if not chosen or not all(0 <= n < layers and 0 <= head < heads for n, head in chosen):
        raise ValueError(f"alignment_heads are of {layers} layers of {heads} heads, got {found!r}")
    return chosen
