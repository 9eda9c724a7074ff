"""What training takes of a memory, and how freed memory stays with the process."""

import ctypes
import os
from typing import Any

import jax

from crossattn.processes import available_cores
from crossattn.train import step as steps
from crossattn.train.losses import NEXT_WORD, Losses

# Variants of a suite on one accelerator: one compiles, or is measured, while another trains.
ACCELERATOR_JOBS = 4
# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the whole process; returns whether it does.

    glibc gives every block of more than 32 MiB back to the system when it is freed. A training step
    whose temporary arrays take more (on a CPU they are one block) then faults all of its pages in
    again, thousands a step: its operations run up to three times slower. Kept memory costs what
    the largest step takes. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26}
    return mallopt is not None and all(mallopt(name, value) for name, value in settings.items())


def tree_bytes(tree: Any) -> int:
    """Bytes of the arrays of a tree, or of what their shapes stand for.

    Example:
      >>> tree_bytes({"w": jax.ShapeDtypeStruct((3, 5), "float32")})
      60
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def activation_bytes(model: Any, params: Any, batch: Any, terms: Losses = NEXT_WORD) -> int:
    """Bytes that the forward pass of a step keeps for the backward pass: from shapes alone."""

    def kept(params: Any, batch: Any) -> Any:
        def objective(params: Any) -> Any:
            return steps.objective(model, params, batch, terms=terms, average=params)

        return jax.vjp(objective, params, has_aux=True)[1]

    # Parameters are among what it keeps.
    return max(0, tree_bytes(jax.eval_shape(kept, params, batch)) - tree_bytes(params))


def default_device() -> jax.Device:
    """The device that this thread computes on."""
    return next(iter(jax.numpy.zeros(()).devices()))


def jobs_on_device() -> int:
    """Jobs that a device does at a time: some on an accelerator, as the machine has cores."""
    some = min(ACCELERATOR_JOBS, max(1, len(available_cores()) // 2))
    return 1 if default_device().platform == "cpu" else some


def device_bytes() -> int:
    """Bytes of its memory that JAX may use; of a CPU all of the machine's."""
    limit = (default_device().memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
