"""Freed memory stays with the process: a step that needs as much again finds it warm."""

import ctypes

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
