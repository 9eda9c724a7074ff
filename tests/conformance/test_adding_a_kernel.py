"""The recipe for a kernel, carried out on a copy: one new file, one row, and it is tested."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import crossattn

ROOT = Path(crossattn.__file__).parents[1]
KERNEL = '''
"""The definition, one example at a time."""

import dataclasses

import jax

from crossattn.ops import reference
from crossattn.ops.kernels.protocol import Kernel


@dataclasses.dataclass(frozen=True)
class OneByOneKernel(Kernel):
    name = "one_by_one"
    summary = "the definition, one example at a time"
    autodiff = True

    def unsupported(self, call):
        return super().unsupported(call) or ("a bias" if call.bias is not None else None)

    def forward(self, call):
        B = call.q.shape[0]
        own = jax.tree.map(lambda x: x.ndim > 0 and x.shape[0] == B, call)
        each = jax.tree.map(lambda x, one: x[:, None] if one else x, call, own)
        axes = jax.tree.map(lambda one: 0 if one else None, own)
        out, lse = jax.vmap(reference.KERNEL.forward, (axes,))(each)
        return out[:, 0], lse[:, 0]


KERNEL = OneByOneKernel()
'''
ROW = '    "cpu": (\n        Row("one_by_one", "T == 97", lambda n: n.T == 97),\n'
EXPLAIN = """
import crossattn, jax
q, k = (jax.ShapeDtypeStruct((1, n, 8, 64), "float32") for n in (97, 131))
print(crossattn.explain(q, k, k).splitlines()[0])
"""


def run(copy, *command):
    environment = os.environ | {"PYTHONPATH": str(copy)}
    command = [sys.executable, *command]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_file_and_one_row(tmp_path):
    for name in ("crossattn", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "fixtures")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "crossattn/ops/kernels/one_by_one.py").write_text(KERNEL)
    table = tmp_path / "crossattn/ops/dispatch.py"
    text = table.read_text()
    assert text.count('    "cpu": (\n') == 1
    table.write_text(text.replace('    "cpu": (\n', ROW))
    assert run(tmp_path, "-c", EXPLAIN) == "cpu: one_by_one (T == 97)\n"
    tests = (
        "tests/conformance/test_jax_grid.py::test_masks",
        "-kone_by_one and causal and (bias or sliding)",
    )
    said = run(tmp_path, "-m", "pytest", "-q", "-n0", "-pno:cacheprovider", "-rs", *tests)
    assert sorted(said.split()[0]) == [".", "s"]
    assert "one_by_one: one_by_one cannot take this call: a bias" in said
