"""Words read their own images and their own text only, all at once or step by step.

A design costs one compiled program, which is run on different data; its steps are another.
"""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import AttentionConfig, presets
from crossattn.nn.block import Block
from crossattn.nn.families.interleaved import Interleaved
from tests.support.formulas import filled

B, T, S, M, N, H = 3, 7, 11, 12, 5, 2
ROTARY = dataclasses.replace(presets.TEXT, self_attention=AttentionConfig(positions="rotary"))
# Compiling takes all the time: groups, and text blocks in each.
SIZES = {"flamingo": (1, 2), "idefics": (1, 1), "mllama": (2, 1)}
# In the first row no word sees the second image, which the third follows at once, nor the fourth,
# behind which there is no word; in the last row all images stand behind the words.
BEGUN = np.array([[0, 0, 1, 1, 1, 3, 3], [0, 0, 0, 0, 1, 1, 2], [0] * T])
IMAGE = np.array([[1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 0], [1] * 4 + [2] * 5 + [0] * 2, [1] * S])
# Two texts in a row; the first image of the second row stands behind all words of its text.
TEXTS = np.array([[0, 0, 0, 0, 1, 1, 1]] * B)
PATCH_TEXTS = np.where(IMAGE > 1, 1, 0)
RNG = np.random.default_rng(0)
OTHER_WORDS, OTHER = (RNG.normal(size=(B, *size)).astype(np.float32) for size in ((T, M), (S, N)))
DATA = {
    "words": RNG.normal(size=(B, T, M)).astype(np.float32),
    "context": RNG.normal(size=(B, S, N)).astype(np.float32),
    "begun": BEGUN,
    "image": IMAGE,
    "texts": np.zeros((B, T), int),
    "patch_texts": np.zeros((B, S), int),
    "places": np.arange(T, dtype=np.float32)[None, :, None].repeat(B, 0),
    "weights": np.ones((B, T), np.float32),
}
PACKED = DATA | {"texts": TEXTS, "patch_texts": PATCH_TEXTS}


def build(name, **policy):
    return Interleaved(*SIZES[name], M, H, presets.config(name), ROTARY, **policy)


def seen_by(name, data):
    """What the words see of the images."""
    media = Mask.media(data["begun"], data["image"], latest_only=name != "idefics")
    return media & Mask.segments(data["texts"], data["patch_texts"])


def hidden(data):
    """Patches (B, S) that no word sees where each sees its latest image."""
    begun, image = data["begun"][..., None], data["image"][:, None]
    own = data["texts"][..., None] == data["patch_texts"][:, None]
    return ~((begun == image) & (begun > 0) & own).any(1)


def valid(trace):
    return trace.valid


def whole(name, model, params, data, context):
    where = {
        "mask": seen_by(name, data),
        "self_mask": Mask.segments(data["texts"], data["texts"]),
        "query_positions": data["places"],
    }
    return model.apply(params, data["words"], context, **where, observe=valid)


@cache
def parameters(name):
    words, context, places = (jnp.asarray(DATA[key]) for key in ("words", "context", "places"))
    where = {"mask": seen_by(name, DATA), "query_positions": places}
    return filled(build(name), words, context, **where)


def differentiated(name, model):
    def loss(inputs, data):
        params, words, context = inputs
        y, seeing = whole(name, model, params, data | {"words": words}, context)
        return jnp.sum(jnp.sin(y) * data["weights"][..., None]), (y, seeing)

    def program(params, data):
        inputs = params, data["words"], data["context"]
        gradients, out = jax.grad(loss, has_aux=True)(inputs, data)
        return *out, gradients

    return program


@cache
def program(name):
    if name == "mllama":
        return jax.jit(differentiated(name, build(name)))
    return jax.jit(lambda params, data: whole(name, build(name), params, data, data["context"]))


def run(name, data=DATA, params=None, **changes):
    """Words, who sees an image in each group, and for mllama the gradients of all inputs."""
    params = parameters(name) if params is None else params
    return jax.tree.map(np.asarray, program(name)(params, data | changes))


@jax.jit
def text_block(params, words, places):
    where = {"self_mask": Mask.causal(0), "query_positions": places}
    return Block(M, H, ROTARY).apply({"params": params}, words, None, **where)[0]


def text_alone(name, params):
    """A plain loop over the text blocks, without those that read images."""
    words, own = DATA["words"], params["params"]["groups"]
    groups, every = SIZES[name]
    for group in range(groups):
        for number in range(every):
            text = jax.tree.map(lambda leaf, at=group: leaf[at], own[f"text{number}"])
            words = text_block(text, words, DATA["places"])
    return np.asarray(words)


