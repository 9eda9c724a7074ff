"""Which GPU a program is for: the one that is here, asked by jax's checks, or an assumed one."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from crossattn import attend
from crossattn.ops.api import RefusalError
from crossattn.ops.kernels import cuda_target, cudnn
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.masks.mask import Mask

KERNEL = cudnn.KERNEL


def refused(D=8):
    q, k = (jax.ShapeDtypeStruct((1, n, 2, D), jnp.bfloat16) for n in (5, 7))
    return KERNEL.unsupported(AttentionCall(q, k, k, Mask(), None, None, 1.0, None))


def on_a_gpu(monkeypatch, capability, version=lambda: 91000):
    """A machine whose default device is a GPU, as jax's own checks see it."""
    parts = lambda text: tuple(map(int, text.split(".")))
    fakes = {
        "check_cudnn_version": version,
        "check_compute_capability": lambda least: parts(capability) >= parts(least),
        "is_cuda_compute_capability_equal": lambda same: capability == same,
    }
    monkeypatch.setattr(cuda_target, "_here", lambda: True)
    for name, fake in fakes.items():
        monkeypatch.setattr(cuda_target.library.module, name, fake)


def test_the_gpu_that_is_here_is_asked(monkeypatch):
    on_a_gpu(monkeypatch, "9.0")
    assert refused() is refused(129) is KERNEL.assumed() is None
    on_a_gpu(monkeypatch, "8.9")
    assert refused() is None
    assert "head dim must be <= 128" in refused(129)
    on_a_gpu(monkeypatch, "7.5")
    assert "below 8.0 (Ampere)" in refused()

    def missing():
        raise RuntimeError("cuDNN is not detected.")

    on_a_gpu(monkeypatch, "9.0", missing)
    assert "pip install 'crossattn[cuda]'" in refused()


def test_named_for_another_platform_it_is_refused():
    """When the program is lowered: for a GPU it can be, from any machine."""
    x = jnp.zeros((3, 4, 2, 8), jnp.bfloat16)
    function = jax.jit(lambda x: attend(x, x, x, implementation="cudnn")[0])
    for run in (function, jax.vmap(lambda x: function(x[None]))):
        with pytest.raises(RefusalError, match="cudnn runs on NVIDIA GPUs only: leave"):
            run(x)
    lower = lambda *platforms: function.trace(x).lower(lowering_platforms=platforms).as_text()
    assert "@__cudnn$fmhaSoftmax" in lower("cuda")
    with pytest.raises(RefusalError, match="cudnn runs on NVIDIA GPUs only"):
        lower("cpu", "cuda")


def test_one_program_for_several_platforms():
    """Chosen by the table, each platform has its own, and the others' is never run."""
    x = jax.random.normal(jax.random.key(0), (3, 4, 2, 8), jnp.bfloat16)

    def function(x):
        return jax.value_and_grad(lambda x: attend(x, x, x)[0].astype(jnp.float32).sum())(x)

    names = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward")
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in names]
    platforms = ("cpu", "cuda", "tpu")
    program = export.export(jax.jit(function), platforms=platforms, disabled_checks=checks)(x)
    assert all(f"@{name}(" in program.mlir_module() for name in names)
    for found, wanted in zip(program.call(x), jax.jit(function)(x), strict=True):
        assert jnp.array_equal(found, wanted)
    with pytest.raises(ValueError, match="__cudnn"):
        export.export(jax.jit(function), platforms=platforms)(x)
