import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from tests.support.cases import Call, build, drawn, kinds

B, T, S = 2, 3, 5
IMAGES = jnp.array([[0, 1, 2]]), jnp.array([[1, 1, 2, 0]])


def matrix(mask, B=1, T=3, S=4):
    """Rows of 0 and 1, e.g. "1100 1110"."""
    (head,) = np.asarray(mask.dense_array(B, T, S))[0].astype(int)
    return " ".join("".join(map(str, row)) for row in head)


@pytest.mark.parametrize(
    ("mask", "rows"),
    [
        (Mask(), "1111 1111 1111"),
        (Mask.lengths(key=jnp.array([2])), "1100 1100 1100"),
        (Mask.lengths(query=jnp.array([2])), "1111 1111 0000"),
        (Mask.lengths(jnp.array([1]), jnp.array([3])), "1110 0000 0000"),
        (Mask.lengths(key=jnp.array([0])), "0000 0000 0000"),
        (Mask.lengths(key=jnp.array([9])), "1111 1111 1111"),
        (Mask.causal(0), "1000 1100 1110"),
        (Mask.causal(1), "1100 1110 1111"),
        (Mask.causal(-1), "0000 1000 1100"),
        (Mask.causal(-9), "0000 0000 0000"),
        (Mask.causal(jnp.array([1])), "1100 1110 1111"),
        (Mask.segments(jnp.array([[1, 1, 2]]), jnp.array([[1, 2, 2, 0]])), "1000 1000 0110"),
        (Mask.window(1, 0, 0), "1000 1100 0110"),
        (Mask.window(0, 1, 1), "0110 0011 0001"),
        (Mask.window(None, 1, 0), "1100 1110 1111"),
        (Mask.window(0, None, -1), "1111 1111 0111"),
        (Mask.window(None, None, 0), "1111 1111 1111"),
        (Mask.window(-1, 2, 0), "0110 0011 0001"),
        (Mask.window(-2, 1, 0), "0000 0000 0000"),
        (Mask.window(jnp.array([1]), 0, jnp.array([1])), "1100 0110 0011"),
        (Mask.media(*IMAGES), "0000 1100 0010"),
        (Mask.media(*IMAGES, latest_only=False), "0000 1100 1110"),
        (Mask.media(jnp.array([[1, 0, -1]]), jnp.array([[-1, 0, 1, 0]])), "0010 0000 0000"),
        (Mask.keys(jnp.array([[True, False, True, False]])), "1010 1010 1010"),
        (Mask.dense(jnp.eye(3, 4, dtype=bool)[None, None]), "1000 0100 0010"),
        (Mask.causal(1) & Mask.lengths(key=jnp.array([3])), "1100 1110 1110"),
        (Mask() & Mask.causal(0), "1000 1100 1110"),
    ],
)
def test_drawn_by_hand(mask, rows):
    assert matrix(mask) == rows


def test_causal_without_offset_is_zero_on_a_square():
    assert matrix(Mask.causal(), T=3, S=3) == "100 110 111"
    assert matrix(Mask.window(0, 1), T=3, S=3) == "110 011 001"


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_integers_of_any_dtype(dtype):
    lengths = np.array([0, 3], dtype)
    want = np.asarray(Mask.lengths(key=jnp.array([0, 3])).dense_array(B, T, 300))
    got = Mask.lengths(key=lengths).dense_array(B, T, 300)
    assert np.array_equal(got, want)
    ids = np.arange(B * S, dtype=dtype).reshape(B, S)
    same = Mask.segments(ids[:, :T], jnp.asarray(ids, jnp.int32)).dense_array(B, T, S)
    assert np.array_equal(np.asarray(same)[0, 0], np.eye(T, S, dtype=bool))
    assert np.array_equal(
        Mask.causal(np.array(2, dtype)).dense_array(B, T, S), Mask.causal(2).dense_array(B, T, S)
    )
    near = Mask.window(np.array(1, dtype), 0, np.full(B, 2, dtype)).dense_array(B, T, S)
    assert np.array_equal(near, Mask.window(1, 0, 2).dense_array(B, T, S))
    query, key = np.asarray(IMAGES[0]).astype(dtype), np.asarray(IMAGES[1])
    for latest in (True, False):
        assert matrix(Mask.media(query, key, latest)) == matrix(Mask.media(*IMAGES, latest))


def test_narrow_integers_do_not_wrap():
    longest = Mask.lengths(key=np.array([127, 5], np.int8)).dense_array(B, T, 300)
    assert np.asarray(longest)[:, 0, 0].sum(1).tolist() == [127, 5]
    unlimited = Mask.lengths(key=np.full(B, np.iinfo(np.uint32).max, np.uint32))
    assert np.asarray(unlimited.dense_array(B, T, S)).all()
    assert np.asarray(Mask.causal(np.int32(2**31 - 1)).dense_array(B, T, S)).all()
    assert not np.asarray(Mask.causal(np.int32(-(2**31))).dense_array(B, T, S)).any()


