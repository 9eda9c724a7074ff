"""Records of prepared directories: equal to what was written, in both forms; damage is named."""

import shutil
import sys

import numpy as np
import pytest

from crossattn.data.errors import DataError
from crossattn.data.tfds import records as tfds_records
from crossattn.data.tfds import tfrecord
from tests.support import tfds_directories as made

SPLITS = {
    "train": [made.vqa_example(number) for number in range(7)],
    "test": [made.vqa_example(number) for number in range(7, 10)],
}


@pytest.fixture(scope="module")
def features():
    return made.vqa_features()


@pytest.fixture(scope="module")
def directories(tmp_path_factory, features):
    root = tmp_path_factory.mktemp("prepared")
    return {
        "tfrecord": made.write_tfrecord(root / "tfrecord", features, SPLITS, shards=3),
        "array_record": made.write_array_record(root / "array_record", features, SPLITS),
    }


@pytest.fixture
def copy(directories, tmp_path):
    def make(form):
        return shutil.copytree(directories[form], tmp_path / form)

    return make


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_records_are_what_was_written(directories, features, form, split):
    records = tfds_records.records(directories[form], split)
    written = made.serialised(features, SPLITS[split])
    read = [records[index] for index in range(len(records))]
    # TFDS shuffles what it writes, and serialises maps in an order of its own.
    names = lambda raw: sorted(features.deserialize_example_np(x)["file_name"] for x in raw)
    assert names(read) == names(written)
    if form == "tfrecord":
        assert read == written


def test_any_order_and_no_record_beyond(directories):
    records = tfds_records.records(directories["tfrecord"], "train")
    assert [records[i] for i in (6, 0, 3)] == [list(records)[i] for i in (6, 0, 3)]
    assert "tfrecord-00002-of-00003, record 2" in records.where(6)
    with pytest.raises(IndexError):
        records[7]
    with pytest.raises(IndexError):
        records[-1]


def test_index_by_headers(tmp_path):
    file = tmp_path / "x.tfrecord"
    file.write_bytes(made.tfrecord([b"", b"abc", b"defgh"]))
    assert tfrecord.index(file).tolist() == [[12, 0], [28, 3], [47, 5]]
    file.write_bytes(b"")
    assert tfrecord.index(file).shape == (0, 2)


@pytest.mark.parametrize("kept", [-1, -5, -16, 5, 14])
def test_truncated_tfrecord_names_the_file(copy, kept):
    path = copy("tfrecord")
    shard = path / "made-train.tfrecord-00001-of-00003"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"{shard.name} is truncated in record [01]"):
        tfds_records.records(path, "train")
    assert len(tfds_records.records(path, "test")) == 3


def test_a_shard_cut_between_records_is_noticed(copy, features):
    path = copy("tfrecord")
    shard = path / "made-train.tfrecord-00002-of-00003"
    shard.write_bytes(made.tfrecord(made.serialised(features, SPLITS["train"][4:6])))
    with pytest.raises(DataError, match=r"holds 2 records, dataset_info\.json says 3"):
        tfds_records.records(path, "train")


def test_a_damaged_length_is_noticed(copy):
    path = copy("tfrecord")
    shard = path / "made-train.tfrecord-00000-of-00003"
    damaged = bytearray(shard.read_bytes())
    damaged[0] ^= 1
    shard.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match="00000-of-00003 is damaged at record 0"):
        tfds_records.records(path, "train")


def test_every_flipped_bit_of_a_tfrecord_is_noticed(tmp_path):
    """Lengths and data have checksums: whichever bit is flipped, no other data are read."""
    features = made.tfds.features.FeaturesDict({"image": made.tfds.features.Image()})
    examples = [{"image": bytes([number])} for number in range(2)]
    path = made.write_tfrecord(tmp_path / "tfrecord", features, {"train": examples}, shards=1)
    shard = path / "made-train.tfrecord-00000-of-00001"
    whole, info = shard.read_bytes(), tfds_records.prepared(path).info
    noticed = 0
    for place in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        shard.write_bytes(bytes(damaged))
        with pytest.raises(DataError, match=rf"{shard.name} is (damaged|truncated) (in|at) record"):
            list(tfds_records.opened(path, info, "train"))
        noticed += 1
    assert noticed == len(whole) * 8 > 500


