"""Former names of configurations: for one release more they make the present ones."""

from collections.abc import Callable, Mapping
from typing import Any

from crossattn.nn.config import (
    AttentionConfig,
    BlockConfig,
    ExtraKeys,
    MLPConfig,
    ResidualConfig,
    Rotary,
    TwoStreamConfig,
)

__all__ = ["FORMER"]

SITES = {"before": "pre", "after": "post", "around": "sandwich"}
WORDS = {"feed": "mlp", "forth": "x_to_context", "back": "context_to_x"}
FIELDS = {
    **{"null": "bias_kv", "zero": "zero_attn", "longest": "theta", "neighbours": "interleaved"},
    **{"join": "residual", "self_join": "self_residual", "cross_join": "cross_residual"},
    **{"own": "self_attention", "cross": "cross_attention", "feed": "mlp"},
    **{"lifted": "project_context", "latents": "concat_queries", "spare": "extra_keys"},
    "only_seeing": "skip_mlp_without_context",
}


def _join(
    site: str = "before",
    norm: Any = "layer",
    epsilon: float = 1e-6,
    gate: Any = None,
    residual: bool = True,
) -> ResidualConfig:
    kind: Any = SITES.get(site, site)
    return ResidualConfig(kind, norm, epsilon, gate, residual)


def _attention(fields: Mapping[str, Any]) -> AttentionConfig:
    fields = {FIELDS.get(name, name): value for name, value in fields.items()}
    placing = fields.pop("placing", None)
    if isinstance(placing, Rotary):
        fields |= {"rotary": placing}
        placing = "rotary"
    return AttentionConfig(**fields, positions=placing)


def _design(made: Callable[..., Any]) -> Callable[..., Any]:
    def make(**fields: Any) -> Any:
        fields = {FIELDS.get(name, name): value for name, value in fields.items()}
        kinds = {"self_attention": _attention, "cross_attention": _attention}
        for name, kind in {**kinds, "mlp": lambda own: MLPConfig(**own)}.items():
            if isinstance(fields.get(name), Mapping):
                fields[name] = kind(fields[name])
        if "order" in fields:
            fields["order"] = tuple(WORDS.get(word, word) for word in fields["order"])
        return made(**fields)

    return make


def _spare(**fields: Any) -> ExtraKeys:
    return ExtraKeys(**{FIELDS.get(name, name): value for name, value in fields.items()})


# What each makes, and under which present name.
FORMER: dict[str, tuple[str, Callable[..., Any]]] = {
    "Join": ("ResidualConfig", _join),
    "Spare": ("ExtraKeys", _spare),
    "Design": ("BlockConfig", _design(BlockConfig)),
    "TwoStreamDesign": ("TwoStreamConfig", _design(TwoStreamConfig)),
}
