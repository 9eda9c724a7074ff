"""The data of a run: loaded by its source, cut and encoded as the run asks for."""

from typing import Any

from crossattn.data.batches import WHOLE, Batches, Share, TrainingRecords
from crossattn.data.curriculum import ALL_TEXTS, Curriculum
from crossattn.data.dataset import Dataset
from crossattn.data.examples import Examples
from crossattn.data.sources import load_source
from crossattn.train.features import with_features
from crossattn.train.run import Run

__all__ = ["Dataset", "batches_of", "load_dataset"]


def load_dataset(run: Run) -> Dataset:
    """Read or generate the data that a run names, cut to the length that its texts need.

    Raises:
      ValueError: the numbers of images, the tasks or the image encoder do not fit the source, what
        it returned is no data, or a directory cannot be read.
      ModuleNotFoundError: the source needs a package that is not installed.
    """
    encoder = run.model.image_encoder
    dataset = load_source(run.data, encoder, boxes="boxes" in run.model.contexts)
    if encoder == "features":
        dataset = with_features(dataset, getattr(run.data, "features", ""))
    return dataset.cut()


def batches_of(
    run: Run, train: Examples | TrainingRecords, seed: int, share: Share = WHOLE
) -> Batches:
    """The training batches of one seed of a run, or a share of each.

    Raises:
      ValueError: the data do not fill one batch, or have no regions that the loss is about.
    """
    if run.loss.attention and isinstance(train, Examples) and not train.grounded.any():
        raise ValueError(
            "loss.attention is about the regions of words, and no word of these data has one: "
            "set it to 0"
        )
    size, texts = run.batch_size, run.data.texts_per_image
    return Batches(
        train,
        size,
        texts_per_image=texts,
        seed=seed,
        flip=getattr(run.data, "flip", False),
        mismatched=getattr(run.data, "mismatched", 0.0),
        curriculum=_curriculum(run),
        packing=run.data.packing,
        share=share,
    )


def _curriculum(run: Run) -> Curriculum:
    """Which texts are learned when: all of them, where the source has no setting for it."""
    data: Any = run.data
    if not hasattr(data, "only_words"):
        return ALL_TEXTS
    steps = round(data.curriculum_share * run.steps)
    return Curriculum(data.only_words, data.curriculum_words, steps)
