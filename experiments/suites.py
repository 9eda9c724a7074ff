"""The suites under configs: the one place that knows which package they are in.

In a checkout that is `configs`; a wheel carries it as `crossattn_configs`, beside
`crossattn_experiments`, because the short names would clash with other people's.
"""

import importlib
import pkgutil

from crossattn.train.suite import Suite

from .command_line import INSTALLED, nearest

PACKAGE = "crossattn_configs" if INSTALLED else "configs"


def names() -> list[str]:
    """All suites."""
    package = importlib.import_module(PACKAGE)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def find(name: str) -> Suite:
    """A suite by its name.

    Raises:
      ValueError: there is none, with the one that was probably meant.
    """
    if name not in names():
        raise ValueError(f"there is no suite {name!r}: {nearest(name, names())}")
    return importlib.import_module(f"{PACKAGE}.{name}").SUITE
