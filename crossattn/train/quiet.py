"""What libraries log while they do as they are told."""

import contextlib
import logging
from collections.abc import Iterator

# Orbax logs with a traceback what it then raises, and so do the futures that it leaves behind.
NOISY = ("absl", "asyncio", "concurrent.futures")


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Within, libraries log nothing of what they then raise, or of what is as it should be."""
    loggers = [logging.getLogger(name) for name in NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
