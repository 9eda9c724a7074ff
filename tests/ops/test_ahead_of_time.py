"""TPU programs, compiled without a TPU: the kernels are legal there, and no T x S array is made."""

import pytest

from tests.support.tpu_child import SUPPORT, compiled

# Topology, T, S, D, dtype, implementation (None: the table's), queries sharded.
LONG = [
    ("v5e:2x4", 4096, 4096, 64, "bfloat16", None, False),
    ("v5e:2x4", 64, 16384, 128, "bfloat16", None, False),
    ("v6e:2x4", 64, 16384, 128, "float32", None, False),
    ("tpu7x:2x2x1", 64, 16384, 128, "bfloat16", None, False),
]
RAGGED = [
    ("v5e:2x4", 4096, 77, 40, "float32", "splash", False),
    ("v6e:2x4", 4096, 77, 40, "bfloat16", "splash", False),
    ("v5e:2x4", 16, 197, 64, "bfloat16", "splash", False),
    ("tpu7x:2x2x1", 16, 197, 64, "float32", "splash", False),
]
SHARDED = ("v5e:2x4", 1024, 2048, 128, "bfloat16", None, True)
DENSE = ("v5e:2x4", 16, 197, 64, "bfloat16", None, False)
CASES = [*LONG, *RAGGED, SHARDED, DENSE]


@pytest.fixture(scope="module")
def programs():
    """{case: what is found}."""
    return compiled(SUPPORT / "tpu_programs.py", CASES)


@pytest.mark.parametrize("case", LONG, ids=str)
def test_the_choice_for_long_contexts_is_the_kernel_and_makes_no_scores(programs, case):
    found = programs[case]
    assert found["kernels"] == ["dkv", "dq", "fwd"]
    assert found["scores"] == []
    assert found["temporary"] < found["dense"] / 4


@pytest.mark.parametrize("case", RAGGED, ids=str)
def test_ragged_sizes_are_legal(programs, case):
    assert programs[case]["kernels"] == ["dkv", "dq", "fwd"]
    assert programs[case]["scores"] == []


def test_kernels_go_into_shard_map_with_its_checks(programs):
    """They declare no axes over which their results vary; that is done around them."""
    assert programs[SHARDED]["kernels"] == ["dkv", "dq", "fwd"]


def test_scores_would_be_found(programs):
    """Few of them are the dense implementation's by the table: what is looked for is there."""
    assert programs[DENSE]["kernels"] == []
    assert programs[DENSE]["scores"]
