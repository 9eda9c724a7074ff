"""A TFDS directory as the data of a run: parts, batches, resuming, shares of processes, errors."""

import dataclasses
import itertools

import numpy as np
import pytest

from crossattn.data.batches import Share
from crossattn.data.picture_texts import Geometry, record_arrays
from crossattn.data.stream import StreamedRecords
from crossattn.data.tfds.records import DataError
from crossattn.data.tfds.source import divide
from crossattn.train.primary import measurable
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import batches_of, load_dataset

# The writer of small directories stands beside the tests of reading them.
from tests.support import tfds_directories as made

COUNT = 23


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return made.write_tfrecord(
        tmp_path_factory.mktemp("prepared"),
        made.vqa_features(),
        {
            "train": [made.vqa_example(number) for number in range(COUNT)],
            "test": [made.vqa_example(number) for number in range(100, 107)],
        },
    )


@pytest.fixture(scope="module")
def run(directory):
    data = Data(source="tfds", directory=str(directory), images=0, image_size=24)
    return Run(data=data, model=Model(image_encoder="window"), batch_size=6)


@pytest.fixture(scope="module")
def source(run):
    return load_dataset(run)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))


def test_source_has_the_parts_of_the_directory(source):
    assert {name: len(part.images) for name, part in source.splits.items()} == {
        "validation": 3,
        "test": 7,
    }
    test = source.splits["test"]
    assert test.words(0) == "<bos> what colour is the cat ? green"
    assert test.vocabulary == source.vocabulary
    assert test.grid == (2, 2)
    # The boxes of the one label together: the right half, 12 pixels, down to three quarters, 18;
    # windows of 16 pixels begin at 0 and at 8.
    down, along = np.array([16, 10]) / 16, np.array([4, 12]) / 16
    np.testing.assert_allclose(test.coverage[0, 0], np.outer(down, along).ravel())
    np.testing.assert_array_equal(source.pictures(np.array([2])), test.images[[2]])
    assert source.masks(np.array([2]))[0, 0].tolist() == [0] * 12 + [1] * 12
    assert test.chance["yes/no"] == 1.0
    assert source.window == 2


def test_batches_are_those_of_the_model(source, run):
    feed = batches_of(run, source.train, 3)
    batch = feed.batch(0)
    length = source.splits["test"].tokens.shape[1]
    shapes = [part.shape for part in batch[:5]]
    assert shapes == [(6, length), (6, length), (6, length, 1), (3, 24, 24, 3), (3, 1, 4)]
    kinds = [part.dtype for part in batch[:5]]
    assert kinds == [np.int32, bool, bool, np.uint8, np.float32]
    # Two texts of one picture stand beside each other: its colour is what they say.
    colours = {name: source.vocabulary.index(name) for name in made.COLOURS}
    for texts, pixels in zip(batch.tokens.reshape(3, -1), batch.images, strict=True):
        colour = tuple(pixels[0, 0].tolist())
        said = {name for name, token in colours.items() if token in texts}
        assert said <= {name for name, value in made.COLOURS.items() if value == colour}


def test_a_batch_is_a_function_of_seed_and_step(source, run):
    feed = batches_of(run, source.train, 3)
    # 20 records are trained on, 3 images a batch: step 8 lies within the second epoch.
    assert feed.position(8) == {"epoch": 1, "batch": 2}
    uninterrupted = list(itertools.islice(feed.batches(0), 15))
    resumed = batches_of(run, source.train, 3).batches(8)
    for step, batch in enumerate(uninterrupted):
        assert same(batch, batches_of(run, source.train, 3).batch(step))
        if step >= 8:
            assert same(batch, next(resumed))
    assert not same(uninterrupted[0], uninterrupted[6])
    assert not same(uninterrupted[0], batches_of(run, source.train, 4).batch(0))


def test_mirroring_is_a_function_of_seed_and_step(source, run):
    plain, mirrored = (
        batches_of(run, source.train, 0),
        batches_of(replace(run, {"data.flip": True}), source.train, 0),
    )
    some = next(mirrored.batches(2))
    assert same(some, mirrored.batch(2))
    originals = plain.batch(2)
    turned = [not np.array_equal(a, b) for a, b in zip(some.images, originals.images, strict=True)]
    assert 0 < sum(turned) < 3
    for chosen, one, other in zip(turned, some.images, originals.images, strict=True):
        np.testing.assert_array_equal(one, other[:, ::-1] if chosen else other)


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_share_an_epoch(run, processes):
    parts = divide(run.data)
    # Every record says its number, so that what was read can be told.
    geometry = Geometry(24, 2)
    one_text = replace(run, {"data.texts_per_image": 1, "batch_size": 2})
    held = [
        record_arrays(parts.train, index, parts.survey, geometry)["images"]
        for index in range(COUNT)
    ]
    training = StreamedRecords(parts.train, parts.survey, geometry)
    shares = []
    for process in range(processes):
        feed = batches_of(one_text, training, 0, Share(process, processes))
        images = [image for step in range(10) for image in feed.batch(step).images]
        shares.append([_number(image, held) for image in images])
    per_epoch = 20 // processes
    first = [share[:per_epoch] for share in shares]
    assert sorted(itertools.chain(*first)) == parts.survey.trained.tolist()
    if processes == 2:
        assert not set(first[0]) & set(first[1])
        assert set(first[0]) != set(shares[0][per_epoch : 2 * per_epoch])


