"""Measures of alignment: arrays in, numbers out, from any model.

`measures` has the registry of measures and the names of metrics, `inputs` the arrays that measures
read, `evidence` computes them. The other modules hold the functions, and register them.
"""

import crossattn.align.answers
import crossattn.align.causal  # noqa: F401
from crossattn.align.attention import mass_in_region, pointing, pointing_chance
from crossattn.align.captions import (
    commonest_word_accuracy,
    exact_match,
    perplexity,
    slot_accuracy,
    word_frequency_perplexity,
)
from crossattn.align.pairs import swap_scores

__all__ = [
    "commonest_word_accuracy",
    "exact_match",
    "mass_in_region",
    "perplexity",
    "pointing",
    "pointing_chance",
    "slot_accuracy",
    "swap_scores",
    "word_frequency_perplexity",
]
