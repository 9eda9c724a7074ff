"""A page on which a word lights up the regions that it attends to, for any model's attention."""

from crossattn.viewer.example import Answer, Example
from crossattn.viewer.page import Page, explore

__all__ = ["Answer", "Example", "Page", "explore"]
