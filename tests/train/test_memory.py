"""Memory that is freed stays with the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from crossattn.train.memory import keep_freed_memory

use = lambda: np.ones(6 << 20).sum()  # 48 MiB

def faults():
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        use()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_blocks_over_32_mib_are_not_faulted_in_again():
    said = subprocess.check_output([sys.executable, "-c", FAULTS], text=True)
    before, kept, after = said.split()
    assert kept == "True"
    assert int(after) < 100 < int(before)
