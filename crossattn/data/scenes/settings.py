"""Settings of the data set `scenes`."""

import dataclasses

from crossattn.data.scenes.language import VOCABULARY
from crossattn.data.scenes.worlds import check_known
from crossattn.data.sources import EncodedData

__all__ = ["ScenesData"]


@dataclasses.dataclass(frozen=True)
class ScenesData(EncodedData):
    """Settings of `scenes`."""

    noise: float = 0.1
    """Standard deviation of the noise on symbolic features (image_encoder oracle)."""
    seed: int = 0
    """Seed of generated data: all variants and seeds of a suite share it."""
    only_words: tuple[str, ...] = ()
    """Learn only texts that have one of these words, as left and right; all when empty."""
    curriculum_words: tuple[str, ...] = ()
    """Learn texts that have one of these words alone at first, and all only then."""
    curriculum_share: float = 0.0
    """Share of the steps that learn texts of data.curriculum_words alone."""

    def __post_init__(self):
        super().__post_init__()
        if self.noise < 0 or self.seed < 0:
            raise ValueError("data.noise and data.seed cannot be negative")
        for word in (*self.only_words, *self.curriculum_words):
            check_known("word", word, VOCABULARY)
        if not 0 <= self.curriculum_share < 1:
            raise ValueError(
                f"data.curriculum_share is a share in [0, 1), got {self.curriculum_share}"
            )
        if bool(self.curriculum_share) != bool(self.curriculum_words):
            raise ValueError(
                "data.curriculum_words and data.curriculum_share go together: give both or none"
            )
