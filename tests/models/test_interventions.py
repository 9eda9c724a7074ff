"""Activations of a vision-language decoder are captured, patched and cut, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.interventions import (
    Activations,
    capture,
    head_effects,
    knock_out_edges,
    maps_and_gradients,
    patch,
    swap_region,
)
from crossattn.models.vision_language import VisionLanguageDecoder
from tests.models.test_vision_language import NAMES, fields, filled
from tests.support.families import some_quick

B, T, P, V, L, H = 2, 5, 7, 11, 2, 2
ALL = jnp.ones((1, 1, 1, 1), bool)
AT = T - 1  # the position that is scored


def inputs(seed):
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "tokens": jax.random.randint(keys[0], (B, T), 0, V),
        "images": jax.random.normal(keys[1], (B, P, 3)),
        "truth": jax.random.bernoulli(keys[2], 0.3, (B, T, P)),
        "prompt": jnp.broadcast_to(jnp.arange(T) < 3, (B, T)),
        "boxes": jax.random.normal(keys[3], (B, 2, 3)),
        "visible": jnp.ones((B, P), bool).at[0, 3].set(False),
    }


def score(logits):
    return jax.nn.log_softmax(logits)[:, AT, 4]


class Model:
    """One model and its programs, each compiled once: what is hidden or replaced is data."""

    def __init__(self, name):
        self.module = module = VisionLanguageDecoder(V, VisionLanguageConfig(**fields(name)))
        self.given = inputs(0)
        self.params = jax.tree.map(jnp.asarray, filled(module, self.given))
        self.run = jax.jit(lambda given: module.apply(self.params, **given)[0])
        self.capture = jax.jit(lambda params, given: capture(module, params, given))
        # Parameters are arguments of both: of constants XLA computes tanh of a gate beforehand, in
        # other last bits than the program does.
        self.patch = jax.jit(
            lambda params, given, source, where: patch(module, params, given, source, **where)
        )
        self.cut = jax.jit(lambda given, edges: knock_out_edges(module, self.params, given, edges))

    def plain(self, given):
        """Logits, of `visible` for each layer."""
        layers = self.module.config.reading_layers
        return self.run(given | {"visible": jnp.broadcast_to(given["visible"], (layers, B, P))})

    def captured(self, given, params=None):
        return self.capture(self.params if params is None else params, given)

    def patched(self, given, source, where):
        """Logits and activations, of every kind being said what is replaced."""
        full = {
            name: jnp.broadcast_to(where.get(name, False), own.shape[:4])
            for name, own in source._asdict().items()
        }
        return self.patch(self.params, given, source, full)


@pytest.fixture(scope="module")
def decoder():
    return Model("encoder_decoder_pre")


def equal(one, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def patching_with_itself_changes_no_bit(model):
    logits, activations = found = model.captured(model.given)
    np.testing.assert_allclose(logits, model.plain(model.given), atol=1e-5)
    where = dict.fromkeys(Activations._fields, ALL)
    assert equal(model.patched(model.given, activations, where), found)


def cut_edges_are_hidden_patches(model):
    """Edges of all heads and words to a patch: what `visible` of single layers says as well."""
    layers, S = model.module.config.reading_layers, model.captured(model.given)[1].map.shape[-1]
    seen = jnp.broadcast_to(model.given["visible"], (layers, B, P))
    seen = seen.at[-1, 0, 1:5].set(False).at[0, 1, 2:].set(False)
    want = model.plain(model.given | {"visible": seen})
    assert not np.allclose(want, model.plain(model.given), atol=1e-3)
    edges = jnp.pad(~seen, ((0, 0), (0, 0), (0, S - P)))[:, :, None, None]
    np.testing.assert_allclose(model.cut(model.given, edges)[0], want, atol=1e-5)


def without_edges_there_is_no_image(model):
    """No word reads it, whatever the context does by itself."""
    config = model.module.config
    S = model.captured(model.given)[1].map.shape[-1]
    first = T if config.use == "bottleneck" else 0  # there words read each other as well
    edges = jnp.zeros((1, 1, 1, 1, S), bool).at[..., first:].set(True)
    other = model.given | {"images": inputs(1)["images"]}
    assert not np.allclose(model.plain(model.given), model.plain(other), atol=1e-3)
    np.testing.assert_array_equal(model.cut(model.given, edges)[0], model.cut(other, edges)[0])


def test_patching_with_itself_changes_no_bit(decoder):
    patching_with_itself_changes_no_bit(decoder)
    assert decoder.captured(decoder.given)[1].map.shape == (L, B, H, T, P)


def test_cut_edges_are_hidden_patches(decoder):
    cut_edges_are_hidden_patches(decoder)


def test_a_region_has_a_donors_content(decoder, unchecked):
    """Under scan and jit: its own changes no bit, another's is that of the mixed image."""
    close = lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5)
    none = jnp.zeros((B, P), bool)
    module, params, given = decoder.module, decoder.params, decoder.given
    program = jax.jit(lambda *arrays: swap_region(module, *arrays))
    swap = lambda donors, region: program(params, given, donors, region)
    region = jnp.zeros((B, P), bool).at[:, :2].set(True)
    own = swap(given["images"], region)
    assert equal(own, swap(inputs(1)["images"], none))
    jax.tree.map(close, own, decoder.captured(given))
    donors = inputs(1)["images"]
    mixed = given | {"images": given["images"].at[:, :2].set(donors[:, :2])}
    found = swap(donors, region)
    jax.tree.map(close, found, decoder.captured(mixed))
    assert not np.allclose(found[0], own[0], atol=1e-3)
    unseen = none.at[0, 3].set(True)  # is hidden from all words
    np.testing.assert_array_equal(swap(donors, unseen)[0], own[0])
    for bad in (
        {"donors": donors[:, 1:]},
        {"region": region.astype(jnp.float32)},
        {"region": region[:, 1:]},
    ):
        with pytest.raises(ValueError, match=r"^swap_region: (images|region)"):
            swap_region(module, params, given, **{"donors": donors, "region": region} | bad)


