"""Published models as they are stored, whole, by one call: `load_model(folder_or_name)`."""

from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.families import load_model

__all__ = ["Checkpoint", "load_model"]
