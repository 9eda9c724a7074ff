"""What a run minimises: a weighted sum of terms, and each term of a batch."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from crossattn.align import losses as of_maps
from crossattn.fields import flat, settle
from crossattn.models.config import VisionLanguageConfig
from crossattn.models.image_attention import ImageAttention
from crossattn.shapes import Array, Bool, Float

__all__ = ["MAP_TERMS", "NEXT_WORD", "Given", "Losses", "layer_maps", "map_terms", "weighted_sum"]


@dataclasses.dataclass(frozen=True)
class Losses:
    """The weights of the terms of the loss; a term of weight 0 is not computed.

    What reads attention reads what words see of the image in the layers that read it, before
    dropout. The terms are those of `crossattn.align.losses`.
    """

    next_word: float = 1.0
    """Cross-entropy of the next word."""
    attention: float = 0.0
    """-log of the attention that falls in a word's true region."""
    attention_layers: tuple[int, ...] = ()
    """Layers whose attention is supervised, of those that read the image, the first being 0; all
    when empty."""
    attention_heads: tuple[int, ...] = ()
    """Heads whose attention is supervised; all when empty."""
    attention_words: Literal["predicted", "consumed"] = "predicted"
    """Words whose attention all terms read: at the position that predicts a word, or reads it."""
    entropy: float = 0.0
    """Normalised entropy of attention; below 0 attention is spread."""
    diversity: float = 0.0
    """How alike the attention of the heads of a layer is."""
    distillation: float = 0.0
    """KL of attention from that of a teacher."""
    distillation_teacher: Literal["mean", "average"] = "mean"
    """The mean attention of all layers and heads; or that of the moving average of the parameters,
    layer by layer and head by head (optimizer.ema)."""
    contrastive: float = 0.0
    """Cross-entropy of finding the caption of an image, and the image of a caption, among those of
    the batch (model.embedding)."""
    matching: float = 0.0
    """Binary cross-entropy of whether a caption is true of an image, of pairs and of wrong ones
    that are drawn by similarity (model.embedding)."""

    def __post_init__(self):
        settle(self, "loss.")
        for name in ("next_word", "attention", "diversity", "distillation", *COMPARING):
            if (weight := getattr(self, name)) < 0:
                raise ValueError(f"loss.{name} cannot be negative, got {weight}")
        if not self.terms:
            raise ValueError("loss: all weights are 0, so nothing would be learned")
        for name in ("attention_layers", "attention_heads"):
            numbers = getattr(self, name)
            if len(set(numbers)) < len(numbers) or min(numbers, default=0) < 0:
                raise ValueError(f"loss.{name} are different numbers from 0 on, got {numbers}")
            if numbers and not self.attention:
                raise ValueError(f"loss.{name} is for loss.attention: give it a weight")

    @property
    def terms(self) -> dict[str, float]:
        """Weight by term, of those that are computed."""
        weights = {name: getattr(self, name) for name in TERMS}
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def plain(self) -> bool:
        """Whether the loss is that of the next word, and nothing else."""
        return self.terms == {"next_word": 1.0}

    @property
    def reads_attention(self) -> bool:
        """Whether a term reads attention."""
        return any(name in MAP_TERMS for name in self.terms)

    @property
    def compares(self) -> bool:
        """Whether a term compares images with captions."""
        return any(name in COMPARING for name in self.terms)

    @property
    def reads_average(self) -> bool:
        """Whether a term reads the moving average of the parameters."""
        return bool(self.distillation) and self.distillation_teacher == "average"

    def check(self, model: VisionLanguageConfig, ema: float) -> None:
        """Make sure that a model has what the terms read.

        Raises:
          ValueError: it has not; says what to change.
        """
        for name in COMPARING:
            if getattr(self, name) and not model.embedding:
                raise ValueError(
                    f"loss.{name} compares features of images and texts: set model.embedding, as "
                    f"to {model.width}"
                )
        if self.matching and model.context_view == "none":
            raise ValueError(
                "loss.matching is about words that have read the image, model.context_view is "
                "none: set model.preset coca_decoder, or loss.matching to 0"
            )
        term = next((name for name in self.terms if name in MAP_TERMS), None)
        if term is None:
            return
        if not model.attends:
            raise ValueError(
                f"loss.{term} is about attention to patches, which model.context_view "
                f"{model.context_view} has not: set it to tokens, or loss.{term} to 0"
            )
        if "image" not in model.contexts:
            raise ValueError(f"loss.{term} is about the image: add image to model.contexts")
        block = {} if model.block is None else flat(dataclasses.asdict(model.block))
        if talking := [path for path, on in block.items() if path.endswith("talking") and on]:
            raise ValueError(
                f"loss.{term} needs attention that is a share, talking heads may go below 0: "
                f"set model.block.{talking[0]} to False"
            )
        for name, count in (("layers", model.reading_layers), ("heads", model.heads)):
            if (most := max(getattr(self, f"attention_{name}"), default=0)) >= count:
                raise ValueError(
                    f"loss.attention_{name} are 0 to {count - 1} of this model, got {most}"
                )
        if self.diversity and model.heads < 2:
            raise ValueError("loss.diversity is about pairs of heads, model.heads is 1")
        if self.reads_average and not ema:
            raise ValueError(
                "loss.distillation_teacher average is the moving average of the parameters: "
                "set optimizer.ema, as to 0.99"
            )