SLOW = [name for name in NAMES if name not in ("encoder_decoder_pre", "none", "mean", "coca, mean")]


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_design(name):
    model = Model(name)
    patching_with_itself_changes_no_bit(model)
    without_edges_there_is_no_image(model)
    config = model.module.config
    # In others the context itself does not see what is hidden from words.
    alone = config.use in ("decoder", "interleaved", "adapter") and not config.connector
    if alone and config.context_view != "truth":
        cut_edges_are_hidden_patches(model)


OUTSIDE = ["prefix, three layers", "vilbert", "ip_adapter", "bottleneck"]


@pytest.mark.parametrize("name", some_quick(OUTSIDE, OUTSIDE[:1]))
def test_layers_in_and_outside_of_a_scan(name):
    """The shapes alone: what is captured fits what can be patched, layer by layer."""
    module, given = VisionLanguageDecoder(V, VisionLanguageConfig(**fields(name))), inputs(0)

    def run():
        params = module.init(jax.random.key(0), **given)
        _, found = capture(module, params, given)
        return found, patch(module, params, given, found, map=ALL, output=ALL)[1]

    found, again = jax.eval_shape(run)
    assert found == again
    assert found.map.shape[:3] == (module.config.reading_layers, B, H)


def test_another_image_s_outputs_give_its_answer(decoder):
    """The image enters through what heads have read, and through nothing else."""
    other = decoder.given | {"images": inputs(1)["images"]}
    want, source = decoder.captured(other)
    before, _ = decoder.captured(decoder.given)
    logits, _ = decoder.patched(decoder.given, source, {"output": ALL})
    np.testing.assert_array_equal(logits, want)
    assert not np.allclose(before, want, atol=1e-2)
    # Of the last layer and at one position, it changes what is predicted there.
    here = jnp.zeros((L, 1, 1, T), bool).at[-1, :, :, AT].set(True)
    logits, _ = decoder.patched(decoder.given, source, {"output": here})
    np.testing.assert_array_equal(logits[:, :AT], before[:, :AT])
    assert not np.allclose(logits[:, AT], before[:, AT], atol=1e-3)


