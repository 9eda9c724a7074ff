"""Names of the release before work for one release more, and say what they are now."""

import jax
import jax.numpy as jnp
import pytest

from crossattn import Mask, nn
from crossattn.interop import huggingface
from crossattn.nn import presets

X, CONTEXT = jnp.ones((1, 2, 8)), jnp.ones((1, 3, 8))
ROTARY = nn.Rotary(interleaved=True)
EXTRA = nn.ExtraKeys(bias_kv=True, zero_attn=True)
CASES = {
    "FeedForward": (lambda: nn.FeedForward, nn.MLP),
    "Projected": (lambda: nn.Projected, nn.ProjectedContext),
    "Join": (
        lambda: nn.Join(site="around", norm="rms", gate="tanh", residual=False),
        nn.ResidualConfig(norm="sandwich", norm_kind="rms", gate="tanh", skip=False),
    ),
    "Spare": (lambda: nn.Spare(null=True, zero=True), EXTRA),
    "Rotary": (lambda: nn.Rotary(longest=7.0, neighbours=True), nn.Rotary(7.0, True)),
    "Design": (
        lambda: nn.Design(
            order=("cross", "feed"),
            join=nn.ResidualConfig(norm="post"),
            own={"use_bias": False},
            cross={"placing": ROTARY, "spare": EXTRA},
            feed={"gated": True},
            lifted=True,
            latents=True,
            only_seeing=True,
        ),
        nn.BlockConfig(
            order=("cross", "mlp"),
            residual=nn.ResidualConfig(norm="post"),
            self_attention=nn.AttentionConfig(use_bias=False),
            cross_attention=nn.AttentionConfig(positions="rotary", rotary=ROTARY, extra_keys=EXTRA),
            mlp=nn.MLPConfig(gated=True),
            project_context=True,
            concat_queries=True,
            skip_mlp_without_context=True,
        ),
    ),
    "TwoStreamDesign": (
        lambda: nn.TwoStreamDesign(
            order=("self", "forth", "feed", "back"),
            self_join=nn.ResidualConfig(skip=False),
            cross={"placing": "add"},
        ),
        nn.TwoStreamConfig(
            order=("self", "x_to_context", "mlp", "context_to_x"),
            self_residual=nn.ResidualConfig(skip=False),
            cross_attention=nn.AttentionConfig(positions="add"),
        ),
    ),
    "CrossAttention": (
        lambda: nn.CrossAttention(8, 2, spare=EXTRA, placing=ROTARY),
        nn.CrossAttention(8, 2, extra_keys=EXTRA, positions="rotary", rotary=ROTARY),
    ),
    "low_rank.create": (lambda: nn.low_rank.create, nn.low_rank.create_adapters),
    "huggingface.names": (lambda: huggingface.names, huggingface.importable),
    "DESIGNS": (lambda: presets.DESIGNS["t5"], presets.config("t5")),
    **{
        kind.__name__: (
            lambda kind=kind, fields=fields, config=config: kind(*fields, design=config),
            kind(*fields, config=config),
        )
        for kind, fields, config in (
            (nn.Block, (8, 2), presets.config("t5")),
            (nn.Stack, (3, 8, 2), presets.config("t5")),
            (nn.Prefix, (8, 2), presets.config("prefix_lm")),
            (nn.QFormer, (3, 8, 2), presets.config("qformer")),
            (nn.TwoStreams, (8, 2), presets.config("meter")),
            (nn.Bottleneck, (3, 8, 2), presets.config("bottleneck")),
        )
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_former_name_makes_the_present_thing(name):
    former, present = CASES[name]
    with pytest.warns(DeprecationWarning, match=" is now "):
        made = former()
    assert made == present


def test_beside_is_extra_contexts():
    module = nn.CrossAttention(8, 2)
    params = module.init(jax.random.key(0), X, CONTEXT)
    more = [module.apply(params, X, method="project")]
    wanted, _ = module.apply(params, X, CONTEXT, extra_contexts=more)
    with pytest.warns(DeprecationWarning, match="extra_contexts="):
        found, _ = module.apply(params, X, CONTEXT, beside=more)
    assert jnp.array_equal(found, wanted)


def test_back_is_context_to_x():
    module, pair = nn.TwoStreams(8, 2, presets.config("bidirectional")), (X, CONTEXT)
    params, hidden = module.init(jax.random.key(0), pair), Mask.keys(jnp.zeros((1, 2), bool))
    wanted, _ = module.apply(params, pair, context_to_x_mask=hidden)
    with pytest.warns(DeprecationWarning, match="context_to_x_mask="):
        found, _ = module.apply(params, pair, back_mask=hidden)
    assert jnp.array_equal(found[1], wanted[1])
    exchange = nn.BidirectionalAttention(8, 2)
    params = exchange.init(jax.random.key(0), *pair, mask=Mask(), context_to_x=Mask())
    with pytest.warns(DeprecationWarning, match="context_to_x="):
        exchange.apply(params, *pair, mask=Mask(), back=Mask())


def test_what_never_was_is_no_name():
    for module in (nn, presets):
        with pytest.raises(AttributeError, match="no attribute 'Blok'"):
            module.Blok  # noqa: B018