@pytest.mark.parametrize("top", [2**31 - 1, np.int32(2**31 - 1), np.uint32(2**32 - 1), 2**40])
def test_huge_distances_do_not_wrap(top):
    low = -int(top)
    seen = lambda *band: np.asarray(Mask.window(*band).dense_array(B, T, S))
    for everything in ((top, top, 0), (top, None, -7), (None, top, top), (top, None, low)):
        assert seen(*everything).all()
    for nothing in ((0, None, top), (None, 0, low), (low, None, 0), (None, low, 0)):
        assert not seen(*nothing).any()
    # Both are beyond all positions, yet their difference is not.
    assert np.array_equal(seen(top, None, top), seen(0, None, 0))
    assert np.array_equal(seen(None, top, low), seen(None, 0, 0))


def test_numpy_integers_that_jax_would_cut():
    limit = np.iinfo(np.int64).max
    assert np.asarray(Mask.lengths(key=np.full(B, limit)).dense_array(B, T, S)).all()
    assert np.asarray(Mask.causal(np.full(B, limit)).dense_array(B, T, S)).all()
    with pytest.raises(ValueError, match=r"ids beyond int32.*number them from 0"):
        Mask.segments(np.full((B, T), 2**32 + 1), np.ones((B, S), int))


def test_ids_that_only_one_side_can_hold():
    ids = np.array([[2**32 - 1, 2**32 - 2, 5, 2**31]], np.uint32)
    same_bits = ids.view(np.int32)
    assert matrix(Mask.segments(ids, same_bits), T=4) == "0000 0000 0010 0000"
    assert matrix(Mask.segments(same_bits, ids), T=4) == "0000 0000 0010 0000"
    assert matrix(Mask.segments(ids, ids), T=4) == "1000 0100 0010 0001"


def test_wide_integers_do_not_wrap(x64):
    limit = np.iinfo(np.int64).max
    unlimited = Mask.lengths(key=np.full(B, limit))
    assert np.asarray(unlimited.dense_array(B, T, S)).all()
    ids = np.array([[1, 1 + 2**32]]).repeat(B, 0)
    for mask in (
        Mask.segments(ids, ids),
        Mask.segments(ids.astype(np.uint64), ids),
        Mask.media(ids, ids),
    ):
        assert np.array_equal(mask.dense_array(B, 2, 2)[0, 0], np.eye(2, dtype=bool))
    far = Mask.window(np.full(B, limit), None, np.array(limit - 1))
    assert np.array_equal(far.dense_array(B, T, S), Mask.window(1, None, 0).dense_array(B, T, S))
    assert np.asarray(Mask.window(None, limit, limit).dense_array(B, T, S)).all()


@pytest.mark.parametrize("call", [Call(), Call(H=5, K=1, T=3)])
def test_every_kind_equals_loops(call):
    for kind, leaves in kinds(call).items():
        got = build(leaves).dense_array(call.B, call.T, call.S)
        assert np.array_equal(got, drawn(leaves)), kind


def test_chosen_rows():
    call = Call()
    for leaves in kinds(call).values():
        mask, want = build(leaves), drawn(leaves)
        shared = jnp.array([[4, 0, 4]])
        got = mask.visible(call.B, call.T, call.S, shared)
        assert np.array_equal(got, want[:, :, [4, 0, 4]])
        own = jnp.array([[1, 3], [2, 0]])
        got = mask.visible(call.B, call.T, call.S, own)
        assert np.array_equal(got, np.stack([want[0][:, [1, 3]], want[1][:, [2, 0]]]))


def masks():
    return Mask.lengths(key=jnp.array([2, 5])) & Mask.causal(jnp.int32(1)) & Mask.causal(2)


def test_arrays_and_integers_are_leaves():
    assert len(jax.tree.leaves(masks())) == 3
    assert jax.tree.leaves(Mask() & Mask.causal()) == []
    assert len(jax.tree.leaves(Mask.window(1, None, 2) & Mask.window(None, jnp.arange(2)))) == 3
    kinds = [Mask.media(*IMAGES, latest) for latest in (True, False)]
    assert len(jax.tree.leaves(kinds[0])) == 2
    assert len({jax.tree.structure(kind) for kind in kinds}) == 2


def test_new_values_recompile_nothing():
    traces = []

    @jax.jit
    def array(mask):
        traces.append(mask)
        return mask.dense_array(B, T, S)

    for n in range(3):
        mask = Mask.lengths(key=jnp.array([n, 5])) & Mask.causal(n)
        assert np.array_equal(array(mask), mask.dense_array(B, T, S))
    assert len(traces) == 1


