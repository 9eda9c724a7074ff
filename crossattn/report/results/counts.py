"""How much was measured: images and items of every split, question type and metric, as counted.

`results["counts"]` holds `images` (by split), `items` (by metric), as each run counted them, and
`training_images`. Results of older runs have none.
"""

from crossattn.align.measures import find_metric
from crossattn.report.render.blocks import DASH, Table
from crossattn.report.results.runs import Results


def count(number: int, thing: str) -> str:
    """A number with its thing, as in "1 seed" and "1,000 items".

    Example:
        >>> count(1, "seed"), count(1000, "item")
        ('1 seed', '1,000 items')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _items(results: Results) -> dict[str, int]:
    """Items by metric, without those of single layers and heads: they are the same items."""
    found = results.get("counts", {}).get("items", {})
    return {metric: number for metric, number in found.items() if "/layer" not in metric}


def _thing(metric: str) -> str:
    """What the items of a metric are."""
    found = find_metric(metric)
    return getattr(found.measure.reads, "item", "item") if found else "item"


def by_split(results: Results) -> list[str]:
    """For each split what it holds, in words.

    Example:
        >>> items = {"iid/accuracy": 90, "iid/accuracy/shape": 40, "iid/accuracy/colour": 50}
        >>> by_split({"counts": {"images": {"iid": 100}, "items": items}})
        ['iid with 100 images and 90 questions (40 shape, 50 colour)']
    """
    images, items = results.get("counts", {}).get("images", {}), _items(results)
    said = []
    for split, number in images.items():
        own = {metric: n for metric, n in items.items() if metric.split("/")[0] == split}
        said.append(f"{split} with {count(number, 'image')}")
        if own:
            whole = next(iter(own))
            kinds = [
                f"{n:,} {name[len(whole) + 1 :]}"
                for name, n in own.items()
                if name.startswith(f"{whole}/")
            ]
            said[-1] += f" and {count(own[whole], _thing(whole))}"
            said[-1] += f" ({', '.join(kinds)})" if kinds else ""
    return said


def counts_table(results: Results) -> Table | None:
    """Items behind every metric, and images of its split; None where nothing was counted."""
    items = _items(results)
    if not items:
        return None
    images = results["counts"].get("images", {})
    rows = []
    for metric, number in items.items():
        split = images.get(metric.split("/")[0])
        rows.append([metric, f"{number:,}", DASH if split is None else f"{split:,}"])
    return ["metric", "items", "images of the split"], rows
