"""Sound to text: windows of a sound, prompts, texts and where each token listened."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.data.audio.spectrogram import RATE, log_mel
from crossattn.models.generate import Beam, Greedy
from crossattn.models.speech_model import SpeechModel
from crossattn.pretrained.speech_programs import encode, read, writer
from crossattn.pretrained.transcript import Segment, SpeechTokens, Transcript
from crossattn.shapes import Array, Float

__all__ = ["WHISPER_BEAM", "Segment", "SpeechTokens", "Transcriber", "Transcript", "encode", "read"]

# Radford et al. 2022, section 4.5, as OpenAI and CTranslate2 have it.
WHISPER_BEAM = Beam(5, early_stopping=True, count_end=False)
SECONDS = 30.0
# Maps are made for a multiple of so many tokens.
AT_ONCE = 64
# A window ends at the quietest tenth of a second of its last so many seconds.
SEARCHED, TENTH = 5 * RATE, RATE // 10


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Transcriber:
    """A model of speech with its weights, its tokenizer and its prompts.

    Attributes:
      model: the modules.
      params: their parameters.
      special: tokens that steer it.
      tokenizer: of the package `tokenizers`.
      bands: of the spectrograms that it reads.
      alignment_heads: (layer, head) of those that are published as pointing at the spoken word.
    """

    model: SpeechModel
    params: Any
    special: SpeechTokens
    tokenizer: Any
    bands: int = 80
    alignment_heads: tuple[tuple[int, int], ...] = ()

    def __repr__(self) -> str:
        stack = self.model.decoder.stack
        return f"Transcriber({stack.layers} layers of {stack.heads} heads, width {stack.width})"

    def transcribe(
        self,
        sound: Float[np.ndarray, "..."],
        *,
        language: str | None = None,
        task: str = "transcribe",
        strategy: Greedy | Beam = Greedy(),  # noqa: B008 - it has no state
        length: int | None = None,
        heads: Sequence[tuple[int, int]] = (),
        progress: Callable[[float, float], None] = lambda start, end: None,
    ) -> Transcript:
        """The words of a sound of any length.

        A long sound is read in windows of at most 30 seconds, each of which ends at the quietest
        tenth of a second of the last 5; texts of windows are joined by a space.

        Args:
          sound: (N,) samples at 16 kHz in -1..1, or a spectrogram (F, bands) by `log_mel`, of one
            window.
          language: its code, such as "de"; None: the likeliest one of the first window.
          task: "transcribe", or "translate" into English.
          strategy: `Greedy()`, or a `Beam`: that of OpenAI is `WHISPER_BEAM`.
          length: tokens a window has at most; None: half as many as the decoder has positions.
          heads: (layer, head) of which maps are returned; see `alignment_heads`.
          progress: told from when to when each window lasts, in seconds, before it is read.

        Raises:
          ValueError: an unknown language, task or head, or a sound of another kind.
        """
        self._check(heads)
        found: list[Segment] = []
        for start, end, frames in self._windows(np.asarray(sound)):
            progress(start, end)
            context = encode(self.model, self.params, frames[None])
            if language is None and self.special.languages:
                language = self.language(context)
            prompt = self.special.prompt(language, task)
            tokens, score = self._written(context, prompt, strategy, length)
            text = self.tokenizer.decode(tokens.tolist(), skip_special_tokens=True).strip()
            maps = p = None
            if heads:
                maps, p = self._seen(context, [*prompt, *tokens.tolist()], heads)
                p = p[len(prompt) - 1 :]
            found.append(Segment(start, end, tuple(prompt), tokens, text, score, maps, p))
        text = " ".join(one.text for one in found if one.text)
        return Transcript(text, language, tuple(found))

    def language(self, context: Float[Array, "1 S N"]) -> str:
        """The likeliest language of a context by `encode`."""
        codes, start = list(self.special.languages), jnp.array([[self.special.start]])
        logits = np.asarray(read(self.model, self.params, start, context)[0][0, 0])
        return codes[int(logits[[self.special.languages[code] for code in codes]].argmax())]

    def maps(
        self,
        context: Float[Array, "1 S N"],
        tokens: Sequence[int],
        heads: Sequence[tuple[int, int]],
    ) -> Float[np.ndarray, "h T S"]:
        """What each token saw of the context, for these heads."""
        self._check(heads)
        return self._seen(context, tokens, heads)[0]

    def _seen(self, context, tokens, heads):
        """Maps (h, T, S), and the probability of each token behind the first one."""
        stack = self.model.decoder.stack
        chosen = [[head for layer, head in heads if layer == n] for n in range(stack.layers)]
        most = max(map(len, chosen))
        which = np.array([(own + [0] * most)[:most] for own in chosen], np.int32)
        count, room = len(tokens), self.model.decoder.length
        # Texts of nearly the same length are read by one program: what stands behind is not seen.
        more = min(-count % AT_ONCE, (room or count) - count)
        row = jnp.array([[*tokens, *[self.special.end] * more]], jnp.int32)
        logits, kept = read(self.model, self.params, row, context, which)
        kept, behind = np.asarray(kept)[:, 0, :, :count], row[0, 1:, None]
        logs = jnp.take_along_axis(jax.nn.log_softmax(logits[0, :-1]), behind, axis=-1)
        place = {
            (layer, head): kept[layer, k]
            for layer, own in enumerate(chosen)
            for k, head in enumerate(own)
        }
        maps = np.stack([place[layer, head] for layer, head in heads])
        return maps, np.asarray(jnp.exp(logs), np.float32)[: count - 1, 0]

    def _check(self, heads):
        stack = self.model.decoder.stack
        for layer, head in heads:
            if not (0 <= layer < stack.layers and 0 <= head < stack.heads):
                there = f"{stack.layers} layers of {stack.heads} heads"
                raise ValueError(f"there is no head {head} in layer {layer}: there are {there}")

    def _windows(self, sound):
        """(start, end, spectrogram) of each."""
        if sound.ndim not in (1, 2):
            raise ValueError(
                f"a sound is samples (N,) or a spectrogram (F, {self.bands}), got {sound.shape}"
            )
        if sound.ndim == 2:
            yield 0.0, len(sound) / 100, jnp.asarray(sound, jnp.float32)
            return
        start = 0
        while start < len(sound) or start == 0:
            end = start + window_length(sound[start:])
            frames = log_mel(sound[start:end], self.bands, seconds=SECONDS)
            yield start / RATE, end / RATE, jnp.asarray(frames)
            start = max(end, 1)  # of no sound there is one window

    def _written(self, context, prompt, strategy, length):
        room = self.model.decoder.length
        assert room is not None
        length = room // 2 if length is None else length
        length = min(length, room - len(prompt))
        write = writer(self.model, strategy, length, self.special.end, self.special.never)
        texts = jax.device_get(write(self.params, context, jnp.array([prompt], jnp.int32)))
        tokens = texts.tokens[0, len(prompt) : int(texts.lengths[0])]
        ended = int((tokens[-1:] == self.special.end).sum())
        return tokens[: len(tokens) - ended], float(texts.score[0])


def window_length(samples: Float[np.ndarray, " N"]) -> int:
    """How many samples the first window has; at least a second is left for the next one.

    >>> sound = np.ones(40 * RATE, np.float32)
    >>> sound[27 * RATE : 27 * RATE + TENTH] = 0
    >>> round(window_length(sound) / RATE, 2)
    27.05
    """
    if len(samples) <= SECONDS * RATE:
        return len(samples)
    longest = min(int(SECONDS * RATE), len(samples) - RATE)
    last = np.square(samples[longest - SEARCHED : longest], dtype=np.float64)
    loudness = last.reshape(-1, TENTH).sum(axis=1)
    return longest - SEARCHED + int(loudness.argmin()) * TENTH + TENTH // 2
