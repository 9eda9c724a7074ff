"""Which features are read, what their texts become, and where their words point."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from crossattn.data import language, picture_texts, pictures
from crossattn.data.errors import DataError
from crossattn.data.language import GROUPS
from crossattn.data.picture_texts import Geometry
from crossattn.data.tfds import records as tfds_records
from crossattn.data.tfds.survey import survey
from crossattn.data.tfds.text import ImageRecord, Names, Reader, Split, columns
from tests.support import tfds_directories as made

F = tfds.features
BOTH = ("question", "caption")


def features(**some):
    return F.FeaturesDict({"image": F.Image(), **some})


def record(questions=(), captions=(), labels=(), boxes=(), image=b""):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return ImageRecord(image, list(questions), list(captions), boxes, list(labels))


@pytest.mark.parametrize(
    ("some", "found"),
    [
        ({"question": F.Text(), "answer": F.Text()}, ("question", "answer", "")),
        ({"question": F.Text(), "answers": F.Sequence(F.Text())}, ("question", "answers", "")),
        (
            {"qa": F.Sequence({"id": F.Text(), "question": F.Text(), "answer": F.Text()})},
            ("qa/question", "qa/answer", ""),
        ),
        (
            {"question": F.Text(), "answers": F.Sequence({"id": F.Text(), "answer": F.Text()})},
            ("question", "answers/answer", ""),
        ),
        ({"caption": F.Text()}, ("", "", "caption")),
        ({"id": F.Text(), "text": F.Text()}, ("", "", "text")),
        (
            {"captions": F.Sequence({"id": np.int64, "who": F.Text(), "text": F.Text()})},
            ("", "", "captions/text"),
        ),
    ],
)
def test_features_are_found_by_their_names(some, found):
    chosen = columns(features(**some), Names(), BOTH)
    assert (chosen.question, chosen.answer, chosen.caption) == found
    assert chosen.image == "image"


def test_features_can_be_named():
    known = features(
        query=F.Text(), reply=F.Text(), title=F.Text(), photo=F.Image(), question=F.Text()
    )
    chosen = columns(known, Names("photo", "query", "reply", "title"), BOTH)
    assert (chosen.image, chosen.question, chosen.answer) == ("photo", "query", "reply")
    assert chosen.caption == "title"
    assert columns(known, Names(answer="reply"), BOTH).question == "question"
    assert columns(known, Names(caption="title"), ("caption",)).question == ""


@pytest.mark.parametrize(
    ("some", "names", "message"),
    [
        ({"label": np.int64}, {}, "found no text .*the features there are: image, label"),
        (
            {"title": F.Text()},
            {"caption": "titel"},
            "caption-feature titel: there is none; .*title",
        ),
        ({"title": F.Text(), "n": np.int64}, {"caption": "n"}, "caption-feature n is no text"),
        ({"title": F.Text()}, {"image": "title"}, "image-feature title is no picture"),
        ({"q": F.Text()}, {"question": "q"}, "no answer beside q: add --data.answer-feature"),
        ({"a": F.Text()}, {"answer": "a"}, "no question to a: add --data.question-feature"),
    ],
)
def test_wrong_features_are_named(some, names, message):
    with pytest.raises(DataError, match=message):
        columns(features(**some), Names(**names), BOTH)


def test_pictures_must_be_there_once_in_8_bits():
    with pytest.raises(DataError, match="found no picture; the features there are: text"):
        columns(F.FeaturesDict({"text": F.Text()}), Names(), BOTH)
    two = F.FeaturesDict({"left": F.Image(), "right": F.Image(), "text": F.Text()})
    with pytest.raises(DataError, match="left and right are pictures"):
        columns(two, Names(), BOTH)
    deep = F.FeaturesDict({"image": F.Image(dtype=np.uint16), "text": F.Text()})
    with pytest.raises(DataError, match="uint16"):
        columns(deep, Names(), BOTH)


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [(["No", "yes", "yes"], "yes"), (["b", "a"], "b"), (["Light  Blue"], "light blue"), ([], "")],
)
def test_of_several_answers_the_commonest(answers, chosen):
    known = features(question=F.Text(), answers=F.Sequence(F.Text()))
    example = {"image": made.picture(0), "question": "Q?", "answers": answers}
    read = Reader(known, columns(known, Names(), BOTH))(bytes(known.serialize_example(example)))
    assert read.questions == ([("Q?", chosen)] if chosen else [])
    assert read.image == example["image"]


def test_rows_of_questions_and_captions():
    said = language.Language(
        ("<pad>", "<bos>", "<eos>", "<unknown>", "?", "a", "cat", "is", "light blue", "two", "yes"),
        length=7,
        things=2,
        label_names=(("cat",), ("two", "dog")),
    )
    rows = said.rows(
        record(
            [("Is a CAT two dog?", "light blue"), ("is?", "yes"), ("a?", "7"), ("?", "cat")],
            ["a cat", "a two is is is is"],
            labels=[1, 0, 1],
            boxes=np.zeros((3, 4)),
        )
    )
    assert rows.tokens.tolist() == [
        [1, 7, 5, 6, 9, 3, 8],  # cut before the answer: "?" is lost
        [1, 7, 4, 10, 0, 0, 0],
        [1, 5, 4, 3, 0, 0, 0],
        [1, 4, 6, 0, 0, 0, 0],
        [1, 5, 6, 2, 0, 0, 0],
        [1, 5, 9, 7, 7, 7, 7],  # cut at its end: no <eos> to learn
    ]
    assert rows.answer.tolist() == [6, 3, 3, 2, 0, 0]
    assert [np.flatnonzero(row).tolist() for row in rows.target] == [
        *([6], [3], [3], [2]),
        *([1, 2, 3], [1, 2, 3, 4, 5, 6]),
    ]
    kinds = [language.KINDS[kind] for kind in rows.kind]
    assert kinds == ["other", "yes/no", "number", "other", "caption", "caption"]
    # Slot 0 is the cat, which is mentioned first; "two dog" is one label of two words.
    assert rows.labels.tolist() == [0, 1]
    assert rows.grounded[..., 0].nonzero()[0].tolist() == [0, 3, 4]
    assert rows.grounded[0].nonzero()[0].tolist() == [3, 4, 5]
    assert rows.group[0].tolist() == [0, 0, 0, *[GROUPS.index("label")] * 3, 0]
    assert rows.group[1, 3], rows.group[2, 3] == (GROUPS.index("verdict"), GROUPS.index("count"))


def test_words_of_what_is_not_there_point_nowhere():
    said = language.Language(("<pad>", "<bos>", "cat"), 4, 1, (("cat",), ("dog",)))
    rows = said.rows(record([("cat", "no")], labels=[1], boxes=np.zeros((1, 4))))
    assert not rows.grounded.any()
    assert rows.labels.tolist() == [-1]


def test_areas_of_boxes_and_pictures_that_do_not_decode():
    boxes = [[0, 0.5, 0.5, 1], [0.5, 0.5, 0.51, 1], [0, 0, 1, 0.25]]
    areas = picture_texts.areas(record(labels=[1, 1, 0], boxes=boxes), [1, 0, -1], 8)
    drawn = np.zeros((3, 8, 8), bool)
    drawn[0, :5, 4:] = True
    drawn[1, :, :2] = True
    np.testing.assert_array_equal(areas, drawn)
    pixels = pictures.decode(made.picture(1), 16)
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_array_equal(pixels[0, 0], made.COLOURS["green"])
    for broken in (made.picture(0)[:60], made.picture(0, "JPEG")[:400], b"", b"nothing"):
        with pytest.raises(DataError, match="cannot be decoded"):
            pictures.decode(broken, 16)


def test_survey_of_training_texts():
    asked = [("What?", "b"), ("what ?", "b"), ("What?", "a"), ("Who?", "a"), ("who", "c")]
    # Records 0 and 3 show one picture, so that both are set aside.
    shown = [0, 1, 2, 0, *range(3, 13)]
    every = [
        record([asked[i % 5]], ["one two three"], image=bytes([n])) for i, n in enumerate(shown)
    ]
    every[4] = record()
    found = survey(every, ("validation", "test"), ())
    assert found.held_out["validation"].tolist() == [0, 3, 11]
    assert found.held_out["test"].tolist() == [6]
    assert found.trained.tolist() == [1, 2, 5, 7, 8, 9, 10, 12, 13]
    assert found.language.length == 5
    said = ("?", "a", "b", "c", "one", "three", "two", "what", "who")
    assert found.language.vocabulary[4:] == said
    few = survey(every, (), (), limit=3)
    assert few.trained.tolist() == [0, 1, 2]
    assert few.held_out == {}


def test_chance_is_the_best_guess_from_the_question():
    data = [("who", "b")] * 3 + [("who", "a")] * 2 + [("is it", "yes")] * 2 + [("is it", "no")] * 2
    found = survey([record(data)], (), ())
    asked = [("who", "b"), ("who", "a"), ("new", "b"), ("new", "yes"), ("is it", "no")]
    assert found.chance(asked) == {"other": 2 / 3, "yes/no": 1 / 2}


def test_mock_data_of_clevr(tmp_path):
    count = 5
    with tfds.testing.mock_data(num_examples=count, num_sub_examples=2):
        builder = tfds.builder("clevr", data_dir=tmp_path / "nowhere")
        source = builder.as_data_source("train")
        examples = [source[index] for index in range(count)]
    known = builder.info.features
    for number, example in enumerate(examples):
        example["image"] = made.picture(number)
        # The mock draws a length of its own for every list; those of a sequence are one.
        for name in ("objects", "question_answer"):
            shortest = min(map(len, example[name].values()))
            example[name] = {key: values[:shortest] for key, values in example[name].items()}
    path = made.write_tfrecord(tmp_path / "clevr", known, {"train": examples})
    info = tfds_records.prepared(path).info
    chosen = columns(info.features, Names(), BOTH)
    assert (chosen.question, chosen.boxes) == ("question_answer/question", "")
    split = Split(tfds_records.records(path, "train"), Reader(info.features, chosen))
    assert len(split) == count
    for number, example in enumerate(examples):
        said = [
            " ".join(_text(answer).lower().split())
            for answer in example["question_answer"]["answer"]
        ]
        assert [answer for _, answer in split[number].questions] == [one for one in said if one]
    found = survey(split, (), chosen.label_names)
    held, masks = picture_texts.read_examples(split, range(count), found, Geometry(24, 2))
    assert held.images.shape == (count, 24, 24, 3)
    assert held.coverage.shape == (count, 1, 4)
    assert not held.grounded.any()
    assert not masks.any()


def _text(value):
    return value.decode() if isinstance(value, bytes) else value
