"""Mistakes, each with what is said of it: printed as JSON by a process without type checks.

The other tests check annotations before any code runs; users do not.
"""

import json

import jax
import jax.numpy as jnp

from crossattn.nn import (
    AttentionConfig,
    BlockConfig,
    ExtraKeys,
    Logits,
    ResidualConfig,
    Rotary,
    TwoStreamConfig,
    presets,
)
from crossattn.nn.layers.link import Link
from crossattn.nn.scan import policy_of

B, T, S, M, N, H = 2, 3, 5, 8, 6, 2
STREAMS = ("vilbert", "lxmert", "meter", "bidirectional", "sam_two_way", "bottleneck", "prefix_lm")


def build(name, **sizes):
    return presets.build(name, **{"width": M, "heads": H} | sizes)


def called(name, *given, **where):
    module = build(name)
    return jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), *given, **where))


def ones(tokens, width=M):
    return jnp.ones((B, tokens, width))


def adapted(contexts, *, scales=(0.5,), **where):
    return called("ip_adapter", ones(T), contexts, scales=scales, **where)


def half_projected():
    module, contexts = build("ip_adapter"), [ones(S), ones(S)]

    def run():
        params = module.init(jax.random.key(0), ones(T), contexts, scales=[0.5])
        text, _ = module.apply(params, contexts, method="project")
        return module.apply(params, ones(T), [text, contexts[1]], scales=[0.5])

    return jax.eval_shape(run)


WORDS = {
    "gate": lambda: ResidualConfig(gate="sigmoyd"),
    "norm": lambda: ResidualConfig(norm="por"),
    "norm kind": lambda: ResidualConfig(norm_kind=None),
    "head norm": lambda: Logits(norm="rmsnorm"),
    "competition": lambda: Logits(competition="query"),
    "talking": lambda: Logits(talking="yes"),
    "bias_kv": lambda: ExtraKeys(bias_kv=2),
    "theta": lambda: Rotary(theta=0),
    "interleaved": lambda: Rotary(interleaved="x"),
    "order": lambda: BlockConfig(order=("cros",)),
    "order as a word": lambda: BlockConfig(order="cross"),
    "context norm": lambda: BlockConfig(context_norm="l"),
    "positions": lambda: AttentionConfig(positions="ad"),
    "dropout": lambda: build("t5", dropout=1.0),
    "less dropout": lambda: build("t5", dropout=-0.5),
    "order of two": lambda: TwoStreamConfig(order=("x_to_contex",)),
    "exchange": lambda: TwoStreamConfig(exchange="share"),
    "link": lambda: TwoStreamConfig(link="sum"),
    "link alone": lambda: Link("scale").init(jax.random.key(0), ones(T), ones(T)),
    "remat": lambda: policy_of("all"),
    "remat of a stack": lambda: build("t5", layers=2, remat="all"),
    "preset": lambda: build("zzz"),
    "no layers": lambda: build("t5", layers=0),
    "fewer": lambda: build("qformer", layers=-1),
    "no heads": lambda: build("t5", heads=0),
    "heads": lambda: build("sam_two_way", heads=3),
}
ADAPTERS = {
    "ip_adapter none": lambda: adapted(None),
    "ip_adapter None": lambda: adapted([ones(S), None]),
    "ip_adapter contexts": lambda: adapted([ones(S)] * 3),
    "ip_adapter scales": lambda: adapted([ones(S)] * 2, scales=(0.5, 0.5)),
    "ip_adapter scale": lambda: adapted([ones(S)] * 2, scales=0.5),
    "ip_adapter masks": lambda: adapted([ones(S)] * 2, masks=[None]),
    "ip_adapter regions": lambda: adapted([ones(S)] * 2, regions=[None, None]),
    "ip_adapter half": half_projected,
}
MISSING = {f"{name} None": lambda name=name: called(name, (ones(T), None)) for name in STREAMS} | {
    "qformer None": lambda: called("qformer", None, ones(T)),
}
WIDE = {f"{name} wide": lambda name=name: called(name, (ones(T), ones(S, N))) for name in STREAMS}


def said(made):
    try:
        made()
    except (TypeError, ValueError) as error:
        return [type(error).__name__, str(error)]
    return ["", ""]


if __name__ == "__main__":
    cases = WORDS | ADAPTERS | MISSING | WIDE
    print(json.dumps({name: said(made) for name, made in cases.items()}))
