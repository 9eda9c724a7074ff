"""Small prepared TFDS directories in their true forms, written without TensorFlow."""

import io
import itertools
import json
import pathlib
import struct

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from crossattn.data.tfds.tfrecord import masked_crc

COLOURS = {"red": (230, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 230)}
LABELS = ("cat", "traffic light", "dog")
HEIGHT, WIDTH = 23, 29


def vqa_features():
    features = tfds.features
    return features.FeaturesDict(
        {
            "image": features.Image(),
            "file_name": features.Text(),
            "question_answer": features.Sequence(
                {"question": features.Text(), "answer": features.Text()}
            ),
            "captions": features.Sequence({"text": features.Text(), "id": np.int64}),
            "objects": features.Sequence(
                {"bbox": features.BBoxFeature(), "label": features.ClassLabel(names=LABELS)}
            ),
        }
    )


def picture(number, form="PNG"):
    """Of one colour, with the number in one corner so that no two are equal."""
    colour = list(COLOURS.values())[number % len(COLOURS)]
    pixels = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    pixels[-3:, -3:] = number % 251
    return encoded(pixels, form)


def encoded(pixels, form):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, quality=95)
    return file.getvalue()


def vqa_example(number, form="PNG"):
    colour, label = list(COLOURS)[number % len(COLOURS)], LABELS[number % 2]
    return {
        "image": picture(number, form),
        "file_name": f"file{number}",
        "question_answer": [
            {"question": f"What COLOUR is the {label}?", "answer": colour.capitalize()},
            {"question": "is there a dog ?", "answer": "no"},
            {"question": "what is there?", "answer": label},
        ],
        "captions": [{"text": f"A {colour} {label}", "id": number}],
        "objects": [
            {"bbox": tfds.features.BBox(ymin=0.0, xmin=0.5, ymax=0.5, xmax=1.0), "label": label},
            {"bbox": tfds.features.BBox(ymin=0.5, xmin=0.5, ymax=0.75, xmax=1.0), "label": label},
        ],
    }


def serialised(features, examples):
    return [bytes(features.serialize_example(example)) for example in examples]


def tfrecord(records):
    """A TFRecord shard: length, its masked CRC, data, their masked CRC."""
    parts = []
    for record in records:
        length = struct.pack("<Q", len(record))
        parts += [length, struct.pack("<I", masked_crc(length))]
        parts += [record, struct.pack("<I", masked_crc(record))]
    return b"".join(parts)


def write_tfrecord(path, features, splits, shards=2):
    """A directory as TFDS writes it: split to examples, each split in some shards."""
    path.mkdir(parents=True, exist_ok=True)
    features.save_config(path)
    infos = []
    for split, examples in splits.items():
        records = serialised(features, examples)
        cuts = [len(records) * shard // shards for shard in range(shards + 1)]
        for shard in range(shards):
            name = f"made-{split}.tfrecord-{shard:05d}-of-{shards:05d}"
            (path / name).write_bytes(tfrecord(records[cuts[shard] : cuts[shard + 1]]))
        infos.append(
            {
                "name": split,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": str(sum(map(len, records))),
                "shardLengths": [str(b - a) for a, b in itertools.pairwise(cuts)],
            }
        )
    info = {"fileFormat": "tfrecord", "name": "made", "splits": infos, "version": "1.0.0"}
    (path / "dataset_info.json").write_text(json.dumps(info))
    return path


def write_array_record(path, features, splits):
    """A directory that TFDS itself prepares."""

    class Made(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {name: enumerate(examples) for name, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    # In a package TFDS would look for the file of the class, by a module that is not installed.
    Made.__module__ = "made"
    builder = Made(data_dir=path, file_format="array_record")
    builder.download_and_prepare()
    return pathlib.Path(str(builder.data_path))
