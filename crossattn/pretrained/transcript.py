"""What a model of speech is told, and what it returns: prompts, segments and their text."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from crossattn.nn.choices import known

__all__ = ["Segment", "SpeechTokens", "Transcript"]


@dataclasses.dataclass(frozen=True)
class SpeechTokens:
    """Numbers of the tokens that steer a model of speech.

    Attributes:
      start: with which all prompts begin.
      end: of a text.
      plain: after it the text has no time stamps; None: there are none.
      languages: {code: token}; empty where the model knows one language only.
      tasks: {"transcribe": token, "translate": token}.
      suppressed: tokens that are never written.
      not_first: tokens with which no text begins.
      no_speech: behind `start` it says that nothing is said; None: there is none.
      timestamps: how many of them there are, behind `plain`.
    """

    start: int
    end: int
    plain: int | None = None
    languages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    tasks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    suppressed: tuple[int, ...] = ()
    not_first: tuple[int, ...] = ()
    no_speech: int | None = None
    timestamps: int = 0

    @property
    def never(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens that are not written as the first word, and those that are not behind it."""
        return (*self.suppressed, *self.not_first), tuple(self.suppressed)

    def prompt(self, language: str | None, task: str, *, timestamps: bool = False) -> list[int]:
        """The tokens before a text, by default one without time stamps."""
        if timestamps and not self.timestamps:
            raise ValueError("this model has no time stamps: leave timestamps out")
        if not self.languages and (task != "transcribe" or language not in (None, "en")):
            raise ValueError(f"this model writes English only, got language={language!r}, {task=}")
        found = [self.start]
        if self.languages:
            known("language", language, tuple(self.languages))
            known("task", task, tuple(self.tasks))
            found += [self.languages[str(language)], self.tasks[task]]
        return found if timestamps or self.plain is None else [*found, self.plain]


class Segment(NamedTuple):
    """The text of a stretch of the sound.

    Attributes:
      start, end: of the stretch, in seconds.
      prompt: tokens that were given.
      tokens: (N,) int32, those that were written, without the end.
      text: what they say.
      score: as of `generate`.
      maps: (h, T, S) float32, what each of the T = prompt + N tokens that were read saw of the
        context, for the heads that were asked for; row i belongs to the token that is written
        behind it. None where none were.
      probabilities: (N,) float32, of the tokens that were written, where maps were asked for.
      no_speech: probability that nothing is said in the window; None where it was not asked for,
        since the text is sure, and of models that do not say.
    """

    start: float
    end: float
    prompt: tuple[int, ...]
    tokens: np.ndarray
    text: str
    score: float
    maps: np.ndarray | None
    probabilities: np.ndarray | None = None
    no_speech: float | None = None


class Transcript(NamedTuple):
    """What was said: the text, its language (None of models of one), and the segments."""

    text: str
    language: str | None
    segments: tuple[Segment, ...]
