"""Measures of alignment: arrays in, numbers out, whoever's model they come from."""

from crossattn.align.attention import mass_in_region, pointing, pointing_chance
from crossattn.align.captions import exact_match, slot_accuracy
from crossattn.align.pairs import swap_scores

__all__ = [
    "exact_match",
    "mass_in_region",
    "pointing",
    "pointing_chance",
    "slot_accuracy",
    "swap_scores",
]
