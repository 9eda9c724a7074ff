"""What the first notebook trains with, compiled for Colab's TPU without one."""

import pytest

from tests.support.tpu_child import SUPPORT, compiled

# Three seeds in one program of 50 steps.
STEP = ("v5e:1x1", 3, 50)


@pytest.mark.slow
def test_three_seeds_fit_on_the_free_chip():
    found = compiled(SUPPORT / "tpu_notebook.py", [STEP])[STEP]
    assert found["bytes"] < 16e9
    assert found["seconds"] < 300
