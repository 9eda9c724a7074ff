"""What a record holds is refused where it is not what its features say, by file and record."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from crossattn.data import picture_texts
from crossattn.data.errors import DataError
from crossattn.data.picture_texts import Geometry
from crossattn.data.tfds import records as tfds_records
from crossattn.data.tfds.survey import survey
from crossattn.data.tfds.text import Names, Reader, Split, columns
from tests.support import tfds_directories as made

F = tfds.features
BOTH = ("question", "caption")


def features(**some):
    return F.FeaturesDict({"image": F.Image(), **some})


@pytest.mark.parametrize(
    ("boxes", "labels", "why"),
    [
        ([[0, 0, 1, 1.5]], [0], "no ymin, xmin, ymax, xmax in shares"),
        ([[-0.5, 0, 1, 1]], [0], "in shares"),
        ([[0, 0, np.nan, 1]], [0], "in shares"),
        ([[10, 20, 30, 40]], [0], "in shares"),
        ([[0.5, 0, 0.25, 1]], [0], "in shares"),
        ([[0, 0, 1, 1]], [2], r"labels \[2\] of 2 classes"),
        ([[0, 0, 1, 1]], [-2], r"labels \[-2\] of 2 classes"),
        ([[0, 0, 1, 1]], [0, 1], "has 1 boxes and 2 labels"),
    ],
)
def test_boxes_that_are_none_are_refused(boxes, labels, why):
    """TFDS checks boxes when it writes them; other writers need not."""
    told = {"bbox": F.BBoxFeature(), "label": F.ClassLabel(names=["cat", "dog"])}
    read = features(caption=F.Text(), **{name: F.Sequence(kind) for name, kind in told.items()})
    plain = {
        "bbox": F.Sequence(F.Tensor(shape=(4,), dtype=np.float32)),
        "label": F.Sequence(np.int64),
    }
    example = {"image": made.picture(0), "caption": "x", "bbox": boxes, "label": labels}
    written = bytes(features(caption=F.Text(), **plain).serialize_example(example))
    reader = Reader(read, columns(read, Names(), BOTH))
    assert reader.columns.boxes == "bbox"
    with pytest.raises(DataError, match=why):
        reader(written)


def test_boxes_of_an_unknown_class_are_left_out():
    read = features(
        caption=F.Text(),
        bbox=F.Sequence(F.BBoxFeature()),
        label=F.Sequence(F.ClassLabel(names=["cat", "dog"])),
    )
    example = {"image": made.picture(0), "caption": "x", "label": [-1, 1]}
    example["bbox"] = [F.BBox(0.0, 0.0, 1.0, 1.0), F.BBox(0.0, 0.0, 0.5, 0.5)]
    found = Reader(read, columns(read, Names(), BOTH))(bytes(read.serialize_example(example)))
    assert found.labels == [1]
    np.testing.assert_array_equal(found.boxes, [[0, 0, 0.5, 0.5]])


def test_a_text_that_is_not_utf_8_is_refused(tmp_path):
    """Words would lose letters in silence."""
    known = features(caption=F.Text())
    examples = [{"image": made.picture(0), "caption": "café".encode("latin-1")}]
    path = made.write_tfrecord(tmp_path, known, {"train": examples}, shards=1)
    reader = Reader(known, columns(known, Names(), BOTH))
    with pytest.raises(DataError, match=r"00000-of-00001, record 0 has a text that is not UTF-8"):
        Split(tfds_records.records(path, "train"), reader)[0]


GREY_16 = np.array([[0, 16384], [32768, 65535]], np.uint16)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no whole file of PNG"),
        (b"P5 2 2 99999\n", "cannot be decoded"),
        (made.encoded(GREY_16.astype(np.float32), "TIFF"), "real numbers from 0 to 65535"),
        (made.encoded(GREY_16.astype(np.int32), "TIFF"), "whose white is not known"),
        (made.encoded(GREY_16, "PNG"), ""),
    ],
)
def test_pictures_are_scaled_or_refused_by_file_and_record(tmp_path, image, why):
    examples = [made.vqa_example(number) for number in range(4)]
    examples[3]["image"] = image
    path = made.write_tfrecord(tmp_path / "made", made.vqa_features(), {"train": examples})
    info = tfds_records.prepared(path).info
    reader = Reader(info.features, columns(info.features, Names(), BOTH))
    split = Split(tfds_records.records(path, "train"), reader)
    found = survey(split, (), reader.columns.label_names)
    read = lambda: picture_texts.read_examples(split, [2, 3], found, Geometry(8))
    if why:
        with pytest.raises(DataError, match=rf"00001-of-00002, record 1 holds .*{why}") as caught:
            read()
        assert str(caught.value).isprintable()
    else:
        corners = read()[0].images[1, ::7, ::7, 0]
        assert corners.tolist() == [[0, 64], [128, 255]]


def test_a_truncated_picture_names_its_file_and_record(tmp_path):
    examples = [made.vqa_example(number) for number in range(4)]
    examples[3]["image"] = examples[3]["image"][:70]
    path = made.write_tfrecord(tmp_path / "made", made.vqa_features(), {"train": examples})
    info = tfds_records.prepared(path).info
    chosen = columns(info.features, Names(), BOTH)
    split = Split(tfds_records.records(path, "train"), Reader(info.features, chosen))
    found = survey(split, (), chosen.label_names)
    with pytest.raises(
        DataError, match=r"train\.tfrecord-00001-of-00002, record 1 holds a picture"
    ):
        picture_texts.record_arrays(split, 3, found, Geometry())
    # Records of other features.
    wrong = F.FeaturesDict({"image": F.Image(), "caption": F.Text()})
    reader = Reader(wrong, columns(wrong, Names(), BOTH))
    with pytest.raises(DataError, match=r"00000-of-00002, record 0 has no caption"):
        Split(split.records, reader)[0]
