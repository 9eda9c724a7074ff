"""The typed description of one training run: what a configuration fills and a suite varies."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import optax

from crossattn import renamed
from crossattn.data.sources import Data
from crossattn.fields import changed, flat, positive, settle
from crossattn.models.config import VisionLanguageConfig as Model
from crossattn.models.packed import check_packing
from crossattn.nn.layers.patch_encoder import VECTORS
from crossattn.train.former import FORMER_PARTS, present
from crossattn.train.losses import NEXT_WORD, Losses

__getattr__ = renamed.former_names(__name__, Optimiser="Optimizer")

# Settings of data that say which batches are made of its images and texts.
BATCHING = (
    *("texts_per_image", "packing", "flip", "mismatched"),
    *("only_words", "curriculum_words", "curriculum_share"),
)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What is done with the gradient."""

    name: Literal["adamw", "lion", "adafactor", "muon"] = "adamw"
    """AdamW; Lion (a tenth of AdamW's learning rate); Adafactor; Muon (AdamW's learning rate)."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "rsqrt"] = "cosine"
    """The learning rate after the warm-up: falls to a tenth, stays, or falls as 1/sqrt(step)."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.01
    """Decoupled decay of all matrices."""
    clip: float = 1.0
    """Largest global norm of the gradient."""
    frozen: str = ""
    """Parameters that are not trained: a regular expression of parts of paths, such as encoder."""
    adapted: str = ""
    """Frozen kernels beside which low-rank adapters (LoRA) are trained: a regular expression as
    that of frozen, such as self_attention|mlp."""
    adapter_rank: int = 8
    """Rank of the adapters."""
    multiplied: str = ""
    """Parameters whose learning rate is rate_multiplier times that of the others: a regular
    expression as that of frozen, such as gate."""
    rate_multiplier: float = 10.0
    """Of the learning rate of what multiplied matches."""
    ema: float = 0.0
    """Decay of a moving average of the parameters, which is evaluated; 0 has none, 0.999 is one."""

    def __post_init__(self):
        settle(self, "optimizer.")
        positive("optimizer.", learning_rate=self.learning_rate, clip=self.clip)
        positive("optimizer.", adapter_rank=self.adapter_rank)
        positive("optimizer.", rate_multiplier=self.rate_multiplier)
        if self.adapted and not self.frozen:
            raise ValueError(
                "optimizer.adapted is of kernels that are frozen: set optimizer.frozen as well"
            )
        for name in ("warmup", "ema"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise ValueError(f"optimizer.{name} is a share in [0, 1), got {share}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay cannot be negative, got {self.weight_decay}")
        if self.name == "muon" and not hasattr(optax.contrib, "muon"):
            raise ValueError(f"optimizer.name muon is not in optax {optax.__version__}")


@renamed.arguments(**FORMER_PARTS)
@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that decides a training run but its seed and its variant's name."""

    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    optimizer: Optimizer = Optimizer()
    steps: int = 1_000
    """Optimisation steps."""
    batch_size: int = 64
    """Texts in a batch; a multiple of data.texts_per_image."""
    label_smoothing: float = 0.0
    """Share of the target that all words have in equal parts (training only)."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""
    loss: Losses = NEXT_WORD
    pretrain_text_steps: int = 0
    """The first so many steps train the text alone: the image is hidden. Then learning begins again
    with it, and what optimizer.frozen names is frozen from there on only."""
    initial: str = ""
    """Folder of published parameters of a text decoder that the run starts with, as
    python -m experiments.decoder writes it; all parameters are drawn when empty."""
    ignore_initial: bool = False
    """All parameters are drawn all the same: a row that shows what the published ones bring."""

    def __post_init__(self):
        settle(self)
        positive(steps=self.steps, batch_size=self.batch_size)
        positive(checkpoint_every=self.checkpoint_every)
        if not 0 <= self.pretrain_text_steps < self.steps:
            raise ValueError(
                f"pretrain_text_steps is less than steps {self.steps}, "
                f"got {self.pretrain_text_steps}"
            )
        if self.pretrain_text_steps and self.loss.reads_attention:
            raise ValueError(
                "pretrain_text_steps hides the image, and terms of loss read where words look: "
                "leave one of them out"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is a share in [0, 1), got {self.label_smoothing}")
        if self.batch_size % self.data.texts_per_image:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of "
                f"data.texts_per_image {self.data.texts_per_image}"
            )
        if self.data.packing:
            self._check_packing()
        self.loss.check(self.model, self.optimizer.ema)
        if self.loss.compares and "caption" not in self.data.tasks:
            raise ValueError("loss: images are compared with captions: add caption to data.tasks")
        if self.loss.compares and self.pretrain_text_steps:
            raise ValueError(
                "pretrain_text_steps hides the images with which loss.contrastive and "
                "loss.matching compare texts: set it to 0"
            )
        encoder = self.model.image_encoder
        if encoder in VECTORS and getattr(self.data, "flip", False):
            raise ValueError(
                f"data.flip mirrors pixels, and model.image_encoder {encoder} reads none"
            )
        for field, reads in (("features", "features"), ("noise", "oracle")):
            given = getattr(self.data, field, None) != getattr(type(self.data), field, None)
            if given and encoder != reads:
                raise ValueError(f"data.{field} is for model.image_encoder {reads}, not {encoder}")

    @property
    def texts_together(self) -> int:
        """Texts of a batch that are not taken apart: of an image, or of all images of a row."""
        return self.data.texts_per_image * max(1, self.data.packing)

    def _check_packing(self) -> None:
        """Refuse rows of texts that do not fill a batch, or whose texts would not be alone."""
        if rest := self.batch_size % self.texts_together:
            fitting = self.batch_size + self.texts_together - rest
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of data.packing "
                f"{self.data.packing} x data.texts_per_image {self.data.texts_per_image}: set it "
                f"to {fitting}"
            )
        check_packing(self.model)
        if others := [name for name in self.loss.terms if name != "next_word"]:
            raise ValueError(
                f"data.packing is for the loss of the next word, not for loss.{others[0]}: set one "
                "of them to 0"
            )


def replace(run: Run, changes: Mapping[Any, Any]) -> Run:
    """A run with some fields changed, named by dotted path.

    Raises:
      ValueError: there is no such field, or the values do not go together.

    Example:
      >>> replace(Run(), {"model.context_view": "none", "steps": 10}).model.context_view
      'none'
    """
    return changed(run, present(changes))


def materials(run: Run) -> dict[str, Any]:
    """What decides the data of a run, by dotted path: the same for all variants of a suite."""
    data = flat({"data": dataclasses.asdict(run.data)})
    for field in BATCHING:
        data.pop(f"data.{field}", None)
    image_encoder = run.model.image_encoder
    kind = "pixels" if image_encoder in ("patch", "conv") else image_encoder
    return {**data, "model.image_encoder": kind, "model.contexts": "boxes" in run.model.contexts}
