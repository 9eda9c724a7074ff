"""Frozen paths and low-rank adapters in a training step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crossattn import Mask
from crossattn.nn import Interleaved, low_rank, presets
from crossattn.train.freezing import frozen

B, T, S, M, H = 2, 3, 5, 8, 2


@pytest.fixture(scope="module")
def setting():
    keys = jax.random.split(jax.random.key(0))
    x, context = jax.random.normal(keys[0], (B, T, M)), jax.random.normal(keys[1], (B, S, M))
    block = presets.build("idefics", width=M, heads=H)
    params = block.init(jax.random.key(1), x, context)["params"]
    params = jax.tree.map(lambda p: p + 0.1, params)
    return block, params, lambda p: (block.apply({"params": p}, x, context)[0] ** 2).sum()


def test_only_what_is_not_frozen_moves(setting):
    _, params, loss = setting
    optimizer = frozen(optax.sgd(0.1, momentum=0.9), "feed_forward|norm")
    state = optimizer.init(params)
    updates, _ = jax.jit(optimizer.update)(jax.grad(loss)(params), state, params)
    moved = {
        jax.tree_util.keystr(path, simple=True, separator="/"): bool(jnp.any(leaf != 0))
        for path, leaf in jax.tree_util.tree_leaves_with_path(updates)
    }
    assert any(moved.values())
    for path, has_moved in moved.items():
        assert has_moved != ("feed_forward" in path or "norm" in path), path
    with pytest.raises(ValueError, match="no parameter's path matches 'nothing'"):
        frozen(optax.sgd(0.1, momentum=0.9), "nothing").init(params)


def test_gated_layers_are_trained_among_frozen_ones():
    designs = presets.config("flamingo"), presets.TEXT
    model = Interleaved(2, 2, M, H, *designs)
    x, context = jnp.ones((B, T, M)), jnp.ones((B, S, M))
    params = jax.eval_shape(
        lambda: model.init(jax.random.key(0), x, context, mask=Mask())["params"]
    )
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape), {"decoder": params})
    optimizer = frozen(optax.sgd(1.0), "groups/text")
    gradients = jax.tree.map(jnp.ones_like, zeros)
    updates, _ = optimizer.update(gradients, optimizer.init(zeros), zeros)
    moved = {name: jax.tree.leaves(tree) for name, tree in updates["decoder"]["groups"].items()}
    assert moved.keys() == {"reading", "text0", "text1"}
    for name, leaves in moved.items():
        assert all(bool(leaf.any()) == (name == "reading") for leaf in leaves)


def test_adapters_start_as_nothing_and_have_their_rank(setting):
    _, params, loss = setting
    adapters = low_rank.create_adapters(
        jax.random.key(2), params, "query/kernel|value/kernel", rank=2
    )
    assert jax.tree.map(jnp.shape, adapters) == {
        "cross_attention": {
            name: {"kernel": {"down": (M, 2), "up": (2, M)}} for name in ("query", "value")
        }
    }
    same = low_rank.merged(params, adapters)
    jax.tree.map(np.testing.assert_array_equal, same, params)
    gradient = jax.grad(lambda a: loss(low_rank.merged(params, a)))(adapters)
    step = jax.tree.map(lambda a, g: a - 0.1 * g, adapters, gradient)
    changed = low_rank.merged(params, step, scale=0.5)["cross_attention"]["query"]["kernel"]
    difference = np.asarray(changed - params["cross_attention"]["query"]["kernel"])
    assert np.linalg.matrix_rank(difference, tol=1e-6) == 2


def test_adapters_of_stacked_layers_are_stacked():
    params = {"blocks": {"query": {"kernel": jnp.ones((3, 4, 6))}}}
    adapters = low_rank.create_adapters(jax.random.key(0), params, "kernel", rank=1)
    assert adapters["blocks"]["query"]["kernel"]["down"].shape == (3, 4, 1)
    assert low_rank.merged(params, adapters)["blocks"]["query"]["kernel"].shape == (3, 4, 6)
    with pytest.raises(
        ValueError, match="no parameter's path matches 'key': there are blocks/query/"
    ):
        low_rank.create_adapters(jax.random.key(0), params, "key", rank=1)


def test_stacked_biases_and_norms_are_no_kernels():
    stacked = {"kernel": jnp.ones((3, 4, 6)), "bias": jnp.ones((3, 6))}
    params = {
        "query": stacked,
        "norm": {"scale": jnp.ones((3, 4))},
        "null_key": jnp.ones((3, 2, 2)),
    }
    params |= {"words": {"embedding": jnp.ones((5, 4))}}
    adapters = low_rank.create_adapters(jax.random.key(0), params, "", rank=2)
    assert jax.tree.map(jnp.shape, adapters) == {
        "query": {"kernel": {"down": (3, 4, 2), "up": (3, 2, 6)}},
        "words": {"embedding": {"down": (5, 2), "up": (2, 4)}},
    }
    with pytest.raises(
        ValueError, match=r"'bias\|norm' matches is no kernel.*: norm/scale, query/b"
    ):
        low_rank.create_adapters(jax.random.key(0), params, "bias|norm", rank=2)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("text", {"text/kernel", "text0/kernel", "deep/text_3"}),
        ("context", {"context"}),
        ("text/kernel", {"text/kernel"}),
        ("text.*/kernel", {"text/kernel", "text0/kernel", "text_norm/kernel"}),
        ("norm|words", {"deep/norm/scale", "words"}),
        ("layer_1", {"layer_1/scale"}),
        ("layer", {"layer_1/scale", "layer_12/scale"}),
        ("deep", {"deep/norm/scale", "deep/text_3"}),
        (".*norm", {"deep/norm/scale", "context_norm/scale", "text_norm/kernel"}),
    ],
)
def test_whole_parts_of_paths_are_frozen(pattern, wanted):
    leaf = lambda name: {name: jnp.ones(1)}
    params = {
        "text": leaf("kernel"),
        "text0": leaf("kernel"),
        "text_norm": leaf("kernel"),
        "context_norm": leaf("scale"),
        "context": jnp.ones(1),
        "deep": {"norm": leaf("scale"), **leaf("text_3")},
        "layer_1": leaf("scale"),
        "layer_12": leaf("scale"),
        "words": jnp.ones(1),
    }
    optimizer = frozen(optax.sgd(1.0), pattern)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    still = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, update in jax.tree_util.tree_leaves_with_path(updates)
        if not update.any()
    }
    assert still == wanted


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("text", "matches 'text': near are context_norm, and whole parts of a path are matched"),
        ("wrods", "near are words"),
        ("zzz", "there are context_norm/scale, words"),
        ("(", "is no regular expression"),
    ],
)
def test_a_pattern_that_matches_nothing_names_what_is_near(pattern, said):
    params = {"context_norm": {"scale": jnp.ones(2)}, "words": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match=re.escape(said)):
        frozen(optax.sgd(1.0), pattern).init(params)
    with pytest.raises(ValueError, match=re.escape(said)):
        low_rank.create_adapters(jax.random.key(0), params, pattern, rank=1)
