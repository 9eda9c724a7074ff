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
from crossattn.align.overlap import attention_iou, attention_iou_chance, best_iou
from crossattn.align.pairs import swap_scores
from crossattn.align.saliency import (
    average_precision,
    kl_from_region,
    nss,
    pearson_cc,
    roc_auc,
    saliency_chance,
    similarity,
)
from crossattn.align.word_alignment import (
    alignment_error_chance,
    alignment_error_rate,
    links_from_coverage,
    soft_alignment_error_rate,
    strongest_links,
)

__all__ = [
    "alignment_error_chance",
    "alignment_error_rate",
    "attention_iou",
    "attention_iou_chance",
    "average_precision",
    "best_iou",
    "commonest_word_accuracy",
    "exact_match",
    "kl_from_region",
    "links_from_coverage",
    "mass_in_region",
    "nss",
    "pearson_cc",
    "perplexity",
    "pointing",
    "pointing_chance",
    "roc_auc",
    "saliency_chance",
    "similarity",
    "slot_accuracy",
    "soft_alignment_error_rate",
    "strongest_links",
    "swap_scores",
    "word_frequency_perplexity",
]
