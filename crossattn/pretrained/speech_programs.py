"""The compiled programs of a model of speech: encode, read, write."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.models.generate import generate
from crossattn.models.logits import Hook
from crossattn.models.speech_model import SpeechModel
from crossattn.shapes import Array, Float

__all__ = ["encode", "read", "writer"]


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
def writer(
    model: SpeechModel,
    strategy: Any,
    length: int,
    end: int,
    never: Any,
    rules: tuple[Hook, ...] = (),
) -> Any:
    """The program that writes behind a prompt.

    Words are suppressed before probabilities are made of logits, as OpenAI and CTranslate2 do it;
    `SuppressTokens` is transformers' rule, under which those of a beam do not sum to 1.
    """
    gone = np.zeros((2, model.decoder.vocab_size), np.float32)
    for row, tokens in zip(gone, never, strict=True):
        row[list(tokens)] = -np.inf

    @jax.jit
    def write(params, context, prompt, key):
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
            key=key,
            logits=rules,
            prefill=prefill,
        )

    return write