class Given(NamedTuple):
    """What terms that read attention are computed from.

    Attributes:
      losses: the settings.
      maps: (L, B, H, T, P) attention of the words of each reading layer.
      teacher: as `maps`, of the moving average of the parameters; None where no term reads it.
      coverage: (B, T + 1, P) share of each patch that the region of each word covers.
      target: (B, T + 1) words that are predicted.
      tokens: (B, T + 1), 0 is padding.
    """

    losses: Losses
    maps: Any
    teacher: Any
    coverage: Any
    target: Any
    tokens: Any

    @property
    def words(self) -> Bool[Array, "B T"]:
        """Positions at which attention is read."""
        if self.losses.attention_words == "predicted":
            return self.target[:, 1:]
        return self.tokens[:, :-1] != 0

    @property
    def region(self) -> Float[Array, "B T P"]:
        """What the words at these positions are about."""
        ahead = self.losses.attention_words == "predicted"
        return self.coverage[:, 1:] if ahead else self.coverage[:, :-1]


def layer_maps(seen: ImageAttention) -> Float[Array, "B H T P"]:
    """What is observed of each layer."""
    return seen.weights()


def _supervised(given: Given) -> Array:
    maps, losses = given.maps, given.losses
    for axis, numbers in ((0, losses.attention_layers), (2, losses.attention_heads)):
        if numbers:
            maps = jnp.take(maps, jnp.array(numbers), axis=axis)
    return of_maps.attention_supervision(maps, given.region[:, None], given.words[:, None])


def _entropy(given: Given) -> Array:
    return of_maps.entropy_loss(given.maps, given.words[:, None])


def _diversity(given: Given) -> Array:
    return of_maps.head_overlap(given.maps, given.words)


def _distillation(given: Given) -> Array:
    teacher = given.maps.mean(axis=(0, 2), keepdims=True)
    if given.losses.reads_average:
        teacher = given.teacher
    return of_maps.map_distillation(given.maps, teacher, given.words[:, None])


# Terms that read attention: of every layer, text and head, all of which have the same weight.
MAP_TERMS: dict[str, Callable[[Given], Array]] = {
    "attention": _supervised,
    "entropy": _entropy,
    "diversity": _diversity,
    "distillation": _distillation,
}


# Terms that compare the images of a batch with its captions.
COMPARING = ("contrastive", "matching")
# All terms. One that is added is a field of `Losses`, a name here, and a value in `objective`.
TERMS = ("next_word", *MAP_TERMS, *COMPARING)
# The loss of a run that asks for no other.
NEXT_WORD = Losses()


def map_terms(given: Given) -> dict[str, Float[Array, ""]]:
    """The terms that read attention."""
    asked = [name for name in given.losses.terms if name in MAP_TERMS]
    return {name: MAP_TERMS[name](given).mean() for name in asked}


def weighted_sum(
    losses: Losses, found: dict[str, Float[Array, ""]]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted sum of the terms that were found, and each of them as a metric.

    Example:
      >>> loss, metrics = weighted_sum(
      ...     Losses(attention=0.5), {"next_word": jnp.float32(2), "attention": jnp.float32(3)}
      ... )
      >>> float(loss), {name: float(term) for name, term in metrics.items()}
      (3.5, {'loss/next_word': 2.0, 'loss/attention': 3.0})
    """
    total = sum(weight * found[name] for name, weight in losses.terms.items())
    return jnp.asarray(total), {f"loss/{name}": term for name, term in found.items()}
