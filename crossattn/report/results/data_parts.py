"""What the data of a suite are: in the words of their source, and in numbers of texts."""

from collections.abc import Sequence

from crossattn.report.render.blocks import DASH, Table
from crossattn.report.results.counts import count
from crossattn.report.results.runs import Results
from crossattn.report.results.settings import in_words, settings_of

# Settings that choose among the texts of a source.
CURRICULUM = ("data.only_words", "data.curriculum_words", "data.curriculum_share")


def data_paragraph(results: Results) -> str:
    """What the pictures and texts are and how many, in plain text; empty where nobody said.

    Example:
        >>> parts = {"train": {"images": 1000, "texts": {}}, "iid": {"images": 90, "texts": {}}}
        >>> data = {"source": "mine", "about": "Rings.", "parts": parts}
        >>> data_paragraph({"runs": [], "data": data})[:64]
        'The source of the data is mine. Rings. Models learn from 1,000 p'
    """
    data = results.get("data")
    if not data:
        return ""
    train, splits = data["parts"]["train"], len(data["parts"]) - 1
    texts = sum(train["texts"].values())
    said = [f"The source of the data is {data['source']}.", data["about"]]
    learnt = count(train["images"], "picture") + (f" with {count(texts, 'text')}" if texts else "")
    said.append(
        f"Models learn from {learnt} and are judged by {count(splits, 'split')} that they never "
        "learn from."
    )
    settings = settings_of(results)
    if any(own.get(field) for own in settings.values() for field in CURRICULUM):
        said.append(f"Of these texts they learn {in_words(settings, CURRICULUM, _learned)}.")
    return " ".join(filter(None, said))


def _learned(only: Sequence[str], first: Sequence[str], share: float) -> str:
    """Which texts are learned, as `Curriculum` chooses them."""
    texts = f"those with {_any_of(only)}" if only else "all"
    if not first:
        return texts
    return f"{texts} but in the first {100 * share:.0f} % of the steps only {_any_of(first)}"


def _any_of(words: Sequence[str]) -> str:
    return " or ".join(f'"{word}"' for word in words)


def data_table(results: Results) -> Table | None:
    """Each part of the data: pictures, texts by kind, and what its source says of it."""
    parts = results.get("data", {}).get("parts", {})
    rows = []
    for name, part in parts.items():
        texts = ", ".join(f"{number:,} {kind}" for kind, number in part["texts"].items())
        row = [name, f"{part['images']:,}", texts or DASH]
        rows.append([*row, part["about"] or DASH])
    return (["part", "pictures", "texts", "what it holds"], rows) if rows else None