def test_a_planted_head_is_found_by_its_effect(decoder):
    """Only head 1 of layer 0 reaches the stream: patching it alone moves the score, all the way."""
    params = jax.tree.map(jnp.array, decoder.params)
    cross = params["params"]["stack"]["blocks"]["cross_attention"]["out"]
    own = jnp.zeros((L, H * 4, 1)).at[0, 4:].set(1.0)
    cross["kernel"] = cross["kernel"] * own
    other = decoder.given | {"images": inputs(1)["images"]}

    before, (want, source) = (
        decoder.captured(decoder.given, params)[0],
        decoder.captured(other, params),
    )
    effects = jax.jit(
        lambda params, given, source: head_effects(
            decoder.module, params, given, source, score, at_once=3
        )
    )
    found = effects(params, decoder.given, source) - score(before)[None, None]
    whole = score(want) - score(before)
    assert found.shape == (L, H, B)
    np.testing.assert_allclose(found[0, 1], whole, atol=1e-5)
    assert (abs(whole) > 1e-3).all()
    others = np.delete(np.asarray(found).reshape(L * H, B), 1, axis=0)
    np.testing.assert_allclose(others, 0, atol=1e-5)


def test_gradients_are_those_of_finite_differences(decoder):
    grads = jax.jit(lambda given: maps_and_gradients(decoder.module, decoder.params, given, score))
    maps, gradients = grads(decoder.given)
    _, found = decoder.captured(decoder.given)
    assert maps.shape == gradients.shape == (L, B, H, T, P)
    np.testing.assert_allclose(maps, found.map, atol=1e-6)
    assert (gradients[:, 0, ..., 3] == 0).all()  # a hidden patch
    assert (gradients[:, 1, ..., 3] != 0).any()
    for place in ((0, 0, 1, AT, 2), (1, 1, 0, AT, 6), (0, 1, 1, 1, 5)):
        values = []
        for change in (0.03, -0.03):
            source = found._replace(map=found.map.at[place].add(change))
            here = jnp.zeros((L, B, H, T), bool).at[place[:4]].set(True)
            logits, _ = decoder.patched(decoder.given, source, {"map": here})
            values.append(float(score(logits)[place[1]]))
        slope = (values[0] - values[1]) / 0.06
        assert slope == pytest.approx(float(gradients[place]), rel=0.02, abs=1e-4)


def test_texts_that_share_an_image_are_run_with_one_each(decoder):
    one = {name: leaf[:1] for name, leaf in decoder.given.items()}
    texts = {name: jnp.repeat(one[name], B, axis=0) for name in ("tokens", "truth", "prompt")}
    _, found = jax.eval_shape(lambda: capture(decoder.module, decoder.params, one | texts))
    assert found.map.shape == (L, B, H, T, P)


MISTAKES = {
    "nothing": (lambda m, *a: patch(m, *a[:3]), "say which entries"),
    "name": (lambda m, *a: patch(m, *a[:3], outputs=ALL), "no activation is named outputs"),
    "axes": (lambda m, *a: patch(m, *a[:3], output=ALL[0]), "output is where to"),
    "numbers": (
        lambda m, *a: patch(m, *a[:3], output=ALL.astype(jnp.float32)),
        "output is where to",
    ),
    "layers": (lambda m, *a: patch(m, *a[:3], output=jnp.repeat(ALL, 5, axis=0)), "2 layers read"),
    "edges": (lambda m, *a: knock_out_edges(m, *a[:2], ALL), "edges are booleans of 5 axes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_refused(mistake, decoder):
    call, said = MISTAKES[mistake]

    _, found = decoder.captured(decoder.given)
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(lambda: call(decoder.module, decoder.params, decoder.given, found))


@pytest.mark.parametrize("name", ["connector", "bottleneck", "resampler", "mean", "none"])
def test_no_maps_of_patches_are_made_up(name):
    module = VisionLanguageDecoder(V, VisionLanguageConfig(**fields(name)))
    with pytest.raises(ValueError, match="words read"):
        maps_and_gradients(module, {}, inputs(0), score)
