"""Names of the release before: for one release more they work, with a DeprecationWarning."""

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["arguments", "former_names", "method", "warn"]

Called = TypeVar("Called", bound=Callable[..., Any])


def former_names(module: str, **new: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module of which some names have changed.

    Args:
      module: its `__name__`.
      **new: the present name by the former one.

    Example:
      >>> __getattr__ = former_names(__name__, Blocks="BlockSizes")
    """

    def find(name: str) -> Any:
        if name not in new:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name}", f"{module}.{new[name]}")
        return getattr(sys.modules[module], new[name])

    return find


def arguments(**new: str) -> Callable[[Called], Called]:
    """Decorate a function or a class of which some keyword arguments have changed their names.

    Args:
      **new: the present name by the former one.

    Example:
      >>> @arguments(end="eos_id")
      ... def written(*, eos_id):
      ...     return eos_id
      >>> with warnings.catch_warnings(action="ignore"):
      ...     written(end=3)
      3
    """

    def decorate(called: Called) -> Called:
        function: Any = called.__init__ if isinstance(called, type) else called  # type: ignore[misc]

        @functools.wraps(function)
        def renaming(*args: Any, **kwargs: Any) -> Any:
            for former in new.keys() & kwargs.keys():
                if new[former] in kwargs:
                    raise TypeError(f"{former} is the former name of {new[former]}: give one")
                warn(f"{called.__name__}({former}=)", f"{new[former]}=")
                kwargs[new[former]] = kwargs.pop(former)
            return function(*args, **kwargs)

        if not isinstance(called, type):
            return renaming  # type: ignore[return-value]
        called.__init__ = renaming  # type: ignore[misc]
        return called

    return decorate


def method(former: str, present: str) -> Callable[..., Any]:
    """A method under its former name.

    Example:
      >>> class Decoder:
      ...     def init_cache(self, rows):
      ...         return rows
      ...     start = method("start", "init_cache")
      >>> with warnings.catch_warnings(action="ignore"):
      ...     Decoder().start(3)
      3
    """

    def renaming(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Behind the frames of Linen's wrapper.
        warn(f"{type(self).__name__}.{former}", present, stacklevel=5)
        return getattr(self, present)(*args, **kwargs)

    return renaming


def warn(former: str, present: str, stacklevel: int = 3) -> None:
    """Say what a former name is now, to the caller of who calls this."""
    warnings.warn(f"{former} is now {present}", DeprecationWarning, stacklevel)