def test_damaged_data_name_file_record_and_place(copy):
    path = copy("tfrecord")
    shard = path / "made-train.tfrecord-00001-of-00003"
    start, length = tfrecord.index(shard)[1].tolist()
    damaged = bytearray(shard.read_bytes())
    damaged[start + length // 2] ^= 4
    shard.write_bytes(bytes(damaged))
    records = tfds_records.records(path, "train")
    assert records[2] == made.serialised(made.vqa_features(), SPLITS["train"][2:3])[0]
    with pytest.raises(DataError) as caught:
        records[3]
    assert str(caught.value) == (
        f"{shard} is damaged in record 1 (bytes {start} to {start + length}): "
        "the checksum of its data is wrong"
    )


def test_flipped_bits_of_an_array_record_are_noticed_or_touch_no_data(copy):
    """Chunks have hashes; between them lie zeros that nobody reads."""
    path = copy("array_record")
    (shard,) = path.glob("*-train.array_record*")
    whole, info = shard.read_bytes(), tfds_records.prepared(path).info
    right = list(tfds_records.opened(path, info, "train"))
    used = np.flatnonzero(np.frombuffer(whole, np.uint8))
    chosen = np.random.default_rng(0).choice(used, 45, replace=False)
    noticed = 0
    for bit, place in enumerate(chosen.tolist()):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit % 8
        shard.write_bytes(bytes(damaged))
        try:
            read = list(tfds_records.opened(path, info, "train"))
        except DataError:
            noticed += 1
        else:
            assert read == right
    assert noticed > 40


@pytest.mark.parametrize("kept", [0, 0.5])
def test_truncated_array_record_names_the_file(copy, kept):
    path = copy("array_record")
    (shard,) = path.glob("*-train.array_record*")
    data = shard.read_bytes()
    shard.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=r"made-train\S+ is truncated or damaged"):
        tfds_records.records(path, "train")


def test_damage_inside_an_array_record_names_the_record(copy):
    path = copy("array_record")
    (shard,) = path.glob("*-train.array_record*")
    data = bytearray(shard.read_bytes())
    data[300:340] = bytes(40)
    shard.write_bytes(bytes(data))
    # To open a split reads no record, not even one at random, to check its type.
    for _ in range(20):
        records = tfds_records.records(path, "train")
    with pytest.raises(DataError, match=r"made-train\S+, record \d cannot be read"):
        list(records)


def test_a_missing_shard_and_a_missing_split(copy):
    path = copy("tfrecord")
    with pytest.raises(DataError, match="no split 'validation': it has train, test"):
        tfds_records.records(path, "validation")
    (path / "made-test.tfrecord-00001-of-00003").unlink()
    with pytest.raises(DataError, match=r"test\.tfrecord-00001-of-00003 is missing"):
        tfds_records.records(path, "test")


def test_directories_that_are_none(tmp_path, copy):
    with pytest.raises(DataError, match="there is no directory"):
        tfds_records.prepared(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        tfds_records.prepared(tmp_path / "empty")
    path = copy("tfrecord")
    with pytest.raises(DataError, match=f"no dataset_info.json and no .*did you mean {path}"):
        tfds_records.prepared(path.parent)
    (path / "features.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        tfds_records.prepared(path)
    (path / "features.json").unlink()
    with pytest.raises(DataError, match=r"no features\.json$"):
        tfds_records.prepared(path)


def test_another_form_is_refused(copy):
    path = copy("tfrecord")
    info = path / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"riegeli"'))
    with pytest.raises(DataError, match="in the form riegeli: expected array_record or tfrecord"):
        tfds_records.records(path, "train")


def test_a_missing_package_is_one_line(directories, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorflow-datasets"):
        tfds_records.records(directories["tfrecord"], "train")


def test_tensorflow_is_not_imported(directories):
    for form in directories:
        assert len(tfds_records.records(directories[form], "train")) == 7
    assert sys.modules.get("tensorflow") is None


def test_masked_crc_of_the_published_vectors():
    # RFC 3720, B.4: CRC-32C of 32 zeros and of 32 ones.
    unmask = lambda crc: (lambda rotated: ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF)(
        (crc - tfrecord.MASK_DELTA) & 0xFFFFFFFF
    )
    assert unmask(tfrecord.masked_crc(bytes(32))) == 0x8A9136AA
    assert unmask(tfrecord.masked_crc(b"\xff" * 32)) == 0x62A8AB43
    assert unmask(tfrecord.masked_crc(bytes(np.arange(32, dtype=np.uint8)))) == 0x46DD794E
