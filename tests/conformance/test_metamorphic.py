"""What must not matter, for every kind of mask alone and for random conjunctions of them."""

import collections

import numpy as np
import pytest
from hypothesis import given

from crossattn.ops.api import RefusalError
from tests.support.calling import EVERY, NEVER_REFUSE, assert_judged, forward, run
from tests.support.cases import inputs
from tests.support.grids import diagonal
from tests.support.hidden import Seen, poisoned
from tests.support.situations import (
    CALLS,
    FEW,
    MANY,
    TERMS,
    build,
    neutral,
    situations,
    visible_by_definition,
)
from tests.support.trace_statistics import statistics, statistics_by_definition

POISONS = (np.nan, np.inf, -np.inf, 3.0)

for_each = pytest.mark.parametrize(
    ("kind", "implementation"),
    [*diagonal([*TERMS], EVERY), *((None, name) for name in EVERY)],
    ids=str,
)


class Trial:
    """Calls one implementation on situations, and counts what they had in them."""

    def __init__(self, implementation):
        self.implementation = implementation
        self.met = collections.Counter()

    def __call__(self, call, arrays, mask, function=run):
        options = {"scale": call.scale, "softcap": call.softcap}
        try:
            found = function(arrays, mask, implementation=self.implementation, **options)
        except RefusalError:
            if self.implementation in NEVER_REFUSE:
                raise
            self.met["refused"] += 1
            return None
        self.met["ran"] += 1
        return found

    def over(self, kind, prop, *events):
        """Tries the property on examples, which must have met the events unless all are refused."""
        (FEW if kind else MANY)(given(situations(kind))(lambda situation: prop(situation)))()
        if not self.met["ran"]:
            pytest.skip(f"{self.implementation} refuses every example")
        for event in events:
            assert self.met[event], (event, self.met)


def prepared(situation):
    """Inputs and cotangents as float32 has them; sometimes a bias of -inf hides pairs, too."""
    arrays = inputs(situation.call, situation.seed, np.float32)
    if "bias" in arrays and situation.seed % 2:
        rng = np.random.default_rng(situation.seed)
        arrays["bias"] = np.where(rng.random(arrays["bias"].shape) < 0.2, -np.inf, arrays["bias"])
    return arrays


@for_each
def test_what_nobody_sees_does_not_matter(kind, implementation):
    """Bit for bit, and its gradients are 0."""
    trial = Trial(implementation)

    def prop(situation):
        arrays = prepared(situation)
        seen = Seen(situation.call, situation.visible, arrays)
        wanted = trial(situation.call, arrays, situation.mask)
        if wanted is None:
            return
        poison = POISONS[situation.seed % 4]
        bad = poisoned(arrays, seen, poison)
        found = trial(situation.call, bad, situation.mask)
        for name, want in wanted.items():
            assert np.array_equal(found[name], want), (name, poison)
            assert name == "lse" or np.isfinite(want).all(), name
        assert not found["dk"][~seen.keys].any()
        assert not found["dv"][~seen.keys].any()
        assert not found["dq"][~seen.queries].any()
        assert not found["out"][~seen.queries].any()
        assert np.array_equal(np.isneginf(found["lse"]), ~seen.rows)
        if "bias" in arrays:
            assert not found["dbias"][~seen.biases].any()
        trial.met["a key that nobody sees"] += not seen.keys.all()
        trial.met["a row without keys"] += not seen.rows.all()
        trial.met["a row with keys"] += seen.rows.any()

    trial.over(kind, prop, "a key that nobody sees", "a row without keys", "a row with keys")


@for_each
def test_a_key_matters_only_to_those_who_see_it(kind, implementation):
    """Bit for bit in output, lse and gradients of the other queries; the rest does change."""
    trial = Trial(implementation)

    def prop(situation):
        arrays = prepared(situation)
        seen, j = Seen(situation.call, situation.visible, arrays), situation.seed % situation.call.S
        wanted = trial(situation.call, arrays, situation.mask)
        if wanted is None:
            return
        moved = {name: x.copy() for name, x in arrays.items()}
        moved["k"][:, j] += 3
        moved["v"][:, j] -= 5
        found = trial(situation.call, moved, situation.mask)
        blind = ~seen.pairs[..., j].swapaxes(1, 2)
        for name in ("out", "dq"):
            assert np.array_equal(found[name][blind], wanted[name][blind]), name
        assert (found["out"] != wanted["out"]).any(3)[~blind].all()
        rows = blind.swapaxes(1, 2)
        assert np.array_equal(found["lse"][rows], wanted["lse"][rows])
        trial.met["blind to it"] += (blind & seen.queries).any()
        trial.met["sees it"] += (~blind).any()

    # All queries that see any key see the same where only keys are hidden.
    trial.over(
        kind, prop, *(("sees it",) if kind in ("keys", "lengths") else ("blind to it", "sees it"))
    )


