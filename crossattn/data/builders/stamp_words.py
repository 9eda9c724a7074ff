"""Captions and questions about things in four places, in the languages that stamps are named in.

A language is here if its sentences need no other form of a name than the one that the package has:
with an indefinite article, in the nominative.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LANGUAGES", "Named", "Placed", "StampLanguage", "say_scene"]

# The columns of a line, and the numbers of the regions of its phrases.
Text = tuple[dict[str, Any], dict[str, list[int]]]


class Named(NamedTuple):
    """A name without an article and one with its indefinite article, in lower case."""

    name: str
    called: str


class Placed(NamedTuple):
    """A thing and the place that it is in, by their numbers."""

    thing: int
    place: int


@dataclasses.dataclass(frozen=True)
class StampLanguage:
    """How one language says it; `{a}` is a name with its article, `{name}` one without.

    Attributes:
        articles: those that a name may begin with; they are no part of an answer.
        places: upper left, upper right, lower left, lower right.
        told: a thing and its place, in a caption.
        joined: stands between two of them.
        what: asks for the thing in a place.
        where: asks for the place of a thing.
        many: asks for the number of things.
        there: asks whether there is a thing.
        verdicts: yes and no.
    """

    articles: tuple[str, ...]
    places: tuple[str, str, str, str]
    told: str
    joined: str
    what: str
    where: str
    many: str
    there: str
    verdicts: tuple[str, str]


LANGUAGES = {
    "en": StampLanguage(
        ("a", "an"),
        ("upper left", "upper right", "lower left", "lower right"),
        "{a} in the {place}",
        " and ",
        "what is in the {place}?",
        "where is the {name}?",
        "how many things are there?",
        "is there {a}?",
        ("yes", "no"),
    ),
    "de": StampLanguage(
        ("ein", "eine"),
        ("oben links", "oben rechts", "unten links", "unten rechts"),
        "{place} {a}",
        " und ",
        "was ist {place}?",
        "wo ist {a}?",
        "wie viele Dinge sind da?",
        "ist da {a}?",
        ("ja", "nein"),
    ),
    "fr": StampLanguage(
        ("un", "une"),
        ("en haut à gauche", "en haut à droite", "en bas à gauche", "en bas à droite"),
        "{place} {a}",
        " et ",
        "qu'y a-t-il {place} ?",
        "où y a-t-il {a} ?",
        "combien de choses y a-t-il ?",
        "y a-t-il {a} ?",
        ("oui", "non"),
    ),
    "es": StampLanguage(
        ("un", "una"),
        (
            "arriba a la izquierda",
            "arriba a la derecha",
            "abajo a la izquierda",
            "abajo a la derecha",
        ),
        "{place} {a}",
        " y ",
        "¿qué hay {place}?",
        "¿dónde hay {a}?",
        "¿cuántas cosas hay?",
        "¿hay {a}?",
        ("sí", "no"),
    ),
    "it": StampLanguage(
        ("un", "una", "uno"),
        ("in alto a sinistra", "in alto a destra", "in basso a sinistra", "in basso a destra"),
        "{place} {a}",
        " e ",
        "che cosa c'è {place}?",
        "dove si trova {a}?",
        "quante cose ci sono?",
        "c'è {a}?",
        ("sì", "no"),
    ),
    "nl": StampLanguage(
        ("een",),
        ("linksboven", "rechtsboven", "linksonder", "rechtsonder"),
        "{place} {a}",
        " en ",
        "wat is er {place}?",
        "waar is {a}?",
        "hoeveel dingen zijn er?",
        "is er {a}?",
        ("ja", "nee"),
    ),
}


def say_scene(
    draw: np.random.Generator,
    placed: list[Placed],
    things: list[Named],
    language: str,
    *,
    about: Placed | None = None,
) -> list[Text]:
    """A caption of all that is there, and questions, with the regions of phrases.

    Every other scene is asked how many things there are, the others whether there is one. Where
    questions are `about` one thing, only what and where is asked, and of no other.
    """
    said = LANGUAGES[language]
    regions: dict[str, list[int]] = {}
    told = []
    for number, (thing, place) in enumerate(placed, 1):
        where, one = said.places[place], things[thing]
        told.append(said.told.format(a=one.called, place=where))
        regions |= {one.name: [number], where: [number]}
    texts: list[Text] = [({"caption": said.joined.join(told)}, regions)]
    for number, (thing, place) in enumerate(placed, 1):
        if about not in (None, placed[number - 1]):
            continue
        where, one = said.places[place], things[thing]
        mine = {one.name: [number], where: [number]}
        what = {"question": said.what.format(place=where), "answer": one.name}
        found = said.where.format(a=one.called, name=one.name)
        texts += [(what, mine), ({"question": found, "answer": where}, mine)]
    if about is None:
        many = {"question": said.many, "answer": str(len(placed))}
        count = many, {str(len(placed)): [*range(1, len(placed) + 1)]}
        whether = _whether(draw, placed, things, language)
        texts.append(count if draw.random() < 0.5 else whether)
    return texts


def _whether(
    draw: np.random.Generator, placed: list[Placed], things: list[Named], language: str
) -> Text:
    """Whether there is a thing, of one that is there or one that is not."""
    said, there = LANGUAGES[language], [one.thing for one in placed]
    number = int(draw.integers(len(placed)))
    absent = [one for one in range(len(things)) if one not in there]
    yes = draw.random() < 0.5
    thing = things[there[number] if yes else absent[int(draw.integers(len(absent)))]]
    question = said.there.format(a=thing.called, name=thing.name)
    line = {"question": question, "answer": said.verdicts[0 if yes else 1]}
    return line, {thing.name: [number + 1]} if yes else {}
