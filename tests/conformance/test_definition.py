"""The judge is judged: its gradients by finite differences, its outputs by loops."""

import numpy as np
import pytest

from tests.support.cases import Call, drawn, inputs, kinds
from tests.support.definition import judge

CALLS = (Call(), Call(H=6, K=3, bias="HTS", softcap=1.3, scale=0.7), Call(K=1, bias="B"))


def given(call, sinks):
    arrays = inputs(call)
    return arrays | {"sinks": np.linspace(-2.0, 1.0, call.H)} if sinks else arrays


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("kind", ["together", "nothing", "causal early"])
def test_outputs_by_loops(call, sinks, kind):
    arrays, visible = given(call, sinks), drawn(kinds(call)[kind])
    found = judge(arrays, visible, call.scale, call.softcap)
    scale = call.D**-0.5 if call.scale is None else call.scale
    bias = np.broadcast_to(arrays.get("bias", np.zeros((1, 1, 1, 1))), call.sizes)
    for b, h, i in np.ndindex(call.B, call.H, call.T):
        total, out = np.exp(arrays["sinks"][h]) if sinks else 0.0, np.zeros(call.V)
        for j in np.flatnonzero(visible[b, h, i]):
            s = scale * (arrays["q"][b, i, h] @ arrays["k"][b, j, h // (call.H // call.K)])
            s = s if call.softcap is None else call.softcap * np.tanh(s / call.softcap)
            w = np.exp(s + bias[b, h, i, j])
            total, out = total + w, out + w * arrays["v"][b, j, h // (call.H // call.K)]
        lse = np.log(total) if total else -np.inf
        np.testing.assert_allclose(found["lse"][b, h, i], lse, rtol=1e-12)
        np.testing.assert_allclose(found["out"][b, i, h], out / (total or 1), atol=1e-13)


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_gradients_by_finite_differences(call, sinks):
    arrays, visible = given(call, sinks), drawn(kinds(call)["together"])
    rng = np.random.default_rng(4)
    kept = rng.random(visible.shape) * 2

    def loss(arrays):
        found = judge(arrays, visible, call.scale, call.softcap, kept)
        lse = np.where(np.isneginf(found["lse"]), 0, found["lse"])
        return (found["out"] * arrays["out"]).sum() + (lse * arrays["lse"]).sum()

    found = judge(arrays, visible, call.scale, call.softcap, kept)
    for name in [n for n in ("q", "k", "v", "bias", "sinks") if n in arrays]:
        step = rng.standard_normal(arrays[name].shape)
        up, down = (loss(arrays | {name: arrays[name] + e * step}) for e in (1e-5, -1e-5))
        wanted = (found[f"d{name}"] * step).sum()
        np.testing.assert_allclose((up - down) / 2e-5, wanted, rtol=1e-7, atol=1e-8)