@for_each
def test_however_it_is_written_and_in_any_order(kind, implementation):
    """Symbolic, written out, and written out with the keys shuffled: all are the definition."""
    trial = Trial(implementation)

    def prop(situation):
        arrays, call, visible = prepared(situation), situation.call, situation.visible
        (B, _, T, S), options = call.sizes, {"scale": call.scale, "softcap": call.softcap}
        written = np.broadcast_to(situation.mask.dense_array(B, T, S), visible.shape)
        assert np.array_equal(written, visible)
        order = np.random.default_rng(situation.seed).permutation(S)
        back = np.argsort(order)
        shuffled = {n: x[:, order] if n in "kv" else x for n, x in arrays.items()}
        if "S" in (call.bias or ""):
            shuffled["bias"] = arrays["bias"][..., order]
        plain = neutral(call)
        tries = (
            (arrays, situation.mask, slice(None)),
            (arrays, build(plain | {"dense": visible}, tuple(TERMS)), slice(None)),
            (shuffled, build(plain | {"dense": visible[..., order]}, tuple(TERMS)), back),
        )
        for given_arrays, mask, undo in tries:
            found = trial(call, given_arrays, mask)
            if found is None:
                continue
            found |= {n: found[n][:, undo] for n in ("dk", "dv")}
            if "S" in (call.bias or ""):
                found["dbias"] = found["dbias"][..., undo]
            assert_judged(found, arrays, visible, np.float32, **options)

    trial.over(kind, prop)


@pytest.mark.parametrize("implementation", EVERY)
def test_statistics(implementation):
    """Of the definition; 0 in rows without keys; what nobody sees is not in them."""
    trial = Trial(implementation)

    def prop(situation):
        arrays, call = prepared(situation), situation.call
        seen = Seen(situation.call, situation.visible, arrays)
        columns = np.random.default_rng(9).standard_normal((call.B, call.S, 3)).astype(np.float32)
        found = []
        hidden = np.where(seen.keys.any(2, keepdims=True), columns, np.nan)
        for x, c in ((arrays, columns), (poisoned(arrays, seen, np.nan), hidden)):
            given_arrays = {n: np.asarray(a, np.float32) for n, a in x.items()}
            called = trial(call, given_arrays, situation.mask, forward)
            if called is None:
                return
            found.append({n: np.asarray(s) for n, s in statistics(called[1], c).items()})
        for name, x in found[0].items():
            assert np.array_equal(found[1][name], x), name
            assert not x[~seen.rows].any(), name
        options = (call.scale, call.softcap)
        wanted = statistics_by_definition(arrays, situation.visible, columns, *options)
        for name, want in wanted.items():
            np.testing.assert_allclose(found[0][name], want, atol=2e-5, rtol=2e-5, err_msg=name)
        at = np.take_along_axis(wanted["rows"], found[0]["index"][..., None], 3)[..., 0]
        np.testing.assert_allclose(at, wanted["weight"], atol=1e-5)
        trial.met["a row without keys"] += not seen.rows.all()

    trial.over(None, prop, "a row without keys")


def test_the_masks_hide_and_show():
    """The numbers behind the events above, for the reader: each kind hides a part, not all."""
    met = collections.Counter()

    @MANY
    @given(situations())
    def count(situation):
        share = visible_by_definition(situation.leaves).mean()
        met["all" if share == 1 else "none" if share == 0 else "some"] += 1
        met[situation.call] += 1
        met[len(situation.kinds)] += 1

    count()
    assert met["some"] >= 10, met
    assert all(met[call] for call in CALLS), met
    assert all(met[n] for n in (1, 2, 3, 4)), met
