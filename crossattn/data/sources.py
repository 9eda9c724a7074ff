"""Where examples come from: one registry, and one contract for every source of data.

A source is a file that makes a `Source`: its settings, and a function that loads a `Dataset`. To
add one, write the file and name it in `SOURCES`. One outside of this package needs no line here:
`--data.source mypkg.mydata:load` names a `Source`, or a function `load(settings) -> Dataset`.
"""

import dataclasses
import difflib
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from crossattn.data.dataset import Dataset
from crossattn.data.errors import DataError, one_line
from crossattn.fields import positive, settle

__all__ = ["SOURCES", "Data", "PictureData", "Settings", "Source", "find_source", "load_source"]

SOURCES = {
    "scenes": "crossattn.data.scenes.source:SCENES",
    "easy_vqa": "crossattn.data.easy_vqa.source:EASY_VQA",
    "tfds": "crossattn.data.tfds.source:TFDS",
    "folder": "crossattn.data.folder.source:FOLDER",
    "recordings": "crossattn.data.recordings.source:RECORDINGS",
    "coco_captions": "crossattn.data.published.source:COCO_CAPTIONS",
    "karpathy": "crossattn.data.published.source:KARPATHY",
    "flickr30k_entities": "crossattn.data.published.source:FLICKR30K_ENTITIES",
    "refcoco": "crossattn.data.published.source:REFCOCO",
    "vqa_v2": "crossattn.data.published.source:VQA_V2",
    "gqa": "crossattn.data.published.source:GQA",
    "clevr": "crossattn.data.published.source:CLEVR",
    "nlvr2": "crossattn.data.published.source:NLVR2",
    "hf_dataset": "crossattn.data.published.source:HF_DATASET",
    "webdataset": "crossattn.data.published.source:WEBDATASET",
}
Task = Literal["question", "caption", "refer", "match"]
# Encoders that read pixels of 8 bits; the others read features of patches.
PIXELS = ("patch", "window", "conv")


@dataclasses.dataclass(frozen=True)
class Data:
    """What the model learns from: the settings that every source takes.

    A source adds its own in a class that extends this one, and `Data(source="tfds", ...)` makes one
    of that class.

    Raises:
        ValueError: there is no such source, or it does not take a setting or a value of it.

    Example:
        >>> type(Data(noise=0.2)).__name__
        'ScenesData'
        >>> Data(source="easy_vqa", noise=0.2)
        Traceback (most recent call last):
          ...
        ValueError: data.noise is for source scenes, not for easy_vqa
    """

    source: str = "scenes"
    """scenes (generated), easy_vqa (a package), tfds, folder or recordings (a directory), a
    published set (coco_captions, karpathy, flickr30k_entities, refcoco, vqa_v2, gqa, clevr, nlvr2),
    hf_dataset or webdataset (directories of tables), or MODULE:NAME."""
    images: int = 10_000
    """Number of training images; scenes come in multiples of 100, 0 means all (not scenes)."""
    evaluation_images: int = 1_000
    """Number of images in each evaluation split; 0 means all (not scenes)."""
    texts_per_image: int = 2
    """Texts of each image in a batch: the image is encoded once for all of them."""
    packing: int = 0
    """Images whose texts share a row of a training batch, one behind the other and each for itself,
    so that less of it is padding; 0: each text has a row of its own."""
    tasks: tuple[Task, ...] = ("question", "caption")
    """Texts to learn, of those that the source has (easy_vqa has questions only); without questions
    runs are judged by their captions."""

    def __new__(cls, source: str = "scenes", *rest: Any, **given: Any) -> "Data":
        """An object of the class that the source has for its settings."""
        if cls is not Data:
            return object.__new__(cls)
        found = find_source(str(source))
        for name in given:
            found.refuse_foreign(name)
        return object.__new__(found.settings)

    def __getnewargs__(self) -> tuple[str]:
        return (self.source,)

    def __post_init__(self):
        settle(self, "data.")
        positive("data.", texts_per_image=self.texts_per_image)
        if self.packing < 0:
            raise ValueError(f"data.packing is a number of images, got {self.packing}")
        if self.images < 0 or self.evaluation_images < 0:
            raise ValueError("data.images and data.evaluation_images cannot be negative")
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"data.tasks are one or more different tasks, got {self.tasks}")
        source = find_source(self.source)
        source.check_tasks(self.tasks)
        if type(self) is not source.settings:
            what = f"{type(self).__name__}, expected {source.settings.__name__}"
            raise ValueError(f"the settings of data.source {self.source} are {what}")

    @staticmethod
    def kind_of(described: Mapping[str, Any]) -> type["Data"]:
        """The class of settings that a description in JSON is of."""
        return find_source(str(described.get("source"))).settings

    def kind_for(self, changes: Mapping[str, Any]) -> type["Data"]:
        """The class of these settings once they are changed: that of their source.

        Raises:
            ValueError: there is no such source, or it does not take what is set or changed.
        """
        source = find_source(str(changes.get("source", self.source)))
        fields = dataclasses.fields(self)
        differing = (field.name for field in fields if getattr(self, field.name) != field.default)
        for name in (*changes, *differing):
            source.refuse_foreign(name)
        return source.settings


