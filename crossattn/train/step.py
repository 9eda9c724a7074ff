"""One pure training step: state and batch in, state and metrics out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from crossattn.data.batches import Batch
from crossattn.models.packed import in_rows
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.nn.head import Targets
from crossattn.shapes import Array, Float
from crossattn.sharding import ContextParallel
from crossattn.train.accumulate import accumulate
from crossattn.train.adapters import adapters_merged, learning, with_adapters
from crossattn.train.comparison import comparing_terms, last_words
from crossattn.train.draws import dropout_rngs, shown_or_hidden, step_key
from crossattn.train.losses import NEXT_WORD, Given, Losses, layer_maps, map_terms, weighted_sum
from crossattn.train.optimizer import averaged
from crossattn.train.run import Optimizer, Run

# Up to so many logits of a batch they are one array: 64 MiB in float32.
PLAIN_LOGITS = 2**24
# Without adapters and without a moving average.
PLAIN = Optimizer()


class State(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      step: int32 scalar.
      params: that are trained, with adapters where the run has some.
      optimizer: its state.
      average: moving average of the parameters, () where the run has none.
    """

    step: Array
    params: Any
    optimizer: Any
    average: Any = ()

    @property
    def evaluated(self) -> Any:
        """The parameters that a run is judged by, as a model takes them."""
        return adapters_merged(self.average or self.params)


def model_of(
    run: Run, vocab_size: int, cell: int = 8, *, layout: ContextParallel | None = None
) -> VisionLanguageDecoder:
    """The model that a run describes; its attention goes over the devices of a layout."""
    return VisionLanguageDecoder(vocab_size, run.model, cell, layout)


def regions(batch: Batch) -> Float[Array, "B T P"]:
    """Share of each patch that the objects of each word cover; objects do not overlap."""
    texts = batch.tokens.shape[0] // batch.images.shape[0]
    coverage = jnp.repeat(batch.coverage, texts, axis=0)
    return jnp.einsum("bto,bop->btp", batch.grounded.astype(coverage.dtype), coverage)


def inputs_of(batch: Batch, visible: Array | None = None) -> dict[str, Any]:
    """What a `VisionLanguageDecoder` is given of a batch, by name; all patches where None.

    Of those, the ones that show the image.

    The region that a position is about (for context_view "truth"): all patches touched by the word
    that it predicts, or by the word that it has read where the former has none.
    """
    touched = regions(batch) > 0
    ahead = jnp.any(touched[:, 1:], axis=-1, keepdims=True)
    if visible is None:
        visible = jnp.ones((batch.coverage.shape[0], batch.coverage.shape[-1]), bool)
    if batch.shown is not None:
        visible &= batch.shown
    return {
        "tokens": batch.tokens[:, :-1],
        "images": batch.images,
        "visible": visible,
        "truth": jnp.where(ahead, touched[:, 1:], touched[:, :-1]),
        "prompt": jnp.cumsum(batch.target, axis=1)[:, :-1] == 0,
        "boxes": batch.boxes,
        "packed": batch.packed,
    }


def forward(
    model: VisionLanguageDecoder,
    params: Any,
    batch: Batch,
    visible: Array | None = None,
    observe: Callable[[Any], Any] = lambda attention: None,
    *,
    rngs: Any = None,
    targets: Targets | None = None,
    compare: bool = False,
) -> tuple[Any, ...]:
    """Logits of the next word at positions 0 .. T-2, and what `observe` saw of each layer.

    With `targets` their loss instead of logits, see `VisionLanguageDecoder`; with `compare` the
    `JointFeatures` of images and texts as well.
    """
    inputs = inputs_of(batch, visible) | ({"last": last_words(batch)} if compare else {})
    return model.apply(params, **inputs, observe=observe, targets=targets, rngs=rngs)


