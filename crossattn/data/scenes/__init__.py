"""`scenes`: generated pictures of objects, texts about them, and the exact region of every word."""

from crossattn.data.scenes.language import VOCABULARY
from crossattn.data.scenes.source import (
    CHANCE,
    IMAGE_ENCODERS,
    KINDS,
    SIZES,
    SPLITS,
    Scenes,
    ScenesData,
    draw_scenes,
    examples,
)
from crossattn.renamed import former_names

__all__ = [
    "CHANCE",
    "IMAGE_ENCODERS",
    "KINDS",
    "SIZES",
    "SPLITS",
    "VOCABULARY",
    "Scenes",
    "ScenesData",
    "draw_scenes",
    "examples",
]

__getattr__ = former_names(__name__, generate="draw_scenes", PERCEPTIONS="IMAGE_ENCODERS")
