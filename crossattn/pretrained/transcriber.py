"""Sound to text: windows of a sound, prompts, texts and where each token listened."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.data.audio.log_mel import RATE, log_mel
from crossattn.models.generate import Beam, Greedy, generate
from crossattn.models.speech_model import SpeechModel
from crossattn.nn.choices import known
from crossattn.shapes import Array, Float

__all__ = ["WHISPER_BEAM", "Segment", "SpeechTokens", "Transcriber", "Transcript"]

# Radford et al. 2022, section 4.5, as OpenAI and CTranslate2 have it.
WHISPER_BEAM = Beam(5, early_stopping=True, count_end=False)
SECONDS = 30.0
# A window ends at the quietest tenth of a second of its last so many seconds.
SEARCHED, TENTH = 5 * RATE, RATE // 10


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
    """

    start: int
    end: int
    plain: int | None = None
    languages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    tasks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    suppressed: tuple[int, ...] = ()
    not_first: tuple[int, ...] = ()

    @property
    def never(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens that are not written as the first word, and those that are not behind it."""
        return (*self.suppressed, *self.not_first), tuple(self.suppressed)

    def prompt(self, language: str | None, task: str) -> list[int]:
        """The tokens before a text without time stamps."""
        if not self.languages and (task != "transcribe" or language not in (None, "en")):
            raise ValueError(f"this model writes English only, got language={language!r}, {task=}")
        found = [self.start]
        if self.languages:
            known("language", language, tuple(self.languages))
            known("task", task, tuple(self.tasks))
            found += [self.languages[str(language)], self.tasks[task]]
        return found if self.plain is None else [*found, self.plain]


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
    """

    start: float
    end: float
    prompt: tuple[int, ...]
    tokens: np.ndarray
    text: str
    score: float
    maps: np.ndarray | None
    probabilities: np.ndarray | None = None


class Transcript(NamedTuple):
    """What was said: the text, its language (None of models of one), and the segments."""

    text: str
    language: str | None
    segments: tuple[Segment, ...]


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
        row = jnp.array([tokens], jnp.int32)
        logits, kept = read(self.model, self.params, row, context, which)
        kept, behind = np.asarray(kept)[:, 0], row[0, 1:, None]
        logs = jnp.take_along_axis(jax.nn.log_softmax(logits[0, :-1]), behind, axis=-1)
        place = {
            (layer, head): kept[layer, k]
            for layer, own in enumerate(chosen)
            for k, head in enumerate(own)
        }
        maps = np.stack([place[layer, head] for layer, head in heads])
        return maps, np.asarray(jnp.exp(logs[:, 0]), np.float32)

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


@functools.partial(jax.jit, static_argnums=0)
def encode(model: SpeechModel, params: Any, frames: Float[Array, "B F N"]) -> Any:
    """Context tokens of spectrograms."""
    return model.apply(params, frames, method="encode")


@functools.partial(jax.jit, static_argnums=0)
def read(model: SpeechModel, params: Any, tokens: Any, context: Any, heads: Any = None) -> Any:
    """Logits, and maps (L, B, h, T, S) of these heads (L, h) of each layer."""
    observe = lambda trace, which=None: None if which is None else trace.weights()[:, which]
    given = {"observe": observe, "others": heads, "method": "read"}
    return model.apply(params, tokens, context, **given)


@functools.cache
def writer(model: SpeechModel, strategy: Any, length: int, end: int, never: Any) -> Any:
    """The program that writes behind a prompt.

    Words are suppressed before probabilities are made of logits, as OpenAI and CTranslate2 do it;
    `SuppressTokens` is transformers' rule, under which those of a beam do not sum to 1.
    """
    gone = np.zeros((2, model.decoder.vocab_size), np.float32)
    for row, tokens in zip(gone, never, strict=True):
        row[list(tokens)] = -np.inf

    @jax.jit
    def write(params, context, prompt):
        projected = model.apply(params, context, method="project")
        rows = len(prompt) * strategy.beams
        cache = model.apply(params, rows, prompt.shape[1] + length, method="init_cache")

        def prefill(cache, tokens, position):
            given = (tokens, projected, cache, position)
            return model.apply(params, *given, method="decode_step")

        def step(cache, tokens, position):
            logits, cache, observed = prefill(cache, tokens, position)
            behind = jnp.asarray(position >= prompt.shape[1], jnp.int32)
            return logits + jnp.asarray(gone, logits.dtype)[behind][None], cache, observed

        return generate(
            step,
            cache,
            prompt,
            length=length,
            eos_id=end,
            pad_id=end,
            strategy=strategy,
            prefill=prefill,
        )

    return write