def changed(array, where, other):
    return np.where(where[..., None], other, array).astype(np.float32)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def near(found, wanted, share):
    """Equal up to a share of the largest number."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=share * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("name", SIZES)
def test_words_before_any_image_are_those_of_a_call_without_images(name):
    nothing = run(name, begun=np.zeros_like(BEGUN))
    assert not nothing[1].any()
    before = BEGUN == 0
    for context in (DATA["context"], OTHER):
        y, seeing, *_ = run(name, context=context)
        same(seeing, np.broadcast_to(~before[None, :, None], seeing.shape))
        same(y[before], nothing[0][before])
        assert np.abs(y - nothing[0])[~before].max(-1).min() > 1e-3
    # Later images, and what belongs to none, cannot reach the words of the first.
    poison = np.where(IMAGE == 0, np.nan, 100)[..., None]
    y, other = run(name)[0], run(name, context=changed(DATA["context"], IMAGE != 1, poison))[0]
    same(y[BEGUN == 1], other[BEGUN == 1])
    assert np.abs(y - other)[BEGUN > 1].max(-1).min() > 1e-3


def test_words_before_any_image_pass_the_reading_blocks_of_mllama_only():
    before = BEGUN == 0
    alone = text_alone("mllama", parameters("mllama"))
    near(run("mllama")[0][before], alone[before], 1e-6)
    # Those of flamingo have a feed-forward layer for them as soon as its gate opens.
    params = parameters("flamingo")
    alone = text_alone("flamingo", params)
    assert np.abs(run("flamingo")[0] - alone)[before].max(-1).min() > 1e-3

    def closed(path, leaf):
        return leaf * 0 if path[-1].key == "gate" else leaf

    shut = jax.tree_util.tree_map_with_path(closed, params)
    near(run("flamingo", params=shut)[0], alone, 1e-6)


@pytest.mark.parametrize("data", [DATA, PACKED], ids=["one text", "packed"])
def test_images_that_nobody_sees_reach_no_gradient(data):
    unseen, clean = hidden(data), run("mllama", data)
    assert {*IMAGE[0][unseen[0]]} == {0, 2, 4}
    assert unseen[2].all()
    same(run("mllama", data, context=changed(DATA["context"], unseen, np.nan)), clean)
    gradient = clean[2][2]
    assert not gradient[unseen].any()
    assert np.abs(gradient[~unseen]).max(-1).min() > 1e-6


def test_packed_texts_do_not_read_each_other():
    name = "mllama"
    for one in (0, 1):
        mine, patches = one == TEXTS, one == PATCH_TEXTS
        weights = mine.astype(np.float32)
        theirs = {
            "words": changed(DATA["words"], ~mine, OTHER_WORDS),
            "context": changed(DATA["context"], ~patches, OTHER),
        }
        y, _, gradients = run(name, PACKED, weights=weights)
        other, _, others = run(name, PACKED, weights=weights, **theirs)
        same(y[mine], other[mine])
        same(gradients, others)
        assert not gradients[1][~mine].any()
        assert not gradients[2][~patches].any()
        assert np.abs(gradients[1][mine]).max(-1).min() > 1e-6
    # Without segments the second text reads the first.
    y, other = run(name)[0], run(name, **theirs)[0]
    assert np.abs(y - other)[TEXTS == 1].max(-1).min() > 1e-3


def test_a_packed_text_is_what_it_is_alone():
    y, *_ = run("mllama", PACKED)
    front = {key: np.roll(DATA[key], -4, axis=1) for key in ("words", "begun", "places")}
    alone, *_ = run("mllama", **front, image=np.where(PATCH_TEXTS == 1, IMAGE, 0))
    near(alone[:, :3], y[:, 4:], 1e-6)


def step_by_step(name, count, params, data):
    """The words `count` at a time, over images that are projected once."""
    model = build(name)
    projected = model.apply(params, data["context"], method="project")

    def step(cache, place):
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, place, count, axis=1)
        here = data | {key: part(data[key]) for key in ("words", "begun", "texts", "places")}
        where = {"mask": seen_by(name, here), "query_positions": here["places"], "observe": valid}
        given = here["words"], projected, cache, place
        y, cache, seeing = model.apply(params, *given, **where, method="decode_step")
        return cache, (y, seeing)

    cache = model.apply(params, B, T + 2, method="init_cache")
    _, (y, seeing) = jax.lax.scan(step, cache, jnp.arange(0, T - count + 1, count))
    return jnp.concatenate(y, axis=1), jnp.concatenate(seeing, axis=3)


@pytest.mark.parametrize(("name", "count"), [("flamingo", 2), ("mllama", 1)])
def test_steps_equal_the_whole(name, count):
    wanted, seen, *_ = run(name)
    # A step cannot know what later words see: whatever is projected may be NaN.
    poisoned = DATA | {"context": changed(DATA["context"], hidden(DATA), np.nan)}
    steps = jax.jit(step_by_step, static_argnums=(0, 1))
    y, seeing = steps(name, count, parameters(name), poisoned)
    assert y.shape[1] == T - T % count
    near(y, wanted[:, : y.shape[1]], 1e-5)
    same(seeing, seen[..., : y.shape[1]])


def test_less_memory_and_half_precision_change_little():
    name, half = "mllama", build("mllama", dtype=jnp.bfloat16)

    @jax.jit
    def program(params, data):
        gradients = differentiated(name, build(name, remat="everything"))(params, data)[2]
        projected = half.apply(params, data["context"], method="project")
        return gradients, whole(name, half, params, data, projected)[0]

    wanted, _, exact = run(name)
    traced = program.trace(parameters(name), DATA)
    assert "prevent_cse" in str(traced.jaxpr)
    gradients, y = traced.lower().compile()(parameters(name), DATA)
    jax.tree.map(lambda one, other: near(one, other, 1e-5), gradients, exact)
    assert y.dtype == jnp.bfloat16
    near(y.astype(jnp.float32), wanted, 0.06)
    caches = half.apply(parameters(name), B, T, method="init_cache")
    assert [[one.keys.shape for one in group] for group in caches] == [[(B, H, T, M // H)]] * 2
    assert caches[0][0].values.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"reading": presets.config("whisper")}, "reading: words read images and not each other"),
        ({"reading": presets.config("resampler")}, "reading: .* concat_queries=True"),
        ({"reading": presets.TEXT}, "reading: words read images"),
        ({"text": presets.config("whisper")}, "text: words read each other and no images"),
        ({"text": presets.config("merged")}, "text: .* take one like presets.TEXT"),
    ],
)
def test_designs_in_the_wrong_place_are_refused(design, message):
    model = dataclasses.replace(build("flamingo"), **design)
    inputs = jnp.asarray(DATA["words"]), jnp.asarray(DATA["context"])
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, mask=seen_by("mllama", DATA)))
