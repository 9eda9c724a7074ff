"""The typed description of one training run: what a configuration fills and a suite varies."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import optax

from crossattn import renamed
from crossattn.fields import changed, flat, positive, settle
from crossattn.models.decoder import Context, Fusion
from crossattn.nn.layers.patch_encoder import ImageEncoder

# Parts of a run that had another name in the release before.
FORMER = {"optimiser": "optimizer"}
__getattr__ = renamed.names(__name__, Optimiser="Optimizer")

Task = Literal["question", "caption", "refer"]

# Fields of Data that are not for every source, with those that they are for.
ONLY_FOR = {
    "features": ("scenes", "easy_vqa"),
    "noise": ("scenes",),
    "flip": ("easy_vqa", "tfds"),
    "seed": ("scenes",),
    "directory": ("tfds",),
    "image_size": ("tfds",),
    "image_feature": ("tfds",),
    "question_feature": ("tfds",),
    "answer_feature": ("tfds",),
    "caption_feature": ("tfds",),
}


def for_source(field: str, source: str) -> None:
    """Make sure that a source takes a field of Data.

    Raises:
      ValueError: it does not; names the sources that do.
    """
    sources = ONLY_FOR.get(field, (source,))
    if source not in sources:
        named = " and ".join(sources)
        raise ValueError(f"data.{field} is for source {named}, not for {source}")


@dataclasses.dataclass(frozen=True)
class Data:
    """What the model learns from."""

    source: Literal["scenes", "easy_vqa", "tfds"] = "scenes"
    """Where examples come from: generated scenes, the package easy-vqa, or a TFDS directory."""
    images: int = 10_000
    """Number of training images; scenes come in multiples of 100, 0 means all (not scenes)."""
    evaluation_images: int = 1_000
    """Number of images in each evaluation split; 0 means all (not scenes)."""
    texts_per_image: int = 2
    """Texts of each image in a batch: the image is encoded once for all of them."""
    tasks: tuple[Task, ...] = ("question", "caption")
    """Texts to learn, of those that the source has (easy_vqa has questions only); without questions
    runs are judged by their captions."""
    features: str = ""
    """Folder of train.npy and one file for each split, (images, patches, width): what another
    encoder makes of the images, for image_encoder features (experiments.evaluate --features)."""
    noise: float = 0.1
    """Standard deviation of the noise on symbolic features (image_encoder oracle)."""
    flip: bool = False
    """Mirror training pictures from left to right at random (pictures only)."""
    seed: int = 0
    """Seed of generated data: all variants and seeds of a suite share it."""
    directory: str = ""
    """Prepared TFDS directory, that of one version: with dataset_info.json and shards (tfds)."""
    image_size: int = 64
    """Side of the square that pictures are squeezed into, in pixels; a multiple of 8 (tfds)."""
    image_feature: str = ""
    """Path of the picture among the features; found by its name when not given (tfds)."""
    question_feature: str = ""
    """Path of the question, like question_answer/question; found when not given (tfds)."""
    answer_feature: str = ""
    """Path of the answer; found beside the question when not given (tfds)."""
    caption_feature: str = ""
    """Path of the caption, like captions/text; found by its name when not given (tfds)."""

    def __post_init__(self):
        settle(self, "data.")
        positive("data.", texts_per_image=self.texts_per_image, image_size=self.image_size)
        if self.image_size % 8:
            raise ValueError(f"data.image_size {self.image_size} is not a multiple of 8")
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != field.default:
                for_source(field.name, self.source)
        if self.images < 0 or self.evaluation_images < 0:
            raise ValueError("data.images and data.evaluation_images cannot be negative")
        if self.noise < 0 or self.seed < 0:
            raise ValueError("data.noise and data.seed cannot be negative")
        self._check_tasks()

    def _check_tasks(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"data.tasks are one or more different tasks, got {self.tasks}")
        if "refer" in self.tasks and self.source != "scenes":
            raise ValueError(f"data.tasks refer is for source scenes, not for {self.source}")
        if self.source == "easy_vqa" and "question" not in self.tasks:
            raise ValueError("data.tasks: easy_vqa has questions only")


@dataclasses.dataclass(frozen=True)
class Model:
    """The decoder and how it is joined to the image."""

    fusion: Fusion = "cross-attention"
    """How text and image are joined."""
    image_encoder: ImageEncoder = "oracle"
    """What the model perceives of an image: symbolic patches, or pixels in three ways."""
    contexts: tuple[Context, ...] = ("image",)
    """Modalities beside the text: the image, the boxes of its objects (scenes only), or both."""
    latents: int = 16
    """Latents of the fusion resampler: how many tokens it makes of an image."""
    width: int = 64
    """M, width of both streams."""
    layers: int = 2
    """L, number of decoder blocks."""
    heads: int = 4
    """H, heads of each attention; a divisor of the width."""
    expansion: int = 2
    """Hidden width of the feed-forward layers, in units of the width."""

    def __post_init__(self):
        settle(self, "model.")
        positive("model.", width=self.width, layers=self.layers, heads=self.heads)
        positive("model.", expansion=self.expansion, latents=self.latents)
        if not self.contexts or len(set(self.contexts)) < len(self.contexts):
            raise ValueError(
                f"model.contexts are one or more different modalities, got {self.contexts}"
            )
        if self.width % self.heads:
            raise ValueError(f"model.width {self.width} is not a multiple of heads {self.heads}")


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
    ema: float = 0.0
    """Decay of a moving average of the parameters, which is evaluated; 0 has none, 0.999 is one."""

    def __post_init__(self):
        settle(self, "optimizer.")
        positive("optimizer.", learning_rate=self.learning_rate, clip=self.clip)
        for name in ("warmup", "ema"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise ValueError(f"optimizer.{name} is a share in [0, 1), got {share}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay cannot be negative, got {self.weight_decay}")
        if self.name == "muon" and not hasattr(optax.contrib, "muon"):
            raise ValueError(f"optimizer.name muon is not in optax {optax.__version__}")


@renamed.arguments(**FORMER)
@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that decides a training run but its seed and its variant's name."""

    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    steps: int = 1_000
    """Optimisation steps."""
    batch_size: int = 64
    """Texts in a batch; a multiple of data.texts_per_image."""
    label_smoothing: float = 0.0
    """Share of the target that all words have in equal parts (training only)."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""

    def __post_init__(self):
        settle(self)
        positive(steps=self.steps, batch_size=self.batch_size)
        positive(checkpoint_every=self.checkpoint_every)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is a share in [0, 1), got {self.label_smoothing}")
        if self.batch_size % self.data.texts_per_image:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of "
                f"data.texts_per_image {self.data.texts_per_image}"
            )
        image_encoder = self.model.image_encoder
        if self.data.features and image_encoder != "features":
            raise ValueError(
                f"data.features is for model.image_encoder features, not {image_encoder}"
            )
        if self.data.noise != Data.noise and image_encoder != "oracle":
            raise ValueError(f"data.noise is for model.image_encoder oracle, not {image_encoder}")


def replace(run: Run, changes: Mapping[Any, Any]) -> Run:
    """A run with some fields changed, named by dotted path.

    Raises:
      ValueError: there is no such field, or the values do not go together.

    Example:
      >>> replace(Run(), {"model.fusion": "blind", "steps": 10}).model.fusion
      'blind'
    """
    return changed(run, present(changes))


def present(changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Changes whose fields have their present names: those of the release before are warned of.

    Example:
      >>> with warnings.catch_warnings(action="ignore"):
      ...     present({"optimiser.clip": 0.5})
      {'optimizer.clip': 0.5}
    """
    found = {}
    for path, value in changes.items():
        first, dot, rest = path.partition(".") if isinstance(path, str) else (path, "", "")
        name = f"{FORMER[first]}{dot}{rest}" if first in FORMER else path
        if name != path:
            said = f"{path} is now {name}"
            if name in changes:
                raise ValueError(f"{said}: give one of them")
            warnings.warn(said, DeprecationWarning, stacklevel=3)
        found[name] = _renamed(value) if name == "model.contexts" else value
    return found


def _renamed(contexts: Any) -> Any:
    """Modalities by their present names: "layout" is the former name of "boxes"."""
    if not isinstance(contexts, tuple | list) or "layout" not in contexts:
        return contexts
    warnings.warn("model.contexts layout is now boxes", DeprecationWarning, stacklevel=4)
    return tuple("boxes" if one == "layout" else one for one in contexts)


def materials(run: Run) -> dict[str, Any]:
    """What decides the data of a run, by dotted path: the same for all variants of a suite."""
    data = flat({"data": dataclasses.asdict(run.data)})
    # What batches are made of the same images and texts.
    for field in ("texts_per_image", "flip"):
        del data[f"data.{field}"]
    image_encoder = run.model.image_encoder
    kind = "pixels" if image_encoder in ("patch", "conv") else image_encoder
    return {**data, "model.image_encoder": kind, "model.contexts": "boxes" in run.model.contexts}