@dataclasses.dataclass(frozen=True)
class EncodedData(Data):
    """Settings of a source that is held in memory: features can stand for its images, and other
    images of a batch for each other."""

    features: str = ""
    """Folder of train.npy and one file for each split, (images, patches, width): what another
    encoder makes of the images, for image_encoder features (experiments.evaluate --features)."""
    mismatched: float = 0.0
    """Share of the images of a training batch in whose place another one of the batch stands: their
    texts are about an image that is not there."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.mismatched < 1:
            raise ValueError(f"data.mismatched is a share in [0, 1), got {self.mismatched}")


@dataclasses.dataclass(frozen=True)
class FlippedData(Data):
    """Settings of a source whose pictures mean the same when they are mirrored."""

    flip: bool = False
    """Mirror training pictures from left to right at random."""


@dataclasses.dataclass(frozen=True)
class PictureData(FlippedData, EncodedData):
    """Settings of pictures that are held in memory; those of a plain function `load`."""


class Settings(NamedTuple):
    """What a source is asked for.

    Attributes:
        data: the settings, in the class that the source has for them.
        image_encoder: what reads the images: "oracle" and "features" take float32 features of
            patches (N, P, F), the others pixels (N, height, width, 3) of uint8 in cells of 8 x 8.
        window: cells along a side of what the encoder sees at once.
        boxes: whether `Examples.boxes` are wanted, a modality beside the image.
    """

    data: Any
    image_encoder: str
    window: int = 1
    boxes: bool = False


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of data.

    Attributes:
        name: as `data.source` has it.
        load: makes the data that settings ask for.
        settings: the class of its settings, which extends `Data`.
        image_encoders: window by encoder that can read its images, see `Settings`.
        tasks: the kinds of texts that it can give.
        boxes: whether it can give boxes as a modality.
    """

    name: str
    load: Callable[[Settings], Dataset]
    settings: type[Data] = PictureData
    image_encoders: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {"oracle": 1, "patch": 1, "window": 2, "conv": 1, "features": 1}
    )
    tasks: tuple[str, ...] = ("question", "caption")
    boxes: bool = False

    def check_tasks(self, tasks: tuple[str, ...]) -> None:
        """Make sure that it has what is to be learnt.

        Raises:
            ValueError: it does not.
        """
        for task in set(tasks) - {*self.tasks, *Data.tasks}:
            others = _and([name for name in SOURCES if task in find_source(name).tasks])
            raise ValueError(f"data.tasks {task} is for source {others}, not for {self.name}")
        if set(tasks).isdisjoint(self.tasks):
            there = " and ".join(f"{task}s" for task in self.tasks)
            raise ValueError(f"data.tasks: {self.name} has {there} only")

    def refuse_foreign(self, name: str) -> None:
        """Raise a ValueError where a setting is that of other sources, not of this one."""
        if name not in self.fields():
            others = [other for other in SOURCES if name in find_source(other).fields()]
            if others:
                where = _and(others)
                raise ValueError(f"data.{name} is for source {where}, not for {self.name}")

    def fields(self) -> set[str]:
        """The names of its settings."""
        return {field.name for field in dataclasses.fields(self.settings)}


def _and(names: list[str]) -> str:
    """Names of sources in a sentence; several published sets are called so."""
    published = [name for name in names if ".published." in SOURCES[name]]
    others = [name for name in names if name not in published]
    return " and ".join([*others, "published sets"] if len(published) > 1 else names)


@functools.cache
def find_source(name: str) -> Source:
    """A source by its name in `SOURCES`, or by its place in a package.

    Raises:
        ValueError: there is none, or what is there is none.

    Example:
        >>> find_source("scenes").tasks
        ('question', 'caption', 'refer', 'match')
        >>> find_source("sceens")
        Traceback (most recent call last):
          ...
        ValueError: data.source has no 'sceens': did you mean scenes? Your own is MODULE:NAME
    """
    module, colon, attribute = SOURCES.get(name, name).partition(":")
    if not (colon and module and attribute):
        near = difflib.get_close_matches(name, SOURCES, n=1)
        known = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(SOURCES)}."
        raise ValueError(f"data.source has no {name!r}: {known} Your own is MODULE:NAME")
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # whatever another's module raises
        why = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"data.source {name}: cannot import {module} ({why})") from None
    found = getattr(imported, attribute, None)
    if found is None:
        there = ", ".join(key for key in vars(imported) if not key.startswith("_"))
        raise ValueError(f"data.source {name}: {module} has no {attribute}; it has {there}")
    if isinstance(found, Source):
        return found if name in SOURCES else dataclasses.replace(found, name=name)
    if isinstance(found, type) or not callable(found):
        raise ValueError(
            f"data.source {name}: expected a Source or a function load(settings) that returns a "
            f"Dataset, {attribute} is {type(found).__name__} {one_line(found)}"
        )
    return Source(name, found)


def load_source(data: Data, image_encoder: str, *, boxes: bool = False) -> Dataset:
    """Load what settings ask for, and check it.

    Raises:
        ValueError: the source does not take these settings, or what it returned is no data.
        ModuleNotFoundError: the source needs a package that is not installed.
    """
    source = find_source(data.source)
    if boxes and not source.boxes:
        others = _and([name for name in SOURCES if find_source(name).boxes])
        raise DataError(f"model.contexts boxes is for {others}, not for {source.name}")
    if image_encoder not in source.image_encoders:
        raise DataError(
            f"model.image_encoder {image_encoder!r} is not for {source.name}: "
            f"choose one of {', '.join(source.image_encoders)}"
        )
    window = source.image_encoders[image_encoder]
    dataset = source.load(Settings(data, image_encoder, window, boxes))
    if not isinstance(dataset, Dataset):
        what = type(dataset).__name__
        raise DataError(f"data.source {source.name} returned a {what}, expected a Dataset")
    dataset = dataclasses.replace(dataset, window=window)
    try:
        pixels = None if image_encoder == "features" else image_encoder in PIXELS
        dataset.check(pixels=pixels, boxes=boxes)
    except ValueError as error:
        raise DataError(f"data.source {source.name}: {error}") from None
    return dataset
