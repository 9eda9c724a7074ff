"""`easy_vqa`: the images and questions of the package easy-vqa, with the region of every word."""

from crossattn.data.easy_vqa.language import KINDS, SHAPES
from crossattn.data.easy_vqa.source import OPEN, SPLITS, read_split, region
from crossattn.data.regions import window_coverage
from crossattn.renamed import former_names

__all__ = ["KINDS", "OPEN", "SHAPES", "SPLITS", "read_split", "region", "window_coverage"]

__getattr__ = former_names(__name__, examples="read_split", coverage="window_coverage")
