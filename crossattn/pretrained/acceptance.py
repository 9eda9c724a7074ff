"""Which texts of a model of speech are kept: silence has none, a poor one is written again."""

import dataclasses
import zlib
from typing import Any

from crossattn.models.generate import Beam

__all__ = ["TEMPERATURES", "Acceptance", "mean_logprob"]

# Those of openai/whisper behind 0.
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """Thresholds of a window's text, by the names and values of openai/whisper.

    Attributes:
      no_speech_threshold: a window has no text if the model gives "no speech" more than this, and
        the text not more than `logprob_threshold`; None: every window has one.
      logprob_threshold: a text is poor if its tokens have less than this in the mean; None: none
        is.
      compression_ratio_threshold: a text is poor if zlib makes it shorter by more than this
        factor, since it repeats itself; None: none is.
      temperatures: with which a poor text is drawn again, until one is not poor.

    >>> rule = Acceptance()
    >>> rule.silent(0.9, -1.2), rule.silent(0.9, -0.3), rule.poor("well " * 30, -0.3, 0.0)
    (True, False, True)
    """

    no_speech_threshold: float | None = 0.6
    logprob_threshold: float | None = -1.0
    compression_ratio_threshold: float | None = 2.4
    temperatures: tuple[float, ...] = ()

    def sure(self, logprob: float) -> bool:
        """Whether a text is kept, however likely silence is: nobody has to ask."""
        least = self.logprob_threshold
        return self.no_speech_threshold is None or (least is not None and logprob > least)

    def silent(self, no_speech: float | None, logprob: float) -> bool:
        """Whether nothing is said in a window."""
        if self.no_speech_threshold is None or no_speech is None:
            return False
        return no_speech > self.no_speech_threshold and not self.sure(logprob)

    def poor(self, text: str, logprob: float, no_speech: float | None) -> bool:
        """Whether a text is written again."""
        low = self.logprob_threshold is not None and logprob < self.logprob_threshold
        if low and self.silent(no_speech, logprob):
            return False
        said, most = text.encode(), self.compression_ratio_threshold
        return low or (most is not None and len(said) / len(zlib.compress(said)) > most)


def mean_logprob(score: float, words: int, strategy: Any) -> float:
    """Of a text's tokens and its end: what `generate` calls score, of all kinds of texts alike.

    >>> mean_logprob(-2.0, 3, Beam(5, count_end=False)), mean_logprob(-6.0, 3, None)
    (-1.5, -1.5)
    """
    if isinstance(strategy, Beam):
        score *= max(words + strategy.count_end, 1) ** strategy.length_penalty
    return score / (words + 1)
