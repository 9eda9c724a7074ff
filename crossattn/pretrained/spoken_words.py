"""The words of a transcript with their times."""

from collections.abc import Sequence

import numpy as np

from crossattn.align.pauses import find_pauses, words_at_pauses
from crossattn.align.tokens_in_time import (
    TimedWord,
    group_tokens,
    spoken_starts,
    spoken_tokens,
    timed_words,
)
from crossattn.data.audio.spectrogram import RATE
from crossattn.pretrained.transcriber import Segment, Transcriber
from crossattn.shapes import Float

__all__ = ["SECONDS_PER_FRAME", "rows_of", "spoken_words"]

# Of the context: the encoder halves the 100 frames a second of a spectrogram.
SECONDS_PER_FRAME = 0.02
# Languages whose words no spaces divide.
UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")


def spoken_words(
    model: Transcriber,
    sound: Float[np.ndarray, " N"],
    segment: Segment,
    heads: Sequence[tuple[int, int]],
    *,
    language: str | None = None,
) -> list[TimedWord]:
    """The words of a segment, from when to when they are spoken.

    By dynamic time warping over the maps of the model's alignment heads, then at the pauses of the
    sound: see `crossattn.align.word_times` and `crossattn.align.pauses`.

    Args:
      model: whose `alignment_heads` are read.
      sound: the whole of it, at 16 kHz.
      segment: of a transcript with maps.
      heads: (layer, head) that the maps are of, in their order.
      language: whether spaces divide its words.

    Returns:
      words with their seconds in the whole sound; none where the segment has no text.

    Raises:
      ValueError: no maps, or none of an alignment head.
    """
    if segment.maps is None or segment.probabilities is None:
        raise ValueError("words are timed by maps: transcribe(..., heads=model.alignment_heads)")
    places = [n for n, head in enumerate(heads) if head in model.alignment_heads]
    if not places:
        raise ValueError(f"none of the heads {list(heads)} is one of {model.alignment_heads}")
    tokens = segment.tokens.tolist()
    if not tokens:
        return []
    decode = lambda some: model.tokenizer.decode(some, skip_special_tokens=True)
    groups = group_tokens(tokens, decode, spaced=language not in UNSPACED)
    spoken = spoken_tokens(groups, tokens, decode)
    starts = spoken_starts(
        rows_of(segment)[places].astype(np.float64), spoken, seconds_per_frame=SECONDS_PER_FRAME
    )
    # The last frame may end behind the sound.
    starts = np.minimum(starts, segment.end - segment.start)
    offset = float(segment.start)
    words = timed_words(groups, starts, segment.probabilities, spoken, offset=offset)
    heard = np.asarray(sound)[round(offset * RATE) : round(segment.end * RATE)]
    return words_at_pauses(words, find_pauses(heard, RATE) + offset)


def rows_of(segment: Segment) -> Float[np.ndarray, "h T1 S"]:
    """The maps of the rows that predict a token or the end, over the frames of the sound."""
    assert segment.maps is not None
    frames = max(1, int(np.ceil((segment.end - segment.start) / SECONDS_PER_FRAME - 1e-6)))
    return segment.maps[:, len(segment.prompt) - 1 :, :frames]
