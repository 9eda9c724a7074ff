"""What the settings of a suite mean, in the words of the docstrings that describe their fields."""

import dataclasses
import functools
from typing import Any

import docstring_parser

from crossattn.fields import described_by, flat
from crossattn.nn.attention import CrossAttention
from crossattn.nn.config import AttentionConfig
from crossattn.train.suite import Suite

# A description whose fields are described by another class, which has them as well.
DESCRIBED_BY: dict[type, type] = {AttentionConfig: CrossAttention}


def setting_meanings(suite: Suite) -> dict[str, str]:
    """What each field is that a variant changes, by dotted path; those of whole parts one by one.

    A field that nothing describes is left out.
    """
    found: dict[str, str] = {}
    for variant, changes in suite.variants.items():
        run = suite.run(variant)
        fields = flat(dataclasses.asdict(run))
        for path in changes:
            within = [field for field in fields if field.startswith(f"{path}.")]
            for field in within or [path]:
                if field not in found and (meaning := field_meaning(run, field)):
                    found[field] = meaning
    return found


def field_meaning(described: Any, path: str) -> str:
    """What describes a field of a dataclass, by dotted path; empty where nothing does.

    Example:
      >>> from crossattn.train.run import Run
      >>> field_meaning(Run(), "optimizer.adapter_rank")
      'Rank of the adapters.'
      >>> field_meaning(Run(), "model.block.cross_residual.skip")
      'whether x is added at all.'
    """
    *above, name = path.split(".")
    for part in above:
        described = _part(described, part)
    kind = described if isinstance(described, type) else type(described)
    return _meanings(kind).get(name, "") if dataclasses.is_dataclass(kind) else ""


def _part(described: Any, name: str) -> Any:
    """A field's value; one that is None stands for another of the first class that it may be of."""
    if not dataclasses.is_dataclass(described) or getattr(described, name, None) is not None:
        return getattr(described, name, None)
    hints = {field.name: field.type for field in dataclasses.fields(described)}
    return next(iter(described_by(hints.get(name))), None)


@functools.cache
def _meanings(kind: type) -> dict[str, str]:
    """The descriptions of a class and of those that it is made from, by the name of the field."""
    found: dict[str, str] = {}
    for one in reversed(DESCRIBED_BY.get(kind, kind).__mro__[:-1]):
        for field in docstring_parser.parse_from_object(one).params:
            if said := " ".join((field.description or "").split()):
                found[field.arg_name] = said
    return found
