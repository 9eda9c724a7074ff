"""Rules: from the path of a parameter and its axes to the axes of a mesh."""

import dataclasses
import re

from crossattn.sharding.mesh import suggest_name

Entry = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where the parameters whose path matches a pattern are split.

    Attributes:
      pattern: regular expression, searched in a path such as
        "params/stack/blocks/cross_attention/query/kernel". End it with $: the optimizer's state
        holds trees with the same ends of paths, which then follow the same rule.
      spec: mesh axis (or several, or None) of each of the last axes of the array. The axes before
        them are not split: rules need not know whether a scanned stack put an axis L in front.
      spread: mesh axis that the largest of the axes in `spec` which are still whole is split over,
        provided that it divides evenly (fully sharded data parallelism: Zhao et al. 2023).
      optional: whether the rule may match nothing.

    Raises:
      ValueError: when one mesh axis stands twice, or the pattern is no regular expression.

    Example:
      >>> Rule(r"query/kernel$", (None, "tensor"), spread="fsdp").axes
      ('tensor', 'fsdp')
    """

    pattern: str
    spec: tuple[Entry, ...]
    spread: str | None = None
    optional: bool = False

    def __post_init__(self):
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"{self} is no regular expression: {error}") from error
        for axis in self.axes:
            if self.axes.count(axis) > 1:
                raise ValueError(
                    f"{self} names mesh axis {axis!r} twice: an array is split over each mesh axis "
                    "once; remove one of them"
                )

    @property
    def axes(self) -> tuple[str, ...]:
        """All mesh axes that the rule names."""
        named = [axis for entry in (*self.spec, self.spread) for axis in entry_axes(entry)]
        return tuple(named)

    def __str__(self) -> str:
        return f"Rule({self.pattern!r})"


def entry_axes(entry: Entry) -> tuple[str, ...]:
    """The mesh axes of one entry of a spec."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else entry


# Products whose outputs are heads, hidden units or words: each device makes its own share of them.
COLUMNS = r"\b((\w+_)?(query|key|value|reference)(_\d+)?|up|times|logits)"
# Products that read heads or hidden units: each device adds its share to the sum.
ROWS = r"\b((\w+_)?out|down)"
TABLES = r"(kernel|embedding|position|latents|queries|tokens)$"
# Adafactor's factors of second moments, and Muon's coefficients.
OF_OPTIMIZER = r"\bv_(row|col)/|\bns_coeffs$"
SMALL = (
    r"(bias|scale|gate|factor|sink|bias_k|bias_v|register_keys|register_values|logits_mix|"
    r"weights_mix|table|axis\d+|(kernel|embedding)/(down|up))$"  # the last: of low rank
)


def _preset(*, tensor: str | None = None, fsdp: str | None = None) -> tuple[Rule, ...]:
    """The parameters of `crossattn.nn` and `crossattn.models` (Megatron: Shoeybi et al. 2019).

    Norms, gates and the biases of sums are small and stay whole on every device. Rules see widths
    and not heads: results are right on any mesh, but heads stay on their devices only where the
    size of tensor divides the heads of queries and of keys.
    """
    return (
        Rule(OF_OPTIMIZER, (), optional=True),
        Rule(rf"{COLUMNS}/kernel$", (None, tensor), spread=fsdp, optional=True),
        Rule(rf"{COLUMNS}/bias$", (tensor,), optional=True),
        Rule(rf"{ROWS}/kernel$", (tensor, None), spread=fsdp, optional=True),
        Rule(r"\bwords/embedding$", (tensor, None), spread=fsdp, optional=True),
        Rule(TABLES, (None, None), spread=fsdp, optional=True),
        Rule(SMALL, (), optional=True),
    )


# "data" names what "replicated" parameters are for: the batch alone is split.
PRESETS = {
    "replicated": (Rule("", (), optional=True),),
    "data": (Rule("", (), optional=True),),
    "fsdp": _preset(fsdp="fsdp"),
    "tensor": _preset(tensor="tensor"),
    "fsdp+tensor": _preset(tensor="tensor", fsdp="fsdp"),
}


def preset(name: str) -> tuple[Rule, ...]:
    """The rules of one of `PRESETS`.

    Raises:
      ValueError: for another name.

    Example:
      >>> preset("replicated")
      (Rule(pattern='', spec=(), spread=None, optional=True),)
    """
    if name not in PRESETS:
        raise ValueError(f"unknown rules {name!r}; {suggest_name(name, PRESETS)}")
    return PRESETS[name]
