"""Published sets while a run trains: batches, shares of processes, memory, damage."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from crossattn.data.batches import Share
from crossattn.data.errors import DataError
from crossattn.data.published import source as published
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import batches_of, load_dataset
from tests.support import published_sets as made

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = made.write_flickr30k(tmp_path_factory.mktemp("flickr"), train=11)
    data = Data("flickr30k_entities", directory=str(directory), image_size=24)
    return Run(data=data, model=Model(image_encoder="window"), batch_size=4)


@pytest.fixture(scope="module")
def source(run):
    return load_dataset(run)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))


def test_a_batch_is_a_function_of_seed_and_step(source, run):
    uninterrupted = list(itertools.islice(batches_of(run, source.train, 3).batches(0), 9))
    # Another process, which reads the folder again, goes on where the first one stopped.
    resumed = batches_of(run, load_dataset(run).train, 3).batches(6)
    for step, batch in enumerate(uninterrupted):
        assert same(batch, batches_of(run, source.train, 3).batch(step))
        if step >= 6:
            assert same(batch, next(resumed))
    assert not same(uninterrupted[0], uninterrupted[5])


def test_processes_share_an_epoch(source, run):
    shares = []
    for process in range(2):
        feed = batches_of(run, source.train, 0, Share(process, 2))
        assert feed.position(5) == {"epoch": 1, "batch": 0}
        shares.append([feed.batch(step).images.tobytes() for step in range(5)])
    assert len(set(itertools.chain(*shares))) == 10


def test_damage_met_while_training_names_the_picture(tmp_path, run):
    directory = made.write_flickr30k(tmp_path, train=11)
    own = replace(run, {"data.directory": str(directory)})
    source = load_dataset(own)
    picture = directory / "flickr30k-images/1007.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    feed = batches_of(own, source.train, 0)
    with pytest.raises(DataError, match=r"1007\.jpg \(1007\.txt, line 1\) holds a picture"):
        for _ in itertools.islice(feed.batches(0), 6):
            pass


def write_many(path, count):
    """COCO captions of so many pictures, which all are the same file under many names."""
    (path / "train2017").mkdir(parents=True)
    (path / "annotations").mkdir()
    first = path / "one.jpg"
    Image.new("RGB", (48, 32), "red").save(first)
    images, captions = [], []
    for number in range(count):
        name = f"{number:012}.jpg"
        (path / "train2017" / name).symlink_to(first)
        images.append(made.coco_image(number, name))
        text = f"a picture that shows thing {number % 97} beside {number % 89}"
        captions.append({"image_id": number, "id": number, "caption": text})
    file = path / "annotations/captions_train2017.json"
    file.write_text(json.dumps({"images": images, "annotations": captions}))
    return path


def memory(directory, steps, missing=0, packing=0):
    """Bytes that are held at most while a set is read and some batches are drawn; its pictures.

    Of the pictures so many are not there.
    """
    for picture in sorted((directory / "train2017").iterdir())[:missing]:
        picture.unlink()
    more = {"missing": missing, "packing": packing}
    data = Data(
        "coco_captions", directory=str(directory), image_size=32, evaluation_images=10, **more
    )
    run = Run(data=data, model=Model(image_encoder="patch"), batch_size=16)
    tracemalloc.start()
    try:
        source = load_dataset(run)
        feed = batches_of(run, source.train, 0)
        for step in range(steps):
            feed.batch(step)
        return tracemalloc.get_traced_memory()[1], len(source.train)
    finally:
        tracemalloc.stop()


def flat(tmp_path, few, many, steps=3, share=0.0, packing=0):
    """Bytes a picture, of which this share is missing."""
    memory(write_many(tmp_path / "warm", 40), 1)
    small, _ = memory(write_many(tmp_path / "few", few), steps, int(share * few), packing)
    large, trained = memory(write_many(tmp_path / "many", many), steps, int(share * many), packing)
    there = many - int(share * many)
    assert trained == there - 2 * len(range(0, there, published.HELD_OUT_EVERY))
    return (large - small) / (many - few)


@pytest.mark.slow
def test_memory_stays_flat_where_pictures_are_missing_and_texts_share_rows(tmp_path):
    # Of a picture 3 kB of pixels would be held; the text of the file is, up to a mebibyte. Of the
    # many, more than an epoch is read.
    assert flat(tmp_path, 40, 240, 15, share=0.1, packing=4) < 1_500


@pytest.mark.slow
def test_memory_stays_flat_over_100_000_pictures(tmp_path):
    assert flat(tmp_path, 1_000, 100_000) < 200


@pytest.mark.slow
def test_memory_stays_flat_over_10_000_pictures_whose_texts_share_rows(tmp_path):
    assert flat(tmp_path, 1_000, 10_000, share=0.1, packing=4) < 400
