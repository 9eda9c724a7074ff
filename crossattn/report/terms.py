"""The words that a report uses of itself, each explained before it is first needed."""

from collections.abc import Callable, Iterator, Sequence

from crossattn.align.measures import Metric, find_metric
from crossattn.align.verdict import NEGLIGIBLE
from crossattn.report.prose import COLUMNS, PLACES, READ_WHERE, VERDICT
from crossattn.report.render.markdown import code, markdown_text
from crossattn.report.results.runs import Results, metrics_in, place_of
from crossattn.report.stats.comparisons import on_metric
from crossattn.report.stats.paired import FEWEST_SEEDS

Holds = Callable[[Results], bool]


def _measured(*names: str) -> Holds:
    """Whether a report has numbers of one of these measures."""
    return lambda results: any(metric.measure.name in names for metric in metrics_in(results))


def _compared(results: Results) -> bool:
    return bool(results["comparisons"])


def _tested(results: Results) -> bool:
    return _compared(results) and results["comparisons"][0]["seeds"] >= FEWEST_SEEDS


def _looked(results: Results) -> bool:
    return any(metric.measure.family in ("attention", "causal") for metric in metrics_in(results))


def _task(results: Results) -> Metric | None:
    """The primary metric, where it is a measure of a task on a split."""
    found = find_metric(results["primary"])
    return found if found is not None and found.measure.family == "task" else None


def _always(_: Results) -> bool:
    return True


# The term, what it means, and which reports need it.
TERMS: tuple[tuple[str, str, Holds], ...] = (
    (
        "Variant, baseline",
        "a variant is one way to build or train the model; the baseline is the one that all others "
        "are compared with.",
        _always,
    ),
    (
        "Seed",
        "the number from which all chance of a training is drawn: first weights, order of the "
        "texts. Every variant is trained once with each seed, and the spread over seeds is what "
        "luck does.",
        _always,
    ),
    (
        "Split",
        "a part of the data that models are judged by and never learn from. Names of metrics begin "
        "with it: {primary} is the {measure} on {split}.",
        lambda results: _task(results) is not None,
    ),
    (
        "Chance",
        "what is reached without looking at the picture, or by attention that looks anywhere; it "
        "stands beside what was measured.",
        lambda results: bool(results["chance"]),
    ),
    (
        "Interval",
        "numbers in brackets, [from, to]: made so that in 95 of 100 repetitions with other seeds "
        "it covers the true value. Those of differences are corrected, all others Student's, cut "
        "to the range of the metric.",
        _tested,
    ),
    (
        "p, Holm p, corrected",
        "p is how often chance alone would give so large a difference between equal variants. Who "
        "compares many pairs finds some such difference by luck; Holm's procedure therefore asks "
        "more of each. Its p and its interval are called Holm p and corrected.",
        _tested,
    ),
    (
        "Patch, region",
        "the picture is cut into squares, the patches; the region of a word is the patches on "
        "which lies what the word is about.",
        _looked,
    ),
    (
        "Attention, head, layer",
        "for each word, a layer of the model spreads weights that add up to 1 over the patches, "
        "and reads them in that proportion. It does so several times side by side: each is a head.",
        _looked,
    ),
    (
        "Pointing",
        "the share of {places} for which the patch with the largest weight lies in the region, in "
        "the layer chosen on validation data; only {places} with a known region count. Its chance "
        "is the mean share of the patches that belong to the region.",
        _measured("pointing"),
    ),
    ("Mass", "the part of the weight that lies in the region.", _measured("mass")),
    (
        "Knock-out",
        "patches are hidden from attention. If answers get worse without the true region, and not "
        "without an equally large random one, the model uses that region.",
        _measured("knockout"),
    ),
)


def terms(results: Results) -> Iterator[str]:
    """A line of Markdown for each term that a report of these results uses.

    Example:
        >>> made = {"primary": "iid/accuracy", "comparisons": [], "runs": [], "chance": {}}
        >>> [line.split(":")[0] for line in terms(made)]
        ['**Variant, baseline**', '**Seed**', '**Split**']
    """
    task = _task(results)
    named = {
        "primary": code(results["primary"]),
        "measure": markdown_text(task.measure.words) if task else "",
        "split": markdown_text(task.where) if task else "",
        "places": PLACES[place_of(results["runs"])],
    }
    for term, meaning, needed in TERMS:
        if needed(results):
            yield f"**{term}**: {meaning.format(**named)}"


def column_meanings(results: Results) -> Iterator[str]:
    """A line of plain text for each column of the main tables that is no term."""
    for line in COLUMNS:
        yield line.format(places=PLACES[place_of(results["runs"])])
    yield VERDICT.format(negligible=NEGLIGIBLE)
    for measure in dict.fromkeys(metric.measure for metric in metrics_in(results)):
        if measure.name not in ("pointing", "knockout"):
            # Captions begin with the name of the measure, which columns may call otherwise.
            meaning = measure.meaning.partition(": ")[2] or measure.meaning
            yield from (f"{head.capitalize()}: {meaning}" for head in measure.headline.values())


def claimed_metrics(results: Results, claims: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line of Markdown for each metric of a claim that is not the primary one.

    Example:
        >>> claims = [("a", "b"), ("a", "b", "mass/answer/layer1")]
        >>> list(claimed_metrics({"primary": "iid/accuracy"}, claims))[0][-41:]
        'In layer 1, where an answer is predicted.'
    """
    primary = results["primary"]
    for name in dict.fromkeys(on_metric(claim, primary) for claim in claims):
        metric = find_metric(name)
        if name != primary and metric is not None:
            yield f"{code(name)}. {markdown_text(_in_words(metric))}"


def _in_words(metric: Metric) -> str:
    """What a metric is, and where it is taken."""
    said = metric.measure.meaning
    if metric.measure.family == "task":
        return f"{said} On {metric.where}."
    if metric.measure.family != "attention":
        return said
    chosen = "the layer chosen on validation data"
    layer = chosen if metric.layer is None else f"layer {metric.layer}"
    return f"{said} In {layer}, {READ_WHERE.get(metric.where, f'at {metric.where}')}."
