"""Steps to a share of the baseline: of planted curves they are known."""

import numpy as np

from crossattn.report.tables.speed import PART, averages, speed_table

STEPS = np.arange(1, 801)


def rising(rate, top=1.0):
    """1 - exp(-rate step): 90 % of its end after log(10) / rate steps."""
    accuracy = top * -np.expm1(-rate * STEPS)
    return {"step": STEPS.tolist(), "accuracy": accuracy.tolist()}


def test_planted_curves_are_timed():
    curves = {
        "slow": {0: rising(0.01), 1: rising(0.02)},
        "fast": {0: rising(0.1), 1: rising(0.2)},
        "short": {0: rising(0.1, top=0.95), 1: rising(0.2, top=0.8)},
        "low": {0: rising(0.1, top=0.8), 1: rising(0.2, top=0.8)},
    }
    header, rows = speed_table(curves, "slow")
    assert header == ["variant", "steps", "range", "seeds"]
    found = {name: cells for name, *cells in rows}
    # Averages over the last W steps come half of W later; of an exponential a little less.
    window = PART * len(STEPS)
    want = np.log(10) / 0.02, np.log(10) / 0.01
    said = found["slow"][1].split(" to ")
    for number, exact in zip(said, want, strict=True):
        assert exact < int(number) < exact + window
    assert int(found["fast"][0]) < int(found["slow"][0]) / 2
    assert found["short"][0] == "-"
    assert found["short"][2] == "1 of 2"
    assert found["low"] == ["-", "-", "0 of 2"]


def test_one_lucky_batch_is_no_arrival():
    lucky = rising(0.01, top=0.5)
    lucky["accuracy"][100] = 1.0
    assert speed_table({"a": {0: rising(0.01)}, "b": {0: lucky}}, "a")[1][1][3] == "0 of 1"


def test_without_a_baseline_or_its_accuracy_there_is_no_table():
    curves = {"a": {0: {"step": [1], "loss": [2.0]}}}
    assert [speed_table(curves, name) for name in ("a", "b", None)] == [None] * 3
    assert speed_table(None, "a") is None
    assert averages([0.5]).tolist() == [0.5]
