"""Memory that is freed stays with the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from crossattn.train.memory import keep_freed_memory

assert sys.argv[1] == "leave" or keep_freed_memory()
use = lambda: np.ones(6 << 20).sum()  # 48 MiB
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_blocks_over_32_mib_are_not_faulted_in_again():
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how]))
        for how in ("leave", "keep")
    }
    assert faults["keep"] < 100 < faults["leave"]
