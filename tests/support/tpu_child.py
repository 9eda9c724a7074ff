"""Compile for TPUs without a TPU, in a process of its own, which ends where the compiler fails."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossattn.plan.process import ENVIRONMENT
from crossattn.processes import ROOT

# Scripts that run there.
SUPPORT = Path(__file__).parent


def compiled(script: Path, cases: list) -> dict:
    """{case: what is found}, all of one process: the compiler takes 10 s and 490 MB to start.

    The script gets the cases as JSON and prints one line of JSON, an entry for each.
    """
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("the TPU compiler is not here: pip install 'crossattn[tpu]'")
    environment = {n: x for n, x in os.environ.items() if n != "XLA_FLAGS"}
    child = subprocess.run(
        [sys.executable, script],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=1800,
        cwd=ROOT,
        env=environment | ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    return dict(zip(cases, json.loads(child.stdout.splitlines()[-1]), strict=True))
