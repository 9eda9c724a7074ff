"""torch's scaled_dot_product_attention, whose rows without keys are 0 as ours are (torch >= 2.5).

The numbers are those of tests/fixtures/make_torch_sdpa.py: torch itself is not needed.
"""

from pathlib import Path

import numpy as np
import pytest

from crossattn import Mask
from tests.support.calling import EVERY, refusals, run
from tests.support.cases import assert_close
from tests.support.definition import judge
from tests.support.grids import diagonal

PATH = Path(__file__).resolve().parents[1] / "fixtures" / "attention" / "torch_sdpa.npz"
STORED = dict(np.load(PATH))
CASES = tuple(dict.fromkeys(name.partition("/")[0] for name in STORED if "/" in name))


def stored(case):
    """Our inputs, our mask and its booleans, and torch's results in our layout (heads third)."""
    theirs = {
        name.partition("/")[2]: x for name, x in STORED.items() if name.startswith(f"{case}/")
    }
    written, heads = theirs.pop("mask", None), theirs["dk"].shape[1]
    arrays = {n: STORED[n].swapaxes(1, 2) for n in "qkv"}
    arrays |= {n: arrays[n][:, :, :heads] for n in "kv"}
    arrays["out"] = STORED["cotangent"].swapaxes(1, 2)
    T, S = arrays["q"].shape[1], arrays["k"].shape[1]
    mask, visible = Mask(), np.ones((1, 1, 1, 1), bool)
    if case == "causal":  # torch, too, lets the first query see the first key only
        mask, visible = Mask.causal(0), np.tri(T, S, dtype=bool)[None, None]
    elif written is not None and written.dtype == bool:
        mask, visible = Mask.dense(written), written
    elif written is not None:
        arrays["bias"] = written
    wanted = {n: x if n == "dbias" else x.swapaxes(1, 2) for n, x in theirs.items()}
    return arrays, mask, visible, wanted


def test_every_case_is_there():
    assert len(CASES) == 9
    empty = [case for case in CASES if (stored(case)[3]["out"] == 0).all(3).any()]
    assert len(empty) == 6


@pytest.mark.parametrize("case", CASES)
def test_the_judge_agrees_with_torch(case):
    arrays, _, visible, wanted = stored(case)
    assert_close(judge(arrays, visible), wanted, arrays, np.float64)


@pytest.mark.parametrize(("case", "implementation"), diagonal(CASES, EVERY), ids=str)
def test_torch(x64, case, implementation):
    arrays, mask, _, wanted = stored(case)
    with refusals(implementation):
        found = run(arrays, mask, implementation, np.float64)
    assert_close(found, wanted, arrays, np.float64)
