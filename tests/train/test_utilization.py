"""Operations of a training step, counted by hand; their share of a device's peak in the log."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from crossattn.train import loop, seat
from crossattn.train.log import read_lines
from crossattn.train.loop import Seat, fit_seeds
from crossattn.train.source import batches_of
from crossattn.train.utilization import model_flops, peak_flops


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("NVIDIA H200", 989.5),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA L4", 121),
        ("Tesla T4", 65),
        ("TPU v2", 22.5),
        ("TPU v3", 61.5),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("TPU7x", 1153.5),
    ],
)
def test_peaks_are_those_of_the_device(kind, teraflops):
    assert peak_flops(kind) == teraflops * 1e12


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA L40S", "NVIDIA A10G", "NVIDIA GH200 480GB"])
def test_of_other_devices_no_peak_is_said(kind):
    assert peak_flops(kind) is None


def test_a_layer_has_the_operations_of_its_products(run, examples):
    """Three times those of the forward pass, whatever is masked or computed again."""
    batch = jax.tree.map(jnp.asarray, batches_of(run, examples, 0).batch(0))
    count = lambda **changes: model_flops(
        dataclasses.replace(run, model=dataclasses.replace(run.model, **changes)), 40, batch
    )
    (B, T), (images, _, P), M = batch.tokens.shape, batch.coverage.shape, run.model.width
    words = B * (T - 1)
    projections = 6 * words * M**2 + 2 * images * P * M**2
    attention = 2 * words * M * (T - 1 + P)
    mlp = 2 * words * M * 4 * M
    one, two = count(), count(layers=2, remat="everything", implementation="chunked")
    assert two - one == 3 * 2 * (projections + attention + mlp)
    frozen = dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, frozen="mlp"))
    assert one - model_flops(frozen, 40, batch) == 2 * mlp


def test_the_log_says_what_share_is_used(programs, run, examples, tmp_path, monkeypatch):
    """From the second line on, and whoever watches is told."""
    monkeypatch.setattr(seat, "LOG_EVERY", 4)
    monkeypatch.setattr(loop, "peak_flops", lambda kind: 1e9)
    told = []
    progress = lambda step, metrics: told.append(metrics.get("mfu"))
    fit_seeds(programs, [Seat(batches_of(run, examples, 0), tmp_path, progress)])
    lines = [line for line in read_lines(tmp_path / "log.jsonl") if "loss" in line]
    assert ["mfu" in line for line in lines] == [False, True, True]
    for line in lines[1:]:
        assert line["mfu"] == pytest.approx(line["teraflops"] * 1e12 / 1e9, rel=0.01)
        assert line["mfu"] > 0
    assert lines[1]["mfu"] in told
