"""Parts of masks: chosen queries and keys, blocks, splits of the keys, padding."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.ops.masks.mask import BlockVisibility, Span

B, H, T, S = 2, 3, 13, 20
WINDOWS = {"window": (2, 3, 1), "left": (3, None, -2), "right": (None, 0, 5), "none": (-4, 2, 0)}


def truth(see):
    """Booleans (B, H, T, S) by loops; see(b, h, i, j)."""
    out = np.empty((B, H, T, S), bool)
    for at in np.ndindex(out.shape):
        out[at] = see(*at)
    return out


def ordered(rng, n, start=0):
    """Sorted ids without gaps, (B, n)."""
    return start + np.cumsum(rng.random((B, n)) < 0.2, axis=1)


@functools.cache
def kinds(seed=0):
    """{kind: (mask, booleans (B, H, T, S))} of every kind, whose blocks are exact."""
    rng = np.random.default_rng(seed)
    out = {"everything": (Mask(), truth(lambda *_: True))}
    query, key = np.array([T, 4]), np.array([0, 14])
    out["query"] = (Mask.lengths(query), truth(lambda b, h, i, j: i < query[b]))
    out["key"] = (Mask.lengths(key=key), truth(lambda b, h, i, j: j < key[b]))
    both = truth(lambda b, h, i, j: i < query[b] and j < key[b])
    out["lengths"] = (Mask.lengths(query, key), both)
    for offset in (0, S - T, -5):
        see = lambda b, h, i, j, offset=offset: i + offset >= j
        out[f"causal {offset}"] = (Mask.causal(offset), truth(see))
    out["causal each"] = (Mask.causal(key - 7), truth(lambda b, h, i, j: i + key[b] - 7 >= j))
    for name, (left, right, offset) in WINDOWS.items():

        def see(b, h, i, j, left=left, right=right, offset=offset):
            low = left is None or i + offset - left <= j
            return low and (right is None or j <= i + offset + right)

        out[name] = (Mask.window(left, right, offset), truth(see))
    left, at = np.array([1, 5]), np.array([7, 0])
    see = lambda b, h, i, j: i + at[b] - left[b] <= j <= i + at[b] + 2
    out["window each"] = (Mask.window(left, 2, at), truth(see))
    a, c = ordered(rng, T), ordered(rng, S)
    out["segments"] = (Mask.segments(a, c), truth(lambda b, h, i, j: a[b, i] == c[b, j]))
    # Before the first image and after the last, whole blocks belong to none.
    m = np.where(np.arange(T) < 5, 0, ordered(rng, T, 1))
    n = np.where(np.arange(S) < 14, ordered(rng, S, 1), 0)
    see = lambda b, h, i, j: m[b, i] > 0 and m[b, i] == n[b, j]
    out["media"] = (Mask.media(m, n), truth(see))
    see = lambda b, h, i, j: 1 <= n[b, j] <= m[b, i]
    out["media so far"] = (Mask.media(m, n, latest_only=False), truth(see))
    seen = np.repeat(rng.random((B, 5)) < 0.5, 4, axis=1) | (rng.random((B, S)) < 0.1)
    out["keys"] = (Mask.keys(seen), truth(lambda b, h, i, j: seen[b, j]))
    for shape in ((B, H, T, S), (1, 1, T, S), (B, 1, 1, S), (B, 1, T, 1), (1, H, 1, 1)):
        dense = rng.random(shape) < 0.6
        out[f"dense {shape}"] = (Mask.dense(dense), np.broadcast_to(dense, (B, H, T, S)))
    return out


@functools.cache
def everything(seed=0):
    """`kinds`, and what is safe but not exact: pairs of kinds, and ids in no order."""
    rng = np.random.default_rng(seed + 1)
    out = dict(kinds(seed))
    a, c = rng.integers(-2, 4, (B, T)), rng.integers(-2, 4, (B, S))
    out["unordered"] = (Mask.segments(a, c), a[:, None, :, None] == c[:, None, None, :])
    a, c = np.abs(a)[:, None, :, None], np.abs(c)[:, None, None, :]
    mask = functools.partial(Mask.media, a[:, 0, :, 0], c[:, 0, 0])
    out["media in no order"] = (mask(), (a == c) & (a > 0))
    out["media so far in no order"] = (mask(latest_only=False), (c <= a) & (c > 0))
    names = list(out)
    for _ in range(8):
        some = [out[name] for name in rng.choice(names, 3, replace=False)]
        mask, want = some[0][0] & some[1][0] & some[2][0], some[0][1] & some[1][1] & some[2][1]
        out[f"together {len(out)}"] = (mask, want)
    return {name: (mask, np.broadcast_to(want, (B, H, T, S))) for name, (mask, want) in out.items()}


def of_all(function, cases):
    """{kind: function(mask)} in one compilation."""
    masks = {name: mask for name, (mask, _) in cases.items()}
    return jax.jit(lambda masks: {name: function(mask) for name, mask in masks.items()})(masks)


def assert_equal(found, cases, wanted=lambda want: want):
    for name, (_, want) in cases.items():
        want = wanted(want)
        assert np.array_equal(np.broadcast_to(found[name], want.shape), want), name


ROWS, COLUMNS = [4, 0, 4, 11], [19, 3, 0]
OWN_ROWS, OWN_COLUMNS = np.array([[1, 3], [12, 0]]), np.array([[1, 3, 19], [2, 0, 0]])


@pytest.mark.parametrize(
    ("rows", "columns", "wanted"),
    [
        (None, COLUMNS, lambda x: x[..., COLUMNS]),
        (ROWS, None, lambda x: x[:, :, ROWS]),
        ([ROWS], COLUMNS, lambda x: x[:, :, ROWS][..., COLUMNS]),
        (
            OWN_ROWS,
            OWN_COLUMNS,
            lambda x: np.stack([x[b][:, OWN_ROWS[b]][..., OWN_COLUMNS[b]] for b in range(B)]),
        ),
        (
            Span(2, 5),
            OWN_COLUMNS,
            lambda x: np.stack([x[b, :, 2:7][..., OWN_COLUMNS[b]] for b in range(B)]),
        ),
        (OWN_ROWS, Span(17, 3), lambda x: np.stack([x[b][:, OWN_ROWS[b], 17:] for b in range(B)])),
    ],
)
def test_chosen(rows, columns, wanted):
    chosen = [x if x is None or isinstance(x, Span) else jnp.array(x) for x in (rows, columns)]
    found = of_all(lambda mask: mask.visible(B, T, S, *chosen), everything())
    assert_equal(found, everything(), wanted)


def test_chosen_in_a_loop():
    starts, size = jnp.array([0, 5, 15]), 5

    def visible(mask, start):
        span = mask.visible(B, T, S, None, Span(start, size))
        return span, mask.visible(B, T, S, columns=start + jnp.arange(size))

    found = of_all(lambda mask: jax.lax.map(lambda s: visible(mask, s), starts), kinds())
    for way in (0, 1):
        for n, start in enumerate(starts.tolist()):
            part = {name: x[way][n] for name, x in found.items()}
            assert_equal(part, kinds(), lambda x, start=start: x[..., start : start + size])


def blocks(want, query_block, key_block):
    """The truth of `Mask.blocks` from the booleans (B, H, T, S)."""
    rows, columns = range(0, T, query_block), range(0, S, key_block)
    some, full = np.zeros((2, B, len(rows), len(columns)), bool)
    for b, (n, i), (m, j) in itertools.product(range(B), enumerate(rows), enumerate(columns)):
        block = want[b, :, i : i + query_block, j : j + key_block]
        some[b, n, m] = block.any()
        full[b, n, m] = block.all() and block.shape[1:] == (query_block, key_block)
    return BlockVisibility(some, full)


@pytest.mark.parametrize("sizes", [(4, 5), (64, 7)])
def test_blocks(sizes):
    found = of_all(lambda mask: mask.blocks(B, T, S, *sizes), everything())
    for name, (_, want) in everything().items():
        want = blocks(want, *sizes)
        some, full = (np.broadcast_to(x, want.some.shape) for x in found[name])
        assert np.array_equal(full, want.full), name
        assert not (want.some & ~some).any(), name
        assert name not in kinds() or np.array_equal(some, want.some), name


def test_blocks_of_constant_ids_are_exact():
    rng = np.random.default_rng(2)
    query, key = (
        np.repeat(rng.integers(0, 3, (B, n)), 5, axis=1)[:, :m] for n, m in ((3, T), (4, S))
    )
    for mask in (Mask.segments(query, key), Mask.media(query, key)):
        want = blocks(np.asarray(mask.dense_array(B, T, S)), 5, 5)
        assert not want.some.all()
        assert np.array_equal(mask.blocks(B, T, S, 5, 5).some, want.some)


def test_only_blocks_of_equal_ids_are_full():
    """All pairs of no id and two ids, as two queries and as two keys."""
    ids = np.array(list(itertools.product(range(3), repeat=2))).reshape(1, 18)
    media = (Mask.media(ids, ids, latest_only=latest) for latest in (False, True))
    for mask in (Mask.segments(ids, ids), *media):
        dense = np.asarray(mask.dense_array(1, 18, 18)).reshape(1, 9, 2, 9, 2)
        some, full = mask.blocks(1, 18, 18, 2, 2)
        assert np.array_equal(full, dense.all(axis=(2, 4)))
        assert not (dense.any(axis=(2, 4)) & ~np.asarray(some)).any()


def test_blocks_of_a_conjunction_are_those_of_its_terms():
    a, c = Mask.window(1, 2, 3), Mask.lengths(key=np.array([0, 14]))
    one, other, both = (mask.blocks(B, T, S, 4, 5) for mask in (a, c, a & c))
    assert np.array_equal(both.some, one.some & other.some)
    assert np.array_equal(both.full, one.full & other.full)


def test_blocks_depend_on_the_batch_only_where_the_mask_does():
    shared = Mask.causal(0) & Mask.window(3, 1, 0) & Mask.dense(np.ones((1, H, T, 1), bool))
    assert shared.blocks(B, T, S, 4, 5).some.shape == (1, 4, 4)
    assert Mask().blocks(B, T, S, 4, 5).full.shape == (1, 4, 4)
    assert Mask.causal(np.array([1, 2])).blocks(B, T, S, 4, 5).some.shape == (B, 4, 4)
    assert Mask.causal(0).blocks(B, 0, S, 4, 5).some.shape == (1, 0, 4)


def largest(jaxpr):
    """Entries of the largest array that a program makes."""
    sizes = [v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars]
    inner = [getattr(p, "jaxpr", None) for eqn in jaxpr.eqns for p in eqn.params.values()]
    return max([*sizes, *(largest(p) for p in inner if p is not None)], default=0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda mask, n: mask.blocks(1, n, n, 13, 17),
        lambda mask, n: mask.visible(1, n, n, jnp.arange(7), jnp.arange(11)),
        lambda mask, n: mask.visible(1, n, n, Span(3, 7), Span(5, 11)),
        lambda mask, n: mask.split_keys(1, n, n, 7),
        lambda mask, n: mask.padded(1, n, n, n + 3, n + 5),
    ],
)
def test_symbolic_masks_make_no_array_of_all_pairs(ask):
    n = 497
    ids, few = jnp.zeros((1, n), jnp.int32), jnp.zeros(1, jnp.int32)
    mask = Mask.lengths(few, few) & Mask.segments(ids, ids) & Mask.causal(few) & Mask.causal()
    mask = mask & Mask.window(few, 3) & Mask.keys(ids > 0)
    mask = mask & Mask.media(ids, ids) & Mask.media(ids, ids, latest_only=False)
    entries = lambda f: largest(jax.make_jaxpr(f)(mask).jaxpr)
    assert 0 < entries(lambda mask: ask(mask, n)) <= 7 * n  # 7 parts repeat the queries
    assert entries(lambda mask: mask.visible(1, n, n)) == n * n


def split(x, parts):
    """(B, H, T, S) to (B * parts, H, T, S / parts)."""
    return np.stack(np.split(x, parts, axis=3), axis=1).reshape(B * parts, *x.shape[1:3], -1)


def test_split_keys():
    found = of_all(lambda mask: mask.split_keys(B, T, S, 4).dense_array(4 * B, T, 5), everything())
    assert_equal(found, everything(), lambda x: split(x, 4))


def test_split_lengths_and_padded_axes_stay_small():
    (lengths,) = jax.tree.leaves(Mask.lengths(key=np.array([0, 14])).split_keys(B, T, S, 4))
    assert lengths.tolist() == [0, 0, 0, 0, 5, 5, 4, 0]
    dense = Mask.dense(np.ones((1, 1, 1, S), bool)).padded(B, T, S, 16, 24)
    assert jax.tree.leaves(dense)[0].shape == (1, 1, 1, 24)


def pad(x, query_to, key_to):
    return np.pad(x, [(0, 0), (0, 0), (0, query_to - T), (0, key_to - S)])


def test_padded():
    found = of_all(lambda mask: mask.padded(B, T, S, T, 23).dense_array(B, T, 23), everything())
    assert_equal(found, everything(), lambda x: pad(x, T, 23))


def test_padded_then_split_then_blocks():
    def ask(mask):
        mask = mask.padded(B, T, S, 15, 24).split_keys(B, 15, 24, 2)
        return mask.dense_array(2 * B, 15, 12), mask.blocks(2 * B, 15, 12, 5, 4)

    found = of_all(ask, kinds())
    for name, (_, want) in kinds().items():
        want = split(pad(want, 15, 24), 2)
        assert np.array_equal(np.broadcast_to(found[name][0], want.shape), want), name
        tiles = want.reshape(2 * B, H, 3, 5, 3, 4)
        some, full = found[name][1]
        assert np.array_equal(np.broadcast_to(full, (2 * B, 3, 3)), tiles.all((1, 3, 5))), name
        assert not (tiles.any((1, 3, 5)) & ~np.asarray(some)).any(), name


def test_padding_adds_lengths_only_where_a_side_grows():
    mask = Mask.causal(np.int32(1))
    assert mask.padded(B, T, S, T, S) is mask
    assert mask.split_keys(B, T, S, 1) is mask
    (added,) = jax.tree.leaves(Mask().padded(B, T, S, T, S + 1))
    assert added.tolist() == [S, S]
    assert len(jax.tree.leaves(mask.padded(B, T, S, T + 1, S + 1))) == 3


@pytest.mark.parametrize("mask", [Mask.causal(), Mask.window(1, 1)])
def test_offsets_left_out_keep_their_meaning(mask):
    @jax.jit
    def ask(mask):
        longer = mask.padded(1, 4, 4, 5, 7).dense_array(1, 5, 7)
        ways = [mask.split_keys(1, 4, 4, n).dense_array(n, 4, 4 // n) for n in (2, 4)]
        return mask.dense_array(1, 4, 4), longer, ways

    want, longer, ways = jax.device_get(ask(mask))
    assert np.array_equal(longer, np.pad(want, [(0, 0), (0, 0), (0, 1), (0, 3)]))
    for parts in ways:
        assert np.array_equal(np.concatenate(parts, axis=2)[None], want)


def test_new_values_recompile_nothing():
    traces = []

    @jax.jit
    def ask(mask):
        traces.append(mask)
        return mask.blocks(B, T, S, 4, 5), mask.padded(B, T, S, T, 24).split_keys(B, T, 24, 3)

    for n in range(3):
        ids = np.arange(S)[None].repeat(B, 0) // (n + 1)
        mask = Mask.lengths(key=np.array([n, 5])) & Mask.window(n, n + 1, -n)
        ask(mask & Mask.media(ids[:, :T], ids))
    assert len(traces) == 1


def test_through_scan_and_vmap():
    lengths, lefts = jnp.array([[1, 2], [3, 0], [5, 20]]), jnp.array([0, 2, 9])
    make = lambda n, left: Mask.lengths(key=n) & Mask.window(left, None, left)
    ask = lambda mask: mask.blocks(B, T, S, 4, 5)
    want = [ask(make(*values)) for values in zip(lengths, lefts, strict=True)]
    stacked = jax.vmap(make)(lengths, lefts)
    _, scanned = jax.lax.scan(lambda c, mask: (c, ask(mask)), None, stacked)
    for found in (jax.vmap(ask)(stacked), scanned):
        assert np.array_equal(found.some, np.stack([w.some for w in want]))
        assert np.array_equal(found.full, np.stack([w.full for w in want]))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda m: m.blocks(B, T, S, 0, 5), "query_block=0"),
        (lambda m: m.split_keys(B, T, S, 3), r"S=20 keys.*3 equal parts.*padded\(B, T, S, T"),
        (lambda m: m.split_keys(B, T, S, 0), "0 equal parts"),
        (lambda m: m.padded(B, T, S, 12, S), "T=13.*fewer: 12"),
        (lambda m: Mask.causal().split_keys(B, T, S, 2), r"write Mask.causal\(7\)"),
        (lambda m: Mask.causal().blocks(B, T, S, 4, 5), r"write Mask.causal\(7\)"),
        (lambda m: Mask.keys(np.ones((B, 3), bool)).padded(B, T, S, T, 24), r"B=2, S=20"),
    ],
)
def test_errors(ask, said):
    with pytest.raises(ValueError, match=said):
        ask(Mask())
