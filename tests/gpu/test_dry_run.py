"""The script of `make test-gpu` without a GPU: it runs, finds mistakes, says what it lacks."""

import dataclasses

import jax
import pytest

from crossattn import Mask
from crossattn.ops.api import IMPLEMENTATIONS
from crossattn.ops.kernels import chunked
from tests.gpu import __main__ as script
from tests.gpu.calls import WAYS, every

SOME = ["--dry-run", "--only", "lengths, bfloat16 (2, 7, 5"]


def test_every_mask_hides_a_part_and_every_way_is_tried():
    calls = every()
    assert len(calls) == len({str(tried) for tried in calls}) == 76
    for kind in {tried.kind for tried in calls} - {"full"}:
        shares = [tried.visible.mean() for tried in calls if tried.kind == kind]
        assert all(0 < share < 1 for share in shares), kind
    assert {tried.way for tried in calls} == set(WAYS)


def test_a_few_calls(capsys):
    assert script.main(SOME) == 0
    assert capsys.readouterr().out.startswith("3 of 3 calls agree with the definition on ")


@dataclasses.dataclass(frozen=True)
class Careless(chunked.ChunkedKernel):
    """Forgets the mask."""

    name = "careless"

    def forward(self, call):
        return super().forward(dataclasses.replace(call, mask=Mask()))


def test_a_mistake_is_found(capsys, monkeypatch):
    monkeypatch.setitem(IMPLEMENTATIONS, "careless", Careless())
    monkeypatch.setitem(script.STAND_IN, "cudnn", "careless")
    assert script.main([*SOME[:2], f"cudnn, {SOME[2]}"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("failed: cudnn, lengths, bfloat16 (2, 7, 5, 3 over 3, 11): Assertion")
    assert said[-1].startswith("0 of 1 calls agree")


def test_a_refusal_of_what_cudnn_knows_is_a_failure(capsys, monkeypatch):
    monkeypatch.setattr(Careless, "unsupported", lambda self, call: "no", raising=False)
    monkeypatch.setitem(IMPLEMENTATIONS, "careless", Careless())
    monkeypatch.setitem(script.STAND_IN, "cudnn", "careless")
    assert script.main([*SOME[:2], f"cudnn, {SOME[2]}"]) == 1
    assert "failed: cudnn, lengths" in capsys.readouterr().out
    assert script.main([*SOME[:2], "cudnn, lengths, bfloat16 (2, 37, 83, 4 over 2, 64, 1.7"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("0 of 0 calls agree")
    assert last.endswith("; cudnn refused 1 more")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is an accelerator")
def test_without_a_gpu_one_line_says_how_to_get_it(capsys):
    assert script.main([]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "pip install 'jax[cuda13]'" in line