def losses(
    logits: Float[Array, "B T V"], batch: Batch, smoothing: float = 0.0
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Cross-entropy of the words to predict, every text having the same weight.

    With smoothing, that share of the target is spread over all words (Szegedy et al. 2016).
    """
    words, target, weight = _weighted(batch)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, words)
    if smoothing:
        spread = -jax.nn.log_softmax(logits).mean(axis=-1)
        cross_entropy += smoothing * (spread - cross_entropy)
    loss = (cross_entropy * weight).sum() / len(batch.tokens)
    return loss, {"loss": loss, "accuracy": _share(jnp.argmax(logits, axis=-1) == words, target)}


def _weighted(batch: Batch) -> tuple[Any, Any, Any]:
    """Words, which are to be predicted, and the weight of each among those of its text."""
    words, target = batch.tokens[:, 1:], batch.target[:, 1:].astype(jnp.float32)
    every = [words, target, target / jnp.maximum(target.sum(axis=1, keepdims=True), 1.0)]
    if batch.packed is not None:
        every = [in_rows(batch.packed, x) for x in every]
    return every[0], every[1], every[2]


def _share(right: Any, target: Any) -> Array:
    return (right.astype(jnp.float32) * target).sum() / jnp.maximum(target.sum(), 1.0)


def objective(
    model: VisionLanguageDecoder,
    params: Any,
    batch: Batch,
    smoothing: float = 0.0,
    rngs: Any = None,
    *,
    terms: Losses = NEXT_WORD,
    average: Any = (),
    visible: Array | None = None,
    key: Any = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted sum of the terms of a loss, and metrics.

    The term of the next word is `losses`, that of many words without all of their logits at once.
    Where there are others, each is a metric, like "loss/attention", and "loss" is their sum. The
    accuracy of words is among the metrics where the next word has a weight.

    `average` are the averaged parameters, for terms that read them; by `key` wrong captions and
    images are drawn, for matching.
    """
    if terms.plain:
        return _next_word(model, params, batch, smoothing, rngs, visible=visible)[0]
    looks: Any = {"observe": layer_maps} if terms.reads_attention else {}
    looks["visible"] = visible
    asked = looks | {"compare": terms.compares}
    (next_word, metrics), maps, *features = _next_word(
        model, params, batch, smoothing, rngs, **asked
    )
    found, metrics = ({"next_word": next_word}, metrics) if terms.next_word else ({}, {})
    for one in features:
        again = lambda other: forward(model, params, other, rngs=rngs, compare=True)[2].match
        compared, right = comparing_terms(terms, one, batch, again, key)
        found, metrics = found | compared, metrics | right
    if terms.reads_attention:
        teacher = None
        if terms.reads_average:
            teacher = forward(model, jax.lax.stop_gradient(average), batch, **looks)[1]
        given = Given(terms, maps, teacher, regions(batch), batch.target, batch.tokens)
        found |= map_terms(given)
    loss, each = weighted_sum(terms, found)
    return loss, {**metrics, "loss": loss, **each}


def _next_word(model, params, batch, smoothing, rngs, **looks):
    """The loss of the next word and its metrics, and what else `forward` returns."""
    words, target, weight = _weighted(batch)
    if words.size * model.vocab_size <= PLAIN_LOGITS:
        logits, *others = forward(model, params, batch, rngs=rngs, **looks)
        return losses(logits, batch, smoothing), *others
    targets = Targets(words, weight / len(batch.tokens), smoothing)
    (loss, right), *others = forward(model, params, batch, rngs=rngs, targets=targets, **looks)
    return (loss, {"loss": loss, "accuracy": _share(right, target)}), *others


def initial_state(
    model: VisionLanguageDecoder,
    optimizer: Any,
    seed: Any,
    batch: Batch,
    settings: Optimizer = PLAIN,
) -> State:
    """The state before the first step: a pure function of the seed and of the batch's shapes.

    Of the settings, adapters and the moving average are read.
    """
    key = jax.random.fold_in(jax.random.key(0), seed)
    (B, T), (images, _, P) = batch.tokens.shape, batch.coverage.shape
    # Lazy: the forward pass is traced but not compiled. Parameters are the same over all devices as
    # on one, and this batch may be one process's part, which does not divide over all.
    params = model.clone(layout=None).lazy_init(
        key,
        jax.ShapeDtypeStruct((B, T - 1), jnp.int32),
        jax.ShapeDtypeStruct(batch.images.shape, batch.images.dtype),
        visible=jax.ShapeDtypeStruct((images, P), jnp.bool),
        truth=jax.ShapeDtypeStruct((B, T - 1, P), jnp.bool),
        prompt=jax.ShapeDtypeStruct((B, T - 1), jnp.bool),
        boxes=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch.boxes),
    )
    params = with_adapters(jax.random.fold_in(key, 1), params, settings)
    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(params)
    copy = jax.tree.map(jnp.copy, params) if settings.ema else ()
    return State(jnp.zeros((), jnp.int32), params, state, copy)


def train_step(
    model: VisionLanguageDecoder,
    optimizer: Any,
    state: State,
    batch: Batch,
    learning_rate: Float[Array, ""] | float,
    run: Run,
    *,
    parts: int = 1,
) -> tuple[State, dict[str, Array]]:
    """One update by the settings of a run. Metrics: those of `objective`, norm of the gradient.

    The batch is computed in so many `parts`, one after the other; the accuracy is then the mean of
    theirs. In the first `run.pretrain_text_steps` no word sees an image, and nothing is frozen.
    """
    settings, terms, text_steps = run.optimizer, run.loss, run.pretrain_text_steps
    shown = state.step >= text_steps if text_steps else None

    def loss(params, batch):
        rngs = dropout_rngs(model.config.dropout, state.step, batch)
        params, average = learning(params, settings, shown), adapters_merged(state.average)
        batch, visible = (batch, None) if shown is None else shown_or_hidden(batch, shown)
        key = step_key("matching", state.step, batch) if terms.matching else None
        given = {"terms": terms, "average": average, "visible": visible, "key": key}
        return objective(model, params, batch, run.label_smoothing, rngs, **given)

    gradient, metrics = accumulate(
        lambda part: jax.grad(loss, has_aux=True)(state.params, part),
        batch,
        parts=parts,
        units=batch.units,
    )
    # optax mixes dtypes by NumPy's rules.
    with jax.numpy_dtype_promotion("standard"):
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        updates = jax.tree.map(lambda update: learning_rate * update, updates)
        params = optax.apply_updates(state.params, updates)
    average = averaged(state.average, params, state.step, settings.ema)
    return State(state.step + 1, params, optimizer_state, average), metrics


def all_finite(metrics: dict[str, Any]) -> bool:
    """Whether a step's metrics show a healthy update."""
    return all(np.isfinite(value) for value in metrics.values())
