"""Sound to text: windows of a sound, prompts, texts and where each token listened."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.models.generate import Beam, Greedy, Sample
from crossattn.models.speech_model import SpeechModel
from crossattn.pretrained.acceptance import Acceptance, mean_logprob
from crossattn.pretrained.sound_windows import (
    next_window,
    quiet_windows,
    seeking_windows,
)
from crossattn.pretrained.speech_programs import encode, read, writer
from crossattn.pretrained.timestamps import TimestampRules, divided
from crossattn.pretrained.transcript import Segment, SpeechTokens, Transcript
from crossattn.shapes import Array, Float

__all__ = ["WHISPER_BEAM", "Segment", "SpeechTokens", "Transcriber", "Transcript", "encode", "read"]

# Radford et al. 2022, section 4.5, as OpenAI and CTranslate2 have it.
WHISPER_BEAM = Beam(5, early_stopping=True, count_end=False)
# Maps are made for a multiple of so many tokens.
AT_ONCE = 64


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
        timestamps: bool = False,
        acceptance: Acceptance = Acceptance(),  # noqa: B008 - it has no state
    ) -> Transcript:
        """The words of a sound of any length.

        A long sound is read in windows of at most 30 seconds, each of which ends at the quietest
        tenth of a second of the last 5; texts of windows are joined by a space. With time stamps
        the model says where its sentences begin and end: each is a segment, and the next window
        begins where the last whole one ends.

        Args:
          sound: (N,) samples at 16 kHz in -1..1, or a spectrogram (F, bands) by `log_mel`, of one
            window.
          language: its code, such as "de"; None: the likeliest one of the first window.
          task: "transcribe", or "translate" into English.
          strategy: `Greedy()`, or a `Beam`: that of OpenAI is `WHISPER_BEAM`.
          length: tokens a window has at most; None: half as many as the decoder has positions.
          heads: (layer, head) of which maps are returned; see `alignment_heads`.
          progress: told from when to when each window lasts, in seconds, before it is read.
          timestamps: whether they are written.
          acceptance: which windows have no text, and which texts are written again.

        Raises:
          ValueError: an unknown language, task or head, or a sound of another kind; heads, whose
            maps are those of a window, with time stamps; time stamps of a model that has none.
        """
        self._check(heads)
        if timestamps and heads:
            raise ValueError("timestamps=True gives no maps: leave heads out")
        how = _How(strategy, length, tuple(heads), timestamps, acceptance)
        found: list[Segment] = []
        done = None
        windows = (seeking_windows if timestamps else quiet_windows)(np.asarray(sound), self.bands)
        while (window := next_window(windows, done)) is not None:
            start, end, frames = window
            progress(start, end)
            context = encode(self.model, self.params, frames[None])
            if language is None and self.special.languages:
                language = self.language(context)
            prompt = self.special.prompt(language, task, timestamps=timestamps)
            segments, done = self._heard(context, prompt, start, end, how)
            found += segments
        text = " ".join(one.text for one in found if one.text)
        return Transcript(text, language, tuple(found))

    def _heard(self, context, prompt, start, end, how):
        """Segments of a window, and how many of its seconds are done."""
        tokens, score, text, logprob, silence = self._accepted(context, prompt, how)
        if how.acceptance.silent(silence, logprob):
            return [], end - start
        maps = p = None
        if how.heads:
            maps, p = self._seen(context, [*prompt, *tokens.tolist()], how.heads)
            p = p[len(prompt) - 1 :]
        if not how.timestamps or self.special.plain is None:
            own = Segment(start, end, tuple(prompt), tokens, text, score, maps, p, silence)
            return [own], end - start
        parts, done = divided(tokens.tolist(), self.special.plain, end - start)
        found = []
        for first, last, part in parts:
            begin, stop = min(start + first, end), min(start + last, end)
            some, said = np.array(part, np.int32), self._text(part)
            given = tuple(prompt), some, said, score, None, None, silence
            found.append(Segment(begin, stop, *given))
        return [one for one in found if one.text], done

    def _accepted(self, context, prompt, how):
        """Of the first text that is not poor: tokens, score, text, mean log-probability, silence.

        Silence is asked for where it matters: it takes a pass over the context.
        """
        silence = None
        tried = [how.strategy, *map(Sample, how.acceptance.temperatures)]
        for n, strategy in enumerate(tried):
            tokens, score = self._written(context, prompt, strategy, how, jax.random.key(n))
            text, logprob = self._text(tokens), mean_logprob(score, len(tokens), strategy)
            if silence is None and not how.acceptance.sure(logprob):
                silence = self.no_speech(context)
            if not how.acceptance.poor(text, logprob, silence):
                break
        return tokens, score, text, logprob, silence

    def _text(self, tokens):
        """What tokens say, without time stamps."""
        plain = self.special.plain
        words = [int(n) for n in tokens if plain is None or n < plain]
        return self.tokenizer.decode(words, skip_special_tokens=True).strip()

    def no_speech(self, context: Float[Array, "1 S N"]) -> float | None:
        """The probability that nothing is said in a context by `encode`; None: it is not known."""
        if self.special.no_speech is None:
            return None
        return float(jax.nn.softmax(self._at_start(context))[self.special.no_speech])

    def language(self, context: Float[Array, "1 S N"]) -> str:
        """The likeliest language of a context by `encode`."""
        codes, logits = list(self.special.languages), np.asarray(self._at_start(context))
        return codes[int(logits[[self.special.languages[code] for code in codes]].argmax())]

    def _at_start(self, context):
        """Logits behind the first token."""
        start = jnp.array([[self.special.start]])
        return read(self.model, self.params, start, context)[0][0, 0].astype(jnp.float32)

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

    def _written(self, context, prompt, strategy, how, key):
        room, special = self.model.decoder.length, self.special
        assert room is not None
        length = room // 2 if how.length is None else how.length
        length = min(length, room - len(prompt))
        rules: tuple[TimestampRules, ...] = ()
        if how.timestamps and special.plain is not None:
            rules = (TimestampRules(special.plain, special.end),)
        write = writer(self.model, strategy, length, special.end, special.never, rules)
        given = self.params, context, jnp.array([prompt], jnp.int32), key
        texts = jax.device_get(write(*given))
        tokens = texts.tokens[0, len(prompt) : int(texts.lengths[0])]
        ended = int((tokens[-1:] == special.end).sum())
        return tokens[: len(tokens) - ended], float(texts.score[0])


class _How(NamedTuple):
    """What is asked of each window; see `Transcriber.transcribe`."""

    strategy: Any
    length: int | None
    heads: tuple[tuple[int, int], ...]
    timestamps: bool
    acceptance: Acceptance