def _number(image, held):
    (number,) = [n for n, one in enumerate(held) if np.array_equal(one, image)]
    return number


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        ({"train": 23}, (20 - 2, 3, 2)),
        ({"train": 23, "val": 7}, (23, 4, 3)),
        ({"train": 23, "validation": 7, "test": 5}, (23, 7, 5)),
        # Test questions without answers cannot judge anything.
        ({"train": 23, "validation": 7, "test": -5}, (23, 4, 3)),
        ({"train": 23, "test": -5}, (18, 3, 2)),
    ],
)
def test_parts_that_lack_are_set_aside(tmp_path, run, splits, sizes):
    def examples(split, count):
        for number in range(abs(count)):
            example = made.vqa_example(number + 30 * len(split))
            if count < 0:
                example["question_answer"] = [{"question": "what?", "answer": ""}]
            yield example

    path = made.write_tfrecord(
        tmp_path,
        made.vqa_features(),
        {name: list(examples(name, count)) for name, count in splits.items()},
    )
    parts = divide(dataclasses.replace(run.data, directory=str(path)))
    evaluation = {
        name: {split.where(int(i)) for i in numbers}
        for name, (split, numbers) in parts.evaluation.items()
    }
    trained = {parts.train.where(int(i)) for i in parts.survey.trained}
    assert (len(trained), *(len(evaluation[n]) for n in ("validation", "test"))) == sizes
    every = [trained, *evaluation.values()]
    assert all(not a & b for a, b in itertools.combinations(every, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.directory": ""}, "name it with --data.directory DIR"),
        ({"model.image_encoder": "oracle"}, "not for tfds: choose one of patch, window, conv"),
        (
            {"data.tasks": ("caption",), "data.caption_feature": "x"},
            "x: there is none; .*captions/",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(run, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(replace(run, changes))
    assert "\n" not in str(caught.value)


def test_captions_alone_are_data(tmp_path, run):
    features = made.tfds.features
    known = features.FeaturesDict({"image": features.Image(), "caption": features.Text()})
    some = [{"image": made.picture(n), "caption": f"a thing {n}"} for n in range(3)]
    made.write_tfrecord(tmp_path, known, {"train": some, "test": some}, shards=1)
    # Of questions and captions, those that there are.
    both = replace(run, {"data.directory": str(tmp_path)})
    source = load_dataset(both)
    assert measurable(source.splits, source.main) == ["test/perplexity", "caption/exact"]
    assert source.splits["test"].words(1) == "<bos> a thing 1 <eos>"
    with pytest.raises(DataError, match="found no text for data"):
        load_dataset(replace(both, {"data.tasks": ("question",)}))
    made.write_tfrecord(tmp_path, known, {"test": some}, shards=1)
    with pytest.raises(DataError, match="no split 'train': it has test"):
        load_dataset(both)


def test_batches_must_fit(source, run):
    with pytest.raises(ValueError, match="20 training images do not fill one batch of 21"):
        batches_of(replace(run, {"batch_size": 42}), source.train, 0)
    feed = lambda processes: batches_of(run, source.train, 0, Share(0, processes))
    with pytest.raises(ValueError, match="batch_size 6 is not a multiple of"):
        feed(2)
    assert feed(3).batch(0).images.shape[0] == 1


def test_damage_met_while_training_names_the_record(tmp_path, run):
    examples = [made.vqa_example(number) for number in range(20)]
    examples[7]["image"] = examples[7]["image"][:80]
    splits = {"train": examples, "validation": examples[:2], "test": examples[:2]}
    path = made.write_tfrecord(tmp_path, made.vqa_features(), splits, shards=1)
    feed = batches_of(run, load_dataset(replace(run, {"data.directory": str(path)})).train, 0)
    with pytest.raises(DataError, match=r"made-train\.tfrecord-00000-of-00001, record 7 holds a"):
        for _ in itertools.islice(feed.batches(0), 7):
            pass


def test_fields_of_data_are_checked():
    with pytest.raises(ValueError, match="image_size 60 is not a multiple of 8"):
        Data(source="tfds", image_size=60)
    with pytest.raises(
        ValueError,
        match="directory is for source tfds and folder and recordings and published sets, not",
    ):
        Data(directory="here")
