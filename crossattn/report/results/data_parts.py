"""What the data of a suite are: in the words of their source, and in numbers of texts."""

from crossattn.report.render.blocks import DASH, Table
from crossattn.report.results.counts import count
from crossattn.report.results.runs import Results


def data_paragraph(results: Results) -> str:
    """What the pictures and texts are and how many, in plain text; empty where nobody said.

    Example:
        >>> parts = {"train": {"images": 1000, "texts": {}}, "iid": {"images": 90, "texts": {}}}
        >>> data_paragraph({"data": {"source": "mine", "about": "Rings.", "parts": parts}})[:64]
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
    return " ".join(filter(None, said))


def data_table(results: Results) -> Table | None:
    """Each part of the data: pictures, texts by kind, and what its source says of it."""
    parts = results.get("data", {}).get("parts", {})
    rows = []
    for name, part in parts.items():
        texts = ", ".join(f"{number:,} {kind}" for kind, number in part["texts"].items())
        row = [name, f"{part['images']:,}", texts or DASH]
        rows.append([*row, part["about"] or DASH])
    return (["part", "pictures", "texts", "what it holds"], rows) if rows else None
