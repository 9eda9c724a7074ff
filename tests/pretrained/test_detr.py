"""DETR behind its backbone, and SAM's two-way transformer, against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.interop.files import WeightsError
from crossattn.models.two_way import TwoWayTransformer
from crossattn.ops import Mask
from crossattn.pretrained import load_model
from tests.support.drawing import same
from tests.support.text_fixtures import FOLDER, peer, stored

DETECTION = FOLDER.parent / "detection"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    one = peer("detr", DETECTION)
    return one, load_model(stored(tmp_path_factory.mktemp("detr"), one.state, one.config))


def test_objects_are_those_of_the_class(found):
    one, model = found
    features, there = (jnp.asarray(one.arrays[name]) for name in ("features", "there"))
    logits, boxes = model.objects(features, there)
    np.testing.assert_allclose(logits, one.arrays["logits"], atol=1e-5)
    np.testing.assert_allclose(boxes, one.arrays["boxes"], atol=1e-5)
    other = jnp.where(there[..., None], features, 7.0)
    np.testing.assert_array_equal(model.objects(other, there)[1], boxes)
    assert model.names[3] == "LABEL_3"


def test_places_are_exact(x64, found, tmp_path):
    """What float32 rounds elsewhere does not hide them: sines of float32 angles are 9e-6 off."""
    one, _ = found
    model = load_model(stored(tmp_path, one.state, one.config), dtype=jnp.float64)
    features, there = (jnp.asarray(one.arrays[name]) for name in ("features", "there"))
    logits, boxes = model.objects(features.astype(jnp.float64), there)
    np.testing.assert_allclose(logits, one.arrays["logits"], atol=1e-6)
    np.testing.assert_allclose(boxes, one.arrays["boxes"], atol=1e-6)


def test_files_are_given_back(found):
    one, model = found
    own = {name: x for name, x in one.state.items() if "backbone" not in name}
    same(huggingface.tensors(model.params, "detr"), own)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"position_embedding_type": "learned"}, "expected sine"),
        ({"activation_function": "tanh"}, "activation_function 'tanh'"),
        ({"decoder_attention_heads": 5}, "decoder_attention_heads 5"),
        ({"auxiliary_loss": True}, "auxiliary_loss True: expected false"),
    ],
)
def test_configs_that_are_refused(found, tmp_path, change, said):
    with pytest.raises(WeightsError, match=said):
        load_model(stored(tmp_path, found[0].state, found[0].config | change))


def test_files_that_are_refused(found, tmp_path):
    one, _ = found
    with pytest.raises(ImportMismatchError, match="decoder/blocks/self_attention/query/kernel"):
        load_model(stored(tmp_path, one.state, one.config | {"decoder_layers": 2}))
    state = {name: x for name, x in one.state.items() if "class_labels" not in name}
    with pytest.raises(WeightsError, match="DetrForObjectDetection is loaded"):
        load_model(stored(tmp_path, state, one.config))


def weights(traces):
    """Of a pair of traces, or of one."""
    return [one.weights() for one in traces] if type(traces) is tuple else traces.weights()


def test_sam():
    one = peer("sam", DETECTION)
    model = TwoWayTransformer(3, 12, 3, hidden=20)
    params = huggingface.load(one.state, "sam_two_way_transformer", module=model)
    given = [jnp.asarray(one.arrays[name]) for name in ("prompts", "image", "places")]
    (x, context), _ = jax.jit(lambda params: model.apply(params, *given))(params)
    np.testing.assert_allclose(x, one.arrays["x"], atol=1e-5)
    np.testing.assert_allclose(context, one.arrays["context"], atol=1e-5)
    # A prompt that is not there changes nothing, and what is read can be observed.
    given[0] = jnp.pad(given[0], ((0, 0), (0, 1), (0, 0)), constant_values=9.0)
    seen = {"mask": Mask.lengths(key=jnp.array([4, 4])), "observe": weights}
    run = jax.jit(lambda params: model.apply(params, *given, **seen))
    (x, context), (first, others, last) = run(params)
    np.testing.assert_allclose(x[:, :4], one.arrays["x"], atol=1e-5)
    np.testing.assert_allclose(context, one.arrays["context"], atol=1e-5)
    assert [w.shape for w in (*first, *others)] == [
        (2, 3, 5, 6),
        (2, 3, 6, 5),
        (2, 2, 3, 5, 6),
        (2, 2, 3, 6, 5),
    ]
    assert last.shape == (2, 3, 5, 6)
    same(huggingface.tensors(params, "sam_two_way_transformer"), one.state)
    shapes = lambda model: jax.eval_shape(model.init, jax.random.key(0), *given)["params"]
    last = shapes(TwoWayTransformer(3, 12, 3, downsample=4))["final"]["cross_attention"]
    assert last["query"]["kernel"].shape == (12, 3)
    with pytest.raises(ValueError, match="at least 2 layers, got 1"):
        TwoWayTransformer(1, 12, 3).init(jax.random.key(0), *given)
    first = {name: x for name, x in one.state.items() if name[:9] not in ("layers.1.", "layers.2.")}
    with pytest.raises(ImportMismatchError, match=r"missing +layers\.1\.\* +- +a layer") as error:
        huggingface.load(first, "sam_two_way_transformer")
    assert len(error.value.lines) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "gelu"}, "module +activation +relu +gelu, as config.json has hidden_act"),
        ({"num_hidden_layers": 4}, "num_hidden_layers +4 +3, as the tensors have it"),
    ],
)
def test_settings_of_sam_that_are_refused(tmp_path, change, said):
    one = peer("sam", DETECTION)
    folder = stored(tmp_path, one.state, one.config | change)
    model = TwoWayTransformer(3, 12, 3, hidden=20)
    with pytest.raises(ImportMismatchError, match=said):
        huggingface.load(folder, "sam_two_way_transformer", module=model)
