"""TPU programs, compiled without a TPU: the kernels are legal there, and no T x S array is made."""

import pytest

from tests.support.tpu_child import SUPPORT, compiled

# Topology, (B, T, S, H, K, D), dtype, implementation (None: the table's), queries sharded.
LONG = [
    ("v5e:2x4", (1, 4096, 4096, 3, 1, 64), "bfloat16", None, False),
    ("v5e:2x4", (1, 64, 16384, 3, 1, 128), "bfloat16", None, False),
    ("v6e:2x4", (1, 64, 16384, 3, 1, 128), "float32", None, False),
    ("tpu7x:2x2x1", (1, 64, 16384, 3, 1, 128), "bfloat16", None, False),
]
RAGGED = [
    ("v5e:2x4", (1, 4096, 77, 3, 1, 40), "float32", "splash", False),
    ("v6e:2x4", (1, 4096, 77, 3, 1, 40), "bfloat16", "splash", False),
    ("v5e:2x4", (1, 16, 197, 3, 1, 64), "bfloat16", "splash", False),
    ("tpu7x:2x2x1", (1, 16, 197, 3, 1, 64), "float32", "splash", False),
]
# Stable Diffusion, Wan, and one whose T, heads and head size fit no tile.
FEW = [
    ("v5e:2x4", (16, 4096, 77, 8, 8, 64), "bfloat16", None, False),
    ("v6e:2x4", (1, 32760, 512, 40, 40, 128), "bfloat16", None, False),
    ("tpu7x:2x2x1", (2, 4099, 77, 5, 5, 40), "float32", None, False),
]
FEW_EVERYWHERE = [
    (topology, sizes, "bfloat16", None, False)
    for topology in ("v5e:2x4", "v6e:2x4", "tpu7x:2x2x1")
    for sizes in (
        (16, 4096, 77, 8, 8, 40),
        (1, 32760, 512, 40, 40, 128),
        (1, 4099, 257, 12, 4, 128),
    )
]
SHARDED = ("v5e:2x4", (1, 1024, 2048, 3, 1, 128), "bfloat16", None, True)
FEW_SHARDED = ("v5e:2x4", (1, 2048, 77, 3, 1, 64), "bfloat16", "resident_kv", True)
DENSE = ("v5e:2x4", (1, 16, 197, 3, 1, 64), "bfloat16", None, False)
CASES = [*LONG, *RAGGED, *FEW, SHARDED, FEW_SHARDED, DENSE]
SPLASH = ["splash_mha_dkv", "splash_mha_dq", "splash_mha_fwd"]
RESIDENT = ["resident_kv_backward", "resident_kv_forward"]


@pytest.fixture(scope="module")
def programs():
    """{case: what is found}."""
    return compiled(SUPPORT / "tpu_programs.py", CASES)


@pytest.mark.parametrize("case", LONG, ids=str)
def test_the_choice_for_long_contexts_is_the_kernel_and_makes_no_scores(programs, case):
    found = programs[case]
    assert found["kernels"] == SPLASH
    assert found["scores"] == []
    assert found["temporary"] < found["dense"] / 4


@pytest.mark.parametrize("case", RAGGED, ids=str)
def test_ragged_sizes_are_legal(programs, case):
    assert programs[case]["kernels"] == SPLASH
    assert programs[case]["scores"] == []


def assert_few_keys_are_resident(found):
    assert found["kernels"] == RESIDENT
    assert found["scores"] == []
    assert found["temporary"] <= 2**23


@pytest.mark.parametrize("case", FEW, ids=str)
def test_many_queries_over_few_keys_copy_nothing(programs, case):
    assert_few_keys_are_resident(programs[case])


@pytest.mark.slow
def test_many_queries_over_few_keys_on_every_generation():
    for found in compiled(SUPPORT / "tpu_programs.py", FEW_EVERYWHERE).values():
        assert_few_keys_are_resident(found)


def test_kernels_go_into_shard_map_with_its_checks(programs):
    """They declare no axes over which their results vary; that is done around them."""
    assert programs[SHARDED]["kernels"] == SPLASH
    assert programs[FEW_SHARDED]["kernels"] == RESIDENT


def test_scores_would_be_found(programs):
    """Few of them are the dense implementation's by the table: what is looked for is there."""
    assert programs[DENSE]["kernels"] == []
    assert programs[DENSE]["scores"]
