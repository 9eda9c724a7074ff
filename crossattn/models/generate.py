"""Texts word by word from any decoder: greedy, sampled or by beam search, in one compiled loop."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn import renamed
from crossattn.models.arguments import (
    check_cache,
    check_words,
    integer,
    lengths_of,
    prompt_of,
    tokens_of,
)
from crossattn.models.beam import Beam
from crossattn.models.hoist import hoisted
from crossattn.models.logits import Hook, edited
from crossattn.models.sampling import GREEDY, Greedy, OneText, Sample
from crossattn.models.writer import Writer, first_of_each, read_back, repeated_for
from crossattn.ops.reference import precision
from crossattn.shapes import Array

__all__ = ["Beam", "Greedy", "Sample", "Texts", "generate"]

Step = Callable[[Any, Array, Array], tuple[Array, Any, Any]]


class Texts(NamedTuple):
    """What was written.

    Attributes:
      tokens: (B, P + length) int32, every prompt with what was written behind it, then `pad_id`.
      lengths: (B,) int32, how many of them count: prompt, written words and the end if it was met.
      score: (B,) sum of the log-probabilities of the written words, the end included; under `Beam`
        divided by the number of written words to the power of its length penalty.
      observed: leaves (B, P + length, ...), what `step` observed when it read the token at that
        position, in the beam that won; zeros from the last token on, which is never read.
    """

    tokens: Any
    lengths: Any
    score: Any
    observed: Any


@renamed.arguments(end="eos_id", pad="pad_id", how="strategy")
def generate(
    step: Step,
    cache: Any,
    prompt: Any,
    *,
    length: int,
    eos_id: Any,
    pad_id: Any = 0,
    strategy: Greedy | Sample | Beam = GREEDY,
    key: Array | None = None,
    lengths: Any = None,
    logits: Hook | Sequence[Hook] = (),
    prefill: Step | None = None,
) -> Texts:
    """Write behind a prompt, word by word, until every row has ended.

    One `while_loop`: call it under `jax.jit`, with `length`, `strategy` and `logits` static. What
    is the same at every step (parameters, a projected context) belongs into `step` itself, and
    what it makes of these alone is computed once, before the loop; `cache` is only what grows with
    the text. The prompt is read in the same loop, one token at a time, unless `prefill` reads it in
    one pass: then the loop starts where the first row is written on, and only what longer prompts
    have behind this place is read by both.

    Where a step gives no word a chance, all its logits being -inf, or gives one that is NaN or
    +inf, the text of that row ends before this word: `pad_id` stands there, and the score is -inf
    or NaN.

    Args:
      step: `step(cache, tokens (N,) int32, position () int32)` reads one token per row, which
        stands at this position of every row, and returns `(logits (N, V) of the next one, cache,
        observed)`; `observed` is any pytree with leaves (N, ...), or None. N = B * strategy.beams,
        the beams of a row being neighbours.
      cache: what `step` is first called with: leaves (L, N, ...), axis 0 being for example layers.
        Beams that change places take their rows along. A `KVCache`, anywhere in it, says how many
        tokens fit; of other caches nobody can tell.
      prompt: (B, P) integers, the first tokens of every row, at least one; an array or lists.
      length: how many words are written at most.
      eos_id: the word after which a row has ended, or several, or None.
      pad_id: what stands behind the end.
      strategy: `Greedy()`, `Sample(...)` or `Beam(...)`.
      key: random key, required by `Sample`. The word at position t is drawn with `fold_in(key, t)`,
        for all rows at once: it depends on neither the cache nor the length of the loop.
      lengths: (B,) how many tokens of each prompt count, 1 to P: a shorter one is written on behind
        these; None = P.
      logits: a hook or several, called in order on the logits of every step, see
        `crossattn.models.logits`: `SuppressTokens`, `ForceTokens`, `RepetitionPenalty`,
        `NoRepeatNGrams`, or a function of one's own.
      prefill: `prefill(cache, tokens (B, T) int32, 0)` reads the first T tokens of every prompt at
        once, and returns what `step` returns: logits that nobody reads, the cache, and `observed`
        with leaves (B, T, ...). Beams are equal until then: the cache has one row for each text.
        `TextDecoder.decode_step` does both, so that `prefill=step` is enough. It has to be causal,
        and `step` to write over what the cache has of its place: a shorter prompt leaves there what
        it is filled up with. None: `step` reads the prompt.

    Returns:
      `Texts`; scores are in float32 (float64 for logits in float64). Prompts and lengths that are
      wrong, but are known only when the program runs, get a score of NaN.

    Raises:
      ValueError: an empty prompt, a `length` below 1, `Sample` without a key, a cache or logits
        that do not have N rows, a `KVCache` without room for all that is read; where they are
        known, tokens outside of the vocabulary and `lengths` outside of 1 to P.
      TypeError: what is no integer and has to be one.

    Example:
      >>> def count(cache, tokens, position):
      ...     return 9.0 * jax.nn.one_hot(tokens + 1, 7), cache, None
      >>> write = jax.jit(lambda prompt: generate(count, (), prompt, length=4, eos_id=(5, 6)))
      >>> texts = write(jnp.array([[1], [3]]))
      >>> texts.tokens.tolist(), texts.lengths.tolist()
      ([[1, 2, 3, 4, 5], [3, 4, 5, 0, 0]], [5, 3])
    """
    _check(strategy, key, logits)
    prompt, length, pad_id = prompt_of(prompt), integer("length", length), _pad(pad_id)
    (B, P), W = prompt.shape, strategy.beams
    lengths, ends = lengths_of(lengths, B, P), () if eos_id is None else tokens_of("eos_id", eos_id)
    if length < 1:
        raise ValueError(f"length is at least 1, got {length}: the number of words to write")
    check_cache(cache, B, W, P + length - 1)
    room = jnp.pad(jnp.asarray(prompt, jnp.int32), ((0, 0), (0, length)))
    step, shapes = hoisted(step, cache, jnp.repeat(room[:, 0], W), jnp.zeros((), jnp.int32))
    says, _, observed = shapes
    if len(says.shape) != 2 or says.shape[0] != B * W:
        raise ValueError(f"step returned logits {says.shape}: they are (N, V), with N = {B * W}")
    wrong = check_words(says.shape[1], ends, prompt, lengths)
    lengths, start = jnp.clip(jnp.asarray(lengths, jnp.int32), 1, P), jnp.zeros((), jnp.int32)
    seen = jax.tree.map(lambda leaf: jnp.zeros((P + length, *leaf.shape), leaf.dtype), observed)
    if prefill is not None and P > 1:
        # What a prompt is filled up with need not be a word.
        there = jnp.where(jnp.arange(P - 1)[None] < lengths[:, None], room[:, : P - 1], 0)
        cache, seen = _prefilled(prefill, cache, there, seen, W)
        start = lengths.min() - 1
    step = _reading(step, strategy)
    if hooks := (logits,) if callable(logits) else tuple(logits):
        step = edited(step, hooks, jnp.repeat(lengths, W))
        read = jnp.where(jnp.arange(P + length)[None] < start, room, -1)
        cache = cache, jnp.repeat(read, W, axis=0)[None]
    writer = Writer(step, strategy, lengths, length, ends, key)
    first = writer.start(cache, room.T, seen, start, says.dtype)
    loop = jax.lax.while_loop(lambda loop: jnp.any(loop.state.open), writer.turn, first)
    texts = Texts(*read_back(loop, pad_id))
    if wrong is None:
        return texts
    return texts._replace(score=jnp.where(wrong, jnp.nan, texts.score))


def _prefilled(prefill, cache, tokens, seen, W):
    """The cache behind the first T tokens of every prompt, and `seen` with what they showed."""
    B, T = tokens.shape
    first = first_of_each(cache, W)
    _, after, observed = prefill(first, tokens, jnp.zeros((), jnp.int32))
    if _shapes(after) != _shapes(first):
        raise ValueError(
            f"prefill was given a cache {_shapes(first)} and returned another: {_shapes(after)}"
        )
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct((B, T, *x.shape[2:]), x.dtype), seen)
    if _shapes(observed) != _shapes(wanted):
        raise ValueError(
            f"prefill observed {_shapes(observed)}, wanted {_shapes(wanted)}: "
            f"what step observes, for {T} tokens of {B} texts"
        )
    put = lambda room, leaf: room.at[:T].set(jnp.repeat(leaf, W, axis=0).swapaxes(0, 1))
    return repeated_for(after, W), jax.tree.map(put, seen, observed)


def _shapes(tree):
    return jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", tree)


def _check(strategy, key, hooks):
    if not isinstance(strategy, OneText | Beam):
        raise TypeError(f"strategy is Greedy(), Sample(...) or Beam(...), got {strategy!r}")
    if isinstance(strategy, Sample) and key is None:
        raise ValueError("Sample needs a key: write key=jax.random.key(0)")
    if not callable(hooks) and not (
        isinstance(hooks, Sequence) and all(callable(hook) for hook in hooks)
    ):
        raise TypeError(f"logits takes a hook or several of them, got {hooks!r}")


def _reading(step, strategy):
    """The step with logits as the strategy reads them, at least in float32."""

    def read(cache, tokens, position):
        logits, cache, observed = step(cache, tokens, position)
        return strategy.read(logits.astype(precision(logits.dtype))), cache, observed

    return read


def _pad(pad_id):
    if (
        isinstance(pad_id, jax.Array)
        and pad_id.shape == ()
        and jnp.issubdtype(pad_id.dtype, jnp.integer)
    ):
        return pad_id.astype(jnp.int32)
    pad_id = integer("pad_id", pad_id)
    if not -(2**31) <= pad_id < 2**31:
        raise ValueError(f"pad_id is a number of 32 bits, got {pad_id}")
    return pad_id
