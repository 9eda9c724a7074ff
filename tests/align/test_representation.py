"""Retrieval, gap, CKA, neighbours, Procrustes: other implementations' numbers, planted cases."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import align
from crossattn.align import (
    cka,
    cknna,
    common_neighbour_sequence,
    cycle_neighbours,
    feature_alignment,
    modality_gap,
    mutual_neighbours,
    procrustes,
    recall_at,
    recall_chance,
    uniformity,
)
from tests.support.measure_inputs import images_and_captions, representations

FIXTURES = Path(__file__).parents[1] / "fixtures" / "measures"
PLATONIC = dict(np.load(FIXTURES / "platonic_metrics.npz"))
PAIRS = dict(np.load(FIXTURES / "retrieval_gap_align_uniform.npz"))
random = np.random.default_rng(0)

# The original adds 1e-6 to denominators.
ORIGINAL = {"epsilon": 1e-6}
SIMILARITIES = {
    **{f"mutual_knn_k{k}": lambda x, y, k=k: mutual_neighbours(x, y, k).mean() for k in (5, 10)},
    **{f"cycle_knn_k{k}": lambda x, y, k=k: cycle_neighbours(x, y, k).mean() for k in (5, 10)},
    **{f"cknna_k{k}": lambda x, y, k=k: cknna(x, y, k, **ORIGINAL) for k in (5, 10)},
    **{
        f"cknna_biased_k{k}": lambda x, y, k=k: cknna(x, y, k, unbiased=False, **ORIGINAL)
        for k in (5, 10)
    },
    **{
        f"cka_{name}_{kind}": lambda x, y, kernel=kernel, kind=kind: cka(
            x, y, kernel=kernel, unbiased=kind == "unbiased", **ORIGINAL
        )
        for name, kernel in (("linear", "linear"), ("rbf1", "rbf"))
        for kind in ("biased", "unbiased")
    },
}


def of_pair(letters):
    return [PLATONIC[letter] for letter in letters]


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("pair", ["AB", "AA", "AU"])
def test_platonic_rep(name, pair):
    found, pinned = SIMILARITIES[name](*of_pair(pair)), PLATONIC[f"{name}_{pair}"]
    if "knn_" in name:  # the mean of the original is a number of float32
        assert abs(found - pinned) <= np.spacing(np.float32(pinned))
    else:
        np.testing.assert_allclose(found, pinned, rtol=0, atol=1e-10)


@pytest.mark.parametrize("k", [5, 10])
def test_common_sequences_of_platonic_rep(k):
    for pair in ("AB", "AA", "AU"):
        found = common_neighbour_sequence(*of_pair(pair), k).mean()
        pinned = PLATONIC[f"lcs_knn_k{k}_{pair}"]
        assert abs(found - pinned) <= np.spacing(np.float32(pinned))


SPACE = {
    **{
        f"alignment_{p}": lambda x, y, p=p: feature_alignment(x, y[::3], power=p)
        for p in (1.0, 2.0)
    },
    **{
        f"uniformity_{s}": lambda x, y, s=s: jnp.stack([uniformity(z, scale=s) for z in (x, y)])
        for s in (2.0, 5.0)
    },
    "gap": modality_gap,
}


def in_one_program(measures):
    return jax.jit(lambda x, y: {name: f(x, y) for name, f in measures.items()})


def assert_close_in_float32(program, measures, *arrays):
    """To 1e-6 of what float64 has of them."""
    found = program(*(jnp.asarray(x, jnp.float32) for x in arrays))
    for name, measure in measures.items():
        assert found[name].dtype == jnp.float32
        wanted = np.asarray(measure(*arrays))
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=1e-6, err_msg=name)


def test_float32_under_jit_has_six_digits():
    """Of the pinned features, and of those of other seeds."""
    similarities, space = in_one_program(SIMILARITIES), in_one_program(SPACE)
    for features in (PLATONIC, *map(representations, range(3))):
        for other in "BU":
            arrays = features["A"], features[other]
            assert_close_in_float32(similarities, SIMILARITIES, *arrays)
    for pair in ((PAIRS["image"], PAIRS["text"]), *map(images_and_captions, range(10))):
        assert_close_in_float32(space, SPACE, *pair)


def test_float64_under_jit_is_as_pinned(x64):
    found = in_one_program(SIMILARITIES)(*map(jnp.asarray, of_pair("AB")))
    for name, value in found.items():
        pinned = PLATONIC[f"{name}_AB"]
        atol = np.spacing(np.float32(pinned)) if "knn_" in name else 1e-10
        np.testing.assert_allclose(value, pinned, rtol=0, atol=atol, err_msg=name)


def test_no_product_is_taken_in_fewer_digits():
    """As GPUs and TPUs do for speed, unless told."""
    pair = jnp.asarray(PAIRS["image"]), jnp.asarray(PAIRS["text"][:60])
    for measures in (SIMILARITIES, {"uniformity": lambda x, y: uniformity(x) + uniformity(y)}):
        text = str(jax.make_jaxpr(in_one_program(measures))(*pair))
        assert text.count("dot_general[") == text.count("precision=(Precision.HIGHEST") > 0


def test_features_that_are_far_apart_have_a_uniformity():
    """exp(-4 scale) is 0 in float32."""
    image = images_and_captions(0)[0][:7]
    far = uniformity(jnp.asarray(image, jnp.float32), scale=200.0)
    assert float(far) == pytest.approx(uniformity(image, scale=200.0), rel=1e-6)
    assert np.isfinite(jax.grad(lambda x: uniformity(x, scale=200.0))(jnp.asarray(image))).all()


def test_levels_of_chance():
    """Of unrelated features, over 40 draws of 60 things."""
    draws = random.normal(size=(40, 2, 60, 12))
    draws /= np.linalg.norm(draws, axis=-1, keepdims=True)
    assert abs(np.mean([cka(x, y) for x, y in draws])) < 0.01
    assert np.mean([cka(x, y, unbiased=False) for x, y in draws]) > 0.15
    assert abs(np.mean([mutual_neighbours(x, y, 6) for x, y in draws]) - 6 / 59) < 0.01
    assert abs(np.mean([cycle_neighbours(x, y, 6) for x, y in draws]) - 0.476) < 0.03
    assert abs(np.mean([cknna(x, y, 6) for x, y in draws]) - 6 / 60) < 0.02
    assert uniformity(random.normal(size=(400, 300))) == pytest.approx(-4, abs=0.05)


def test_retrieval_of_albef():
    image_of = np.arange(180) // 3
    scores = PAIRS["image"] @ PAIRS["text"].T
    for k in (1, 5, 10):
        found = recall_at(scores, image_of, k)
        assert abs(100 * found["image_to_text"].mean() - PAIRS[f"itm_eval_txt_r{k}"]) < 1e-10
        assert abs(100 * found["text_to_image"].mean() - PAIRS[f"itm_eval_img_r{k}"]) < 1e-10


def test_chance_of_retrieval_is_that_of_random_scores():
    image_of = np.array([0, 0, 0, 1, 2, 2])
    for k in (1, 2, 6):
        tried = [recall_at(random.random((3, 6)), image_of, k) for _ in range(300)]
        for direction, level in recall_chance(image_of, k).items():
            mean = np.mean([hits[direction] for hits in tried], axis=0)
            np.testing.assert_allclose(mean, level, atol=0.09)


def test_a_scorer_that_always_says_the_same_finds_nothing():
    for hits in recall_at(np.ones((3, 3)), np.arange(3), 2).values():
        assert not hits.any()


def test_gap_alignment_uniformity():
    image, text = PAIRS["image"], PAIRS["text"]
    for power in (1.0, 2.0):
        found = feature_alignment(image, text[::3], power=power)  # each with its first caption
        assert abs(found - PAIRS[f"align_alpha{power:.0f}"]) < 1e-10
    for name, features, scale in (("img", image, 2.0), ("txt", text, 2.0), ("img", image, 5.0)):
        found = uniformity(features, scale=scale)
        assert abs(found - PAIRS[f"uniform_{name}_t{scale:.0f}"]) < 1e-10
    assert abs(modality_gap(7 * image, text) - PAIRS["modality_gap_norm"]) < 1e-10
    heads = modality_gap(np.stack([image, text[:60]]), np.stack([text, text]))
    assert heads.shape == (2,)
    loss = lambda x: feature_alignment(x, x[::-1]) + uniformity(x)
    assert np.isfinite(jax.jit(jax.grad(loss))(jnp.asarray(image, jnp.float32))).all()


def test_procrustes_of_scipy():
    pinned = np.load(FIXTURES / "procrustes.npz")
    rotation, scale, disparity = procrustes(pinned["X"], pinned["Y"])
    np.testing.assert_allclose(rotation, pinned["scipy_R"], rtol=0, atol=1e-10)
    assert scale == pytest.approx(pinned["scipy_scale"], abs=1e-10)
    assert disparity == pytest.approx(pinned["scipy_disparity"], abs=1e-10)
    small = procrustes(*(pinned[name].astype(np.float32) for name in "XY"))
    np.testing.assert_allclose(small[0], rotation, rtol=0, atol=1e-6)
    assert small[1:] == pytest.approx((scale, disparity), rel=1e-6)


X = np.arange(15.0).reshape(5, 3) % 4


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("cka", (X, X[:4]), r"x \(5, 3\), y \(4, 3\): \(N, D\) and \(N, M\) of the same N >= 4"),
        ("cka", (X[:3], X[:3]), "same N >= 4 things"),
        ("cka", (X * np.nan, X), "x has 15 of 15 numbers that are not finite"),
        ("cka", (X, X * 0), "y has the same features for all 5 things"),
        ("cknna", (X, X, 1), "k is 2 to 4 of 5 things, got 1"),
        ("mutual_neighbours", (X, X, 5), "k is 1 to 4 of 5 things, got 5"),
        ("cycle_neighbours", (X[0], X, 1), r"x \(3,\): an array \(N, D\) with entries"),
        ("common_neighbour_sequence", (X, X, 0), "k is 1 to 4"),
        ("procrustes", (X, X[:, :2]), r"one shape \(N, D\)"),
        ("feature_alignment", (X + 1, X[:, :2] + 1), r"one shape \(..., N, D\) is meant"),
        ("feature_alignment", (X * 0, X + 1), "5 of 5 features of image have length 0"),
        ("modality_gap", (X + 1, X[:, :2] + 1), r"\(..., N, D\) and \(..., E, D\) are meant"),
        ("uniformity", (X[:1] + 1,), "two or more are meant"),
        ("recall_at", (X, np.array([0, 1, 2]), 1), "2 images without a caption"),
        ("recall_at", (X, np.arange(5), 1), r"each caption's image, \(3,\), got int64\[5\]"),
        ("recall_at", (X[:3], np.arange(3), 0), "k is at least 1, got 0"),
        ("recall_at", (X[:3] + np.inf, np.arange(3), 1), "scores has"),
        ("recall_chance", (np.array([0, 2]), 1), "1 images without a caption"),
        ("recall_chance", (np.zeros(0, int), 1), "got none"),
    ],
)
def test_what_is_not_meant_is_refused(name, given, said, unchecked):
    with pytest.raises(ValueError, match=said):
        getattr(align, name)(*given)


def test_settings_out_of_range():
    for call, said in (
        (lambda: cka(X, X, sigma=0.0), "sigma > 0"),
        (lambda: uniformity(X + 1, scale=0.0), "scale is above 0"),
        (lambda: feature_alignment(X + 1, X + 1, power=0.0), "power is above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
