"""Published sets as the data of a run: a stream to train on, evaluation splits in memory.

`train` is trained on; `validation` and `test` are the parts that the set calls so. Where it has no
test with answers, that is every second picture of validation; where it has neither, every tenth
picture of `train` is set aside for each. docs/published_data.md has the layout of each set.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from crossattn.data.dataset import Dataset
from crossattn.data.encoded import with_encoder
from crossattn.data.errors import DataError
from crossattn.data.examples import Examples
from crossattn.data.language import BOS
from crossattn.data.originals import Originals
from crossattn.data.picture_texts import Geometry, read_examples, record_arrays
from crossattn.data.published.arrow import read_arrow
from crossattn.data.published.clevr import read_clevr
from crossattn.data.published.coco import read_coco_captions
from crossattn.data.published.flickr30k import read_flickr30k_entities
from crossattn.data.published.gqa import read_gqa
from crossattn.data.published.index import AnnotatedPictures
from crossattn.data.published.karpathy import read_karpathy
from crossattn.data.published.lines import SetReader
from crossattn.data.published.nlvr2 import read_nlvr2
from crossattn.data.published.parts import PATIENCE_SECONDS, read_all_parts
from crossattn.data.published.refcoco import read_refcoco
from crossattn.data.published.settings import (
    CaptionsData,
    PublishedData,
    RefCocoData,
    TableData,
    VqaData,
)
from crossattn.data.published.vqa import read_vqa_v2
from crossattn.data.published.webdataset import read_webdataset
from crossattn.data.samples import SEED
from crossattn.data.sources import Settings, Source
from crossattn.data.stream import StreamedRecords
from crossattn.data.survey import Survey, Tally
from crossattn.data.tokenizer import read_tokenizer

__all__ = [
    "CLEVR",
    "COCO_CAPTIONS",
    "FLICKR30K_ENTITIES",
    "GQA",
    "HF_DATASET",
    "KARPATHY",
    "NLVR2",
    "REFCOCO",
    "VQA_V2",
    "WEBDATASET",
]

# Where a set has no other pictures to be judged by, so many parts of `train` are made.
HELD_OUT_EVERY = 10
HELD_OUT_PLACE = {"validation": 0, "test": 5}
# (split, numbers of its pictures) that are evaluated on.
Numbered = tuple[AnnotatedPictures, np.ndarray]


def _loader(title: str, read: SetReader) -> Callable[[Settings], Dataset]:
    def load(settings: Settings) -> Dataset:
        data = settings.data
        if not data.directory:
            raise DataError(
                f"data.source {data.source} reads the folder of {title}: name it with "
                "--data.directory DIR (docs/published_data.md has the layout)"
            )
        gathered = read_all_parts(data, read)
        fingerprint = with_encoder(gathered.fingerprint, data.features)
        if data.fingerprint not in ("", fingerprint):
            raise DataError(
                f"the texts of {data.directory} have changed, or this version reads them "
                f"otherwise: their fingerprint is {fingerprint}, not {data.fingerprint}"
            )
        geometry = Geometry(data.image_size, settings.window)
        found = _dataset(data, geometry, gathered.splits, gathered.pairs)
        return dataclasses.replace(
            found,
            fingerprint=fingerprint,
            about=f"Pictures and texts of {title}; {data.canvas.about}.",
            notes=gathered.notes,
        )

    return load


def _dataset(
    data: PublishedData,
    geometry: Geometry,
    splits: dict[str, AnnotatedPictures],
    pairs: dict[str, AnnotatedPictures],
) -> Dataset:
    train = splits.get("train")
    if train is None:
        raise DataError(f"{data.directory} holds no text to learn")
    evaluation = _evaluation(splits)
    aside = [own for split, own in evaluation.values() if split is train]
    limit = data.evaluation_images or None
    evaluation = {name: (split, own[:limit]) for name, (split, own) in evaluation.items()}
    evaluation |= {name: (split, np.arange(len(split))) for name, split in pairs.items()}
    left = np.setdiff1d(np.arange(len(train)), np.concatenate(aside) if aside else [])
    tally = Tally(tokenizer=read_tokenizer(data.tokenizer))
    learnt = copy.copy(train)
    if most := getattr(data, "answers", 0):
        learnt.answers = frozenset(answer for answer, _ in train.counts.most_common(most))
    survey = _survey(tally, learnt, left[: data.images or None].tolist(), evaluation)
    found, masks, areas = {}, {}, {}
    originals = {"train": _originals(learnt, survey.trained)}
    for name, (split, every) in evaluation.items():
        numbers = np.array([one for one in every.tolist() if len(split.texts(one))], int)
        chosen = numbers if len(numbers) else every
        found[name], masks[name] = read_examples(split, chosen, survey, geometry)
        originals[name] = _originals(split, numbers)
        areas[name] = _areas(split, numbers, survey, geometry)
        if name in pairs:
            found[name] = _in_pairs(name, split, found[name])
    one = np.random.default_rng(SEED).choice(survey.trained, size=1)
    sample, masks["train"] = read_examples(learnt, one, survey, geometry)
    return Dataset(
        StreamedRecords(learnt, survey, geometry),
        found,
        main="test",
        outline={name: own.__getitem__ for name, own in masks.items()},
        parts_about=ABOUT,
        sample=sample,
        originals=originals,
        areas=areas,
    )


def _originals(split: AnnotatedPictures, numbers: np.ndarray) -> Originals:
    return Originals(split.keys(numbers), lambda place: split.whole(int(numbers[place])))


def _areas(
    split: AnnotatedPictures, numbers: np.ndarray, survey: Survey, geometry: Geometry
) -> Callable[[int], np.ndarray]:
    read = lambda place: record_arrays(split.unread(), int(numbers[place]), survey, geometry)
    return lambda place: read(place)["areas"]


ABOUT = {
    "validation": "Nothing trains on them; what has to be chosen is chosen here.",
    "test": "Nothing trains on them and nothing is chosen by them.",
    "testdev": "A split of the set that has no boxes.",
    "swap": "Winoground: two captions of the same words, two pictures.",
    "sugarcrepe": "SugarCrepe: a caption, and one that is wrong, of each picture.",
    "valse": "VALSE: a caption and a foil of each picture, which people judged to be one.",
}


def _evaluation(splits: dict[str, AnnotatedPictures]) -> dict[str, Numbered]:
    """Part to a split and the numbers of its pictures; parts that overlap are refused."""
    train, there = splits["train"], {name: splits[name] for name in splits if name != "train"}
    for name, split in there.items():
        _check_apart(train, split, name)
    every = {name: (split, np.arange(len(split))) for name, split in there.items()}
    if "validation" in there and "test" not in there:
        both, numbers = every["validation"]
        return every | {"validation": (both, numbers[::2]), "test": (both, numbers[1::2])}
    numbers = np.arange(len(train))
    aside = {name: (train, numbers[at::HELD_OUT_EVERY]) for name, at in HELD_OUT_PLACE.items()}
    return aside | every


def _check_apart(train: AnnotatedPictures, split: AnnotatedPictures, name: str) -> None:
    """Make sure that no picture is trained on that is evaluated on."""
    both = np.intersect1d(train.spool.keys, split.spool.keys)
    if len(both):
        place = int(np.flatnonzero(np.array(split.spool.keys) == both[0])[0])
        picture = split.spool.value(place)[1][0]
        raise DataError(
            f"{len(both)} pictures are both in train and in {name}, like {picture}: a set that "
            "divides its pictures is expected (RefCOCOg: --data.split-by umd)"
        )


def _survey(
    tally: Tally, train: AnnotatedPictures, left: list[int], evaluation: dict[str, Numbered]
) -> Survey:
    """What the texts need, and which of the pictures that are left are trained on."""
    trained = []
    for index in tqdm(left, desc="counting words", delay=PATIENCE_SECONDS):
        record = train.texts(index)
        if len(record):
            trained.append(index)
            tally.add(record)
    if not trained:
        raise DataError("its training part holds no text to learn")
    for split, numbers in evaluation.values():
        for index in numbers.tolist():
            tally.add(split.texts(index), learnt=False)
    return tally.survey(trained, {})


def _in_pairs(name: str, split: AnnotatedPictures, found: Examples) -> Examples:
    """Rows in the order that pairs are scored in, with the part of the set as their kind.

    All words are scored: one that training has not makes its caption unlikely, as it should.
    """
    found = dataclasses.replace(found, target=(found.tokens > 0) & (found.tokens != BOS))
    if name == "swap":
        # Caption 0 with picture 0 and 1, caption 1 with picture 0 and 1.
        return found.rows(np.arange(len(found)).reshape(-1, 2, 2).swapaxes(1, 2).ravel())
    parts = [split.lines(index)[0].kind for index in range(len(split))]
    kinds = tuple(sorted(set(parts)))
    kind = np.repeat([kinds.index(part) for part in parts], 2).astype(np.int8)
    return dataclasses.replace(found, kinds=kinds, kind=kind)


def _source(name: str, title: str, read: SetReader, settings: Any, *tasks: str) -> Source:
    encoders = {"patch": 1, "window": 2, "conv": 1}
    if name != "nlvr2":  # two pictures together are not what an encoder reads
        encoders["features"] = 1
    return Source(name, _loader(title, read), settings, image_encoders=encoders, tasks=tasks)


COCO_CAPTIONS = _source(
    "coco_captions", "COCO captions", read_coco_captions, CaptionsData, "caption"
)
KARPATHY = _source(
    "karpathy", "captions as Karpathy divides them", read_karpathy, CaptionsData, "caption"
)
FLICKR30K_ENTITIES = _source(
    "flickr30k_entities", "Flickr30k Entities", read_flickr30k_entities, CaptionsData, "caption"
)
REFCOCO = _source("refcoco", "RefCOCO, + or g", read_refcoco, RefCocoData, "caption")
VQA_V2 = _source("vqa_v2", "VQA v2", read_vqa_v2, VqaData, "question")
GQA = _source("gqa", "GQA", read_gqa, PublishedData, "question")
CLEVR = _source("clevr", "CLEVR", read_clevr, PublishedData, "question")
NLVR2 = _source("nlvr2", "NLVR2", read_nlvr2, PublishedData, "question")
HF_DATASET = _source(
    "hf_dataset", "a data set that save_to_disk wrote", read_arrow, TableData, "question", "caption"
)
WEBDATASET = _source(
    "webdataset", "WebDataset shards", read_webdataset, TableData, "question", "caption"
)
