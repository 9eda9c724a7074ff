"""Answers as the evaluation of VQA spells them, so that equal ones are equal.

The rules are those of the evaluation that its authors publish (Antol et al. 2015): punctuation
goes, or becomes a space inside a word; numbers up to ten become digits; articles go; contractions
get their apostrophe back.
"""

import re

__all__ = ["normalise_answer"]

SIGNS = ';/[]"{}()=+\\_-><@`,?!'
COMMA_IN_NUMBER = re.compile(r"\d,\d")
# A full stop that no digit follows; of more than 32 the others stay, as there.
FULL_STOP, MOST_STOPS = re.compile(r"\.(?!\d)"), 32
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
DIGITS = {word: str(number) for number, word in enumerate(NUMBERS)} | {"none": "0"}
ARTICLES = ("a", "an", "the")
# Written without one of their apostrophes, they get it back.
CONTRACTIONS = """
'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am
might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've
should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd there'd've
there're there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll
what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd
you'd've you'll you're you've
""".split()  # noqa: SIM905 (twelve lines, not 75)


def _misspelt() -> dict[str, str]:
    places = ((word, at) for word in CONTRACTIONS for at, sign in enumerate(word) if sign == "'")
    return {word[:at] + word[at + 1 :]: word for word, at in places} | {"somebody'd": "somebodyd"}


APOSTROPHES = _misspelt()


def normalise_answer(text: str) -> str:
    """An answer in the spelling by which the evaluation of VQA compares.

    The published code leaves both sides as they are where all ten people say the same; here they
    are always spelt so.

    Example:
        >>> tuple(map(normalise_answer, ("The two dogs.", "dont know", "1,000")))
        ('2 dogs', "don't know", '1000')
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    spelt, numeric = text, COMMA_IN_NUMBER.search(text) is not None
    for sign in SIGNS:
        alone = f"{sign} " in text or f" {sign}" in text
        spelt = spelt.replace(sign, "" if alone or numeric else " ")
    spelt = FULL_STOP.sub("", spelt, count=MOST_STOPS)
    words = [DIGITS.get(word, word) for word in spelt.lower().split()]
    return " ".join(APOSTROPHES.get(word, word) for word in words if word not in ARTICLES)
