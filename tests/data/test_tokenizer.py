"""Words keep their regions through any tokenizer: merges, bytes, word pieces."""

import itertools
import json

import numpy as np
import pytest

from crossattn.data.errors import DataError
from crossattn.data.language import Language
from crossattn.data.records import ImageRecord
from crossattn.data.sources import Data, load_source
from crossattn.data.survey import Tally
from crossattn.data.tokenizer import PieceTokenizer
from crossattn.data.words import split_words, word_places
from tests.support import published_sets as made
from tests.support.picture_folders import write_folder

tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")

TEXTS = (
    "A reddish disc beside the greenish square, isn't it?",
    "Zwei rötliche Kreise, 300 Schafe.",
    "Cafe\u0301 — ein Hünd\u200bchen 😀 beim CAFÉ",
    "  two   blue squares  ",
)


def byte_level():
    found = tokenizers.Tokenizer(tokenizers.models.BPE())
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, show_progress=False
    )
    return found, trainer


def word_pieces():
    found = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    found.normalizer = tokenizers.normalizers.BertNormalizer()
    found.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=70, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    return found, trainer


def merged_words():
    """A BPE without a cut at spaces: pieces run over several words."""
    found = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, show_progress=False)
    return found, trainer


KINDS = {"bytes": byte_level, "word pieces": word_pieces, "merged words": merged_words}


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """A file of a tokenizer trained on some texts."""
    found, trainer = KINDS[request.param]()
    colours = [f"a {colour} {shape} beside it" for colour in ("red", "green", "blue")
               for shape in ("disc", "square")]  # fmt: skip
    found.train_from_iterator([*TEXTS, *colours] * 3, trainer)
    if request.param == "word pieces":
        found.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    folder = tmp_path_factory.mktemp("tokenizer")
    found.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_words_stand_where_their_places_say(text):
    composed, places = word_places(text)
    assert [split_words(composed[start:end])[0] for start, end in places] == split_words(text)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))


@pytest.mark.parametrize("text", TEXTS)
def test_every_piece_knows_its_words(trained, text):
    """Checked by cutting the text at the characters of each piece."""
    tokenizer = PieceTokenizer(str(trained))
    found = tokenizer.pieces(text)
    composed, places = word_places(text)
    inside = np.full(len(composed), -1)
    for word, (start, end) in enumerate(places):
        inside[start:end] = word
    encoded = tokenizer.tokenizer.encode(composed, add_special_tokens=False)
    assert found.tokens == encoded.tokens
    for (start, end), first, stop in zip(encoded.offsets, found.first, found.stop, strict=True):
        assert set(range(first, stop)) == set(inside[start:end].tolist()) - {-1}
    covered = {word for first, stop in zip(found.first, found.stop, strict=True)
               for word in range(first, stop)}  # fmt: skip
    assert covered == set(range(len(places)))


def test_pieces_of_a_word_have_its_region(trained):
    tokenizer = PieceTokenizer(str(trained))
    record = ImageRecord(
        None,
        [("what is the reddish disc?", "a square")],
        ["A reddish disc beside the greenish square"],
        np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], np.float32),
        [0, 1],
        spans=[[(3, 5, 0), (6, 8, 1)], [(1, 3, 0), (5, 7, 1)]],
    )
    tally = Tally(tokenizer=tokenizer)
    tally.add(record)
    language = tally.survey([0], {}).language
    rows = language.rows(record)
    for row, (text, spans, answer) in enumerate(
        [
            (record.questions[0][0], record.spans[0], True),
            (record.captions[0], record.spans[1], False),
        ]
    ):
        pieces = tokenizer.pieces(text)
        for place, (first, stop) in enumerate(zip(pieces.first, pieces.stop, strict=True)):
            about = {label for start, end, label in spans if first < end and start < stop}
            found = {int(rows.labels[o]) for o in np.flatnonzero(rows.grounded[row, 1 + place])}
            assert found == about, pieces.tokens[place]
        end = 1 + len(pieces.tokens)
        if answer:
            assert rows.answer[row] == end
            assert language.vocabulary[rows.tokens[row, end]] == "a square"
            assert rows.labels[rows.grounded[row, end].argmax()] == 1
            assert rows.target[row].sum() == 1
        else:
            assert language.vocabulary[rows.tokens[row, end]] == "<eos>"
            assert rows.target[row].sum() == end
        assert not rows.grounded[row, 0].any()


def test_phrases_are_found_in_pieces(trained, tmp_path):
    directory = write_folder(tmp_path, 12, questions=False)
    settings = {"directory": str(directory), "image_size": 32}
    words = load_source(Data("folder", **settings), "patch")
    pieces = load_source(Data("folder", tokenizer=str(trained), **settings), "patch")
    assert words.fingerprint != pieces.fingerprint
    # The regions of all pieces of a caption together are those of its words.
    for own, other in zip(
        *(part.splits["test"].regions() for part in (words, pieces)), strict=True
    ):
        np.testing.assert_array_equal(own.max(axis=0), other.max(axis=0))
    assert pieces.splits["test"].vocabulary == pieces.train.vocabulary


def test_published_sets_are_cut_by_a_tokenizer(trained, tmp_path):
    directory = made.write_gqa(tmp_path / "gqa")
    settings = {"directory": str(directory), "image_size": 32}
    words = load_source(Data("gqa", **settings), "patch")
    pieces = load_source(
        Data("gqa", tokenizer=str(trained / "tokenizer.json"), **settings), "patch"
    )
    assert words.fingerprint != pieces.fingerprint
    for own, other in ((part.splits["test"] for part in (words, pieces)),):
        answers = [own.vocabulary[token] for token in own.tokens[np.arange(3), own.answer]]
        assert answers == [other.vocabulary[t] for t in other.tokens[np.arange(3), other.answer]]
        at = lambda part: part.regions()[np.arange(3), part.answer]
        np.testing.assert_array_equal(at(own), at(other))


def test_without_a_tokenizer_words_are_tokens():
    record = ImageRecord(None, [], ["a red ring"], np.zeros((0, 4), np.float32), [])
    language = Language(("<pad>", "<bos>", "<eos>", "<unknown>", "a", "red", "ring"), 5, 1, ())
    assert language.rows(record).tokens.tolist() == [[1, 4, 5, 6, 2]]


def test_what_is_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected a file of the package tokenizers, or a folder"):
        PieceTokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(DataError, match="is none: "):
        PieceTokenizer(str(tmp_path))
