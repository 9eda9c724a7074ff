"""Words of any script are whole, and one however their letters are stored."""

import unicodedata

import numpy as np
import pytest

from crossattn.data.tfds.survey import survey
from crossattn.data.tfds.text import ImageRecord
from crossattn.data.words import spelling, split_words

ONE_WORD = [
    "हिन्दी",
    "cafe\u0301",
    "שָׁלוֹם",
    "الْعَرَبِيَّةُ",
    "İstanbul",
    "தமிழ்",
    "বাংলা",
    "ខ្មែរ",
    "မြန်မာ",
    "ภาษาไทย",
    "Tiếng",
    "t\u0361s",  # one tie over two letters
    "က\u200dခ",
    "می\u200cخواهم",  # noqa: RUF001
    "ភាសា\u200bខ្មែរ",
    "co\u00adoperate",
    "한국어",
    "snake_case2",
    "한",
    "x\u20dd",  # in a circle
]


@pytest.mark.parametrize("word", ONE_WORD)
def test_marks_and_invisible_characters_stay_inside_words(word):
    sentence = f"The {word}, {word}!"
    (one,) = split_words(word)
    assert split_words(sentence) == ["the", one, ",", one, "!"]
    for form in ("NFC", "NFD"):
        assert split_words(unicodedata.normalize(form, sentence)) == split_words(sentence)
        assert split_words(unicodedata.normalize(form, word.upper().lower())) == [one]
    assert unicodedata.is_normalized("NFC", one)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Don't!", ["don", "'", "t", "!"]),
        ("a\u200b \u200bb\ufeff c\u200d", ["a", "b", "c"]),
        ("\u200b", []),
        ("naïve—été", ["naïve", "—", "été"]),
        ("बिल्ली बैठी है।", ["बिल्ली", "बैठी", "है", "।"]),
        ("👩\u200d🚀👍🏽", ["👩\u200d🚀", "👍", "🏽"]),
        ("❤\ufe0f?", ["❤\ufe0f", "?"]),
        ("一只猫 在睡觉。", ["一只猫", "在睡觉", "。"]),
        (" \u0301", ["\u0301"]),
        ("", []),
    ],
)
def test_signs_and_spaces_still_cut(text, pieces):
    assert split_words(text) == pieces


def test_any_text_is_cut_alike_in_both_forms_and_loses_nothing_visible():
    random = np.random.default_rng(0)
    letters = [
        chr(n) for n in range(32, 0x3100) if unicodedata.category(chr(n)) not in ("Cn", "Cf")
    ]
    for _ in range(200):
        text = "".join(random.choice(letters, 12))
        cut = split_words(text)
        assert all(cut)
        assert split_words(unicodedata.normalize("NFD", text)) == cut
        assert split_words(" ".join(cut)) == cut
        kept = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
        assert unicodedata.normalize("NFC", "".join(cut)) == unicodedata.normalize(
            "NFC", "".join(kept.split())
        )


def test_answers_labels_and_captions_are_one_word_in_both_spellings():
    """The same texts, composed and not, give the same tokens, answers and regions."""
    assert spelling("CAFE\u0301  noir") == "caf\u00e9 noir"
    rows = []
    for form in ("NFC", "NFD"):
        said = lambda text, form=form: unicodedata.normalize(form, text)
        record = ImageRecord(
            image=b"",
            questions=[(said("Où est l'Éléphant ?"), spelling(said("Café")))],
            captions=[said("un éléphant, बिल्ली")],
            boxes=np.zeros((1, 4), np.float32),
            labels=[0],
        )
        names = ((*split_words(said("éléphant")),), (*split_words(said("बिल्ली")),))
        found = survey([record], (), names)
        assert {"éléphant", "café", "बिल्ली"} < set(found.language.vocabulary)
        rows.append(found.language.rows(record))
    np.testing.assert_array_equal(rows[0].tokens, rows[1].tokens)
    assert rows[0].grounded.any(2).sum(1).tolist() == [1, 1]
    np.testing.assert_array_equal(rows[0].grounded, rows[1].grounded)
