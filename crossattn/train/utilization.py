"""How much of a device's arithmetic a training step uses: model FLOPs utilization (MFU).

Chowdhery et al. 2022, "PaLM": the operations that a model's design has, whatever its kernels skip
or compute again, per second, as a share of what the device can do at best.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import optax

from crossattn.data.batches import Batch
from crossattn.train import step as steps
from crossattn.train.adapters import learning
from crossattn.train.run import Run


class Peak(NamedTuple):
    """What a chip can do at best.

    Attributes:
      pattern: regular expression for a part of JAX's `device_kind`.
      teraflops: dense products of bfloat16 (T4: float16) per second, as its vendor has them.
      devices: that a chip is to JAX.
      source: of the number.
    """

    pattern: str
    teraflops: float
    devices: int
    source: str


# Vendors of GPUs give twice the number, for sparse matrices. The first that matches counts.
PEAKS = (
    Peak(r"H[12]00 NVL", 835.5, 1, "nvidia.com/en-us/data-center/h200"),
    Peak(r"H100 PCIe", 756.5, 1, "nvidia.com/en-us/data-center/h100"),
    Peak(r"H[12]00", 989.5, 1, "nvidia.com/en-us/data-center/h200"),
    Peak(r"A100", 312.0, 1, "nvidia.com/en-us/data-center/a100"),
    Peak(r"L4", 121.0, 1, "nvidia.com/en-us/data-center/l4"),
    Peak(r"T4", 65.0, 1, "nvidia.com/en-us/data-center/tesla-t4"),
    Peak(r"TPU v2", 45.0, 2, "docs.cloud.google.com/tpu/docs/v2"),
    Peak(r"TPU v3", 123.0, 2, "docs.cloud.google.com/tpu/docs/v3"),
    Peak(r"TPU v4(?! lite)", 275.0, 1, "docs.cloud.google.com/tpu/docs/v4"),
    Peak(r"TPU v5(e| lite)", 197.0, 1, "docs.cloud.google.com/tpu/docs/v5e"),
    Peak(r"TPU v5p?", 459.0, 1, "docs.cloud.google.com/tpu/docs/v5p"),
    Peak(r"TPU v6(e| lite)", 918.0, 1, "docs.cloud.google.com/tpu/docs/v6e"),
    Peak(r"TPU ?v?7x?", 2307.0, 2, "docs.cloud.google.com/tpu/docs/tpu7x"),
)


def peak_flops(kind: str) -> float | None:
    """Products of bfloat16 that a device of a kind makes per second at best; None if not known.

    >>> peak_flops("NVIDIA H200"), peak_flops("TPU7x"), peak_flops("cpu")
    (989500000000000.0, 1153500000000000.0, None)
    """
    for peak in PEAKS:
        if re.search(rf"\b{peak.pattern}(?!\w)", kind):
            return peak.teraflops * 1e12 / peak.devices
    return None


def model_flops(run: Run, words: int, batch: Batch) -> float:
    """Operations of the matrix products of a training step, by tracing it: nothing is compiled.

    Of attention all pairs of queries and keys count, hidden ones as well; what is computed again
    instead of being kept does not, nor what needs no gradient.

    Args:
      run: what is trained.
      words: of the vocabulary.
      batch: arrays, or their shapes.
    """
    plain = dataclasses.replace(run.model, remat="", implementation="reference", dropout=0.0)
    model = steps.model_of(dataclasses.replace(run, model=plain), words)

    def loss(params: Any, batch: Batch) -> Any:
        params = learning(params, run.optimizer)
        if not run.loss.plain:
            return steps.objective(model, params, batch, terms=run.loss, average=params)[0]
        return steps.losses(steps.forward(model, params, batch)[0], batch)[0]

    create = lambda batch: (
        steps.initial_state(model, optax.identity(), 0, batch, run.optimizer).params
    )
    params = jax.eval_shape(create, batch)
    return matrix_flops(jax.make_jaxpr(jax.grad(loss))(params, batch))


def matrix_flops(program: Any) -> float:
    """Floating-point operations of the matrix products of a jaxpr, each turn of a scan counted.

    XLA's own count takes the body of a loop once, however often it turns.

    Example:
      >>> import jax.numpy as jnp
      >>> def layers(x, kernels):
      ...     return jax.lax.scan(lambda x, kernel: (x @ kernel, None), x, kernels)[0]
      >>> matrix_flops(jax.make_jaxpr(layers)(jnp.ones((2, 3)), jnp.ones((5, 3, 3))))
      180.0
    """
    total = 0.0
    for equation in getattr(program, "jaxpr", program).eqns:
        if equation.primitive.name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            depth = 1
            for axis in contracted:
                depth *= shape[axis]
            total += 2.0 * depth * equation.outvars[0].aval.size
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += turns * sum(matrix_flops(inner) for inner in _programs(equation.params))
    return total


def _programs(parameters: dict[str, Any]) -> Iterator[Any]:
    """The programs that an equation calls."""
    for value in parameters.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "eqns") or hasattr(one, "jaxpr"):
                yield one


class Meter:
    """Operations per second between the lines of a log.

    Attributes:
      flops: of a step.
      peak: of all devices that compute it; None: not known.
      found: what was read last.
    """

    def __init__(
        self, flops: float, peak: float | None, clock: Callable[[], float] = time.monotonic
    ):
        """Of a step on some devices; `clock` says the seconds."""
        self.flops, self.peak, self.clock = flops, peak, clock
        self.last: tuple[int, float] | None = None
        self.found: dict[str, float] = {}

    def read(self, step: int) -> dict[str, float]:
        """After so many steps: TFLOP/s since the step before that was read, and their share.

        Nothing at first, when the time would be that of compilation; and again what was found where
        no step was made since, as in a program of several steps whose lines are written at its end.

        Example:
          >>> meter = Meter(3e12, 6e12, clock=iter([0.0, 10.0]).__next__)
          >>> meter.read(10), meter.read(20), meter.read(20)
          ({}, {'teraflops': 3.0, 'mfu': 0.5}, {'teraflops': 3.0, 'mfu': 0.5})
        """
        if self.last is None or step > self.last[0]:
            now = self.clock()
            if self.last is not None:
                self.found = rate(
                    self.flops * (step - self.last[0]) / (now - self.last[1]), self.peak
                )
            self.last = step, now
        return self.found


def rate(flops: float, peak: float | None) -> dict[str, float]:
    """So many operations per second as `teraflops`, and as `mfu` where the peak is known."""
    found = {"teraflops": float(f"{flops / 1e12:.4g}")}
    return found if peak is None else found | {"mfu": round(flops / peak, 4)}