def test_through_scan_and_vmap():
    lengths = jnp.array([[1, 2], [3, 0], [5, 4]])
    stacked = jax.vmap(lambda n: Mask.lengths(key=n))(lengths)
    want = np.stack([Mask.lengths(key=n).dense_array(B, T, S) for n in lengths])
    assert np.array_equal(jax.vmap(lambda m: m.dense_array(B, T, S))(stacked), want)
    _, got = jax.lax.scan(lambda c, m: (c, m.dense_array(B, T, S)), None, stacked)
    assert np.array_equal(got, want)
    _, got = jax.lax.scan(
        lambda c, _: (c, c.dense_array(B, T, S)), Mask.causal(jnp.int32(1)), length=1
    )
    assert np.array_equal(got[0], Mask.causal(1).dense_array(B, T, S))


def test_frozen():
    with pytest.raises(AttributeError):
        Mask().terms = ()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Mask.lengths(), ValueError, "key=lengths"),
        (lambda: Mask.lengths(key=jnp.ones(2)), TypeError, r"got float32.*astype\(jnp.int32\)"),
        (lambda: Mask.lengths(key=jnp.array([True, False])), TypeError, "got bool"),
        (lambda: Mask.lengths(key=jnp.ones((2, 5), int)), ValueError, r"\(B\), got shape \(2, 5\)"),
        (lambda: Mask.segments(jnp.ones((2, 3), int), None), ValueError, "needs both"),
        (lambda: Mask.segments(jnp.ones(3, int), jnp.ones(5, int)), ValueError, r"\(B, T\)"),
        (lambda: Mask.causal(True), TypeError, r"write Mask.causal\(0\)"),
        (lambda: Mask.causal(1.5), TypeError, "takes integers, got float32"),
        (lambda: Mask.window(1, True), TypeError, r"\(right\).*True: write Mask.window\(1, 1"),
        (lambda: Mask.window(0.5, 1), TypeError, r"\(left\) takes integers, got float32"),
        (
            lambda: Mask.window(1, 1, jnp.ones((2, 1), int)),
            ValueError,
            r"\(offset\).*\(\) or \(B\)",
        ),
        (lambda: Mask.media(jnp.ones((2, 3), int), None), ValueError, "needs both"),
        (lambda: Mask.media(jnp.ones(3, int), jnp.ones(5, int)), ValueError, r"query.*\(B, T\)"),
        (lambda: Mask.media(*IMAGES, jnp.array(True)), TypeError, "write True or False"),
        (lambda: Mask.keys(jnp.ones((2, 5), int)), TypeError, r"astype\(bool\)"),
        (lambda: Mask.keys(jnp.ones(5, bool)), ValueError, r"\(B, S\), got shape \(5,\)"),
        (lambda: Mask.dense(jnp.ones((2, 5), bool)), ValueError, r"mask\[:, None, None, :\]"),
        (lambda: Mask.dense(jnp.ones((2, 3, 5), bool)), ValueError, r"mask\[:, None\] for \(B, T"),
        (lambda: Mask.dense(jnp.ones((2, 1, 3, 5))), TypeError, "bias"),
        (lambda: Mask.causal(0) & jnp.ones((1, 1, 3, 5), bool), TypeError, "Mask.dense"),
        (lambda: np.ones((1, 1, 3, 5), bool) & Mask.causal(0), TypeError, "Mask.dense"),
        (lambda: jnp.ones((1, 1, 3, 5), bool) & Mask.causal(0), TypeError, "Mask.dense"),
    ],
)
def test_construction_errors(unchecked, make, error, said):
    with pytest.raises(error, match=said):
        make()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (Mask.lengths(key=jnp.ones(3, int)), r"key=...\) has shape \(3,\).*\(B\) with B=2"),
        (Mask.lengths(query=jnp.ones(5, int)), r"query=...\) has shape \(5,\)"),
        (Mask.segments(jnp.ones((2, 5), int), jnp.ones((2, 5), int)), r"\(B, T\) with B=2, T=3"),
        (Mask.segments(jnp.ones((2, 3), int), jnp.ones((2, 3), int)), r"\(B, S\) with B=2, S=5"),
        (Mask.causal(jnp.ones(3, int)), r"offset\) has shape \(3,\)"),
        (Mask.window(jnp.ones(3, int), 1, 0), r"window\(left\) has shape \(3,\)"),
        (Mask.window(1, 1), r"T=3 queries and S=5 keys: write Mask.window\(left, right, 2\)"),
        (Mask.media(*IMAGES), r"query_media.*\(1, 3\).*\(B, T\) with B=2, T=3"),
        (Mask.media(jnp.ones((2, 3), int), IMAGES[1]), r"key_media.*\(B, S\) with B=2, S=5"),
        (Mask.keys(jnp.ones((1, 5), bool)), r"\(B, S\) with B=2, S=5"),
        (Mask.dense(jnp.ones((2, 1, 5, 5), bool)), r"\(B\|1, H\|1, T\|1, S\|1\).*T=3, S=5"),
        (Mask.causal(), r"T=3 queries and S=5 keys: write Mask.causal\(2\).*Mask.causal\(0\)"),
    ],
)
def test_misfits(mask, said):
    with pytest.raises(ValueError, match=said):
        mask.dense_array(B, T, S)
