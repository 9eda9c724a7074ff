"""Which layouts are meant: those of a preset by its name, or one of one's own."""

from collections.abc import Sequence

from crossattn.interop.names import LAYOUTS
from crossattn.interop.table import Layout
from crossattn.nn.choices import known

__all__ = ["importable", "layouts_of", "readable"]


def importable() -> tuple[str, ...]:
    """Presets and models that can be imported.

    >>> "mllama" in importable(), "blip_decoder" in importable()
    (True, True)
    """
    return tuple(LAYOUTS)


def layouts_of(preset: str, layout: Layout | None = None) -> tuple[str, tuple[Layout, ...]]:
    """What the layouts are called in messages, and they themselves: the variants of a preset.

    Raises:
      ValueError: there is no such preset; both are given, or neither.

    >>> layouts_of("", Layout(()))[0]
    'the layout'
    >>> layouts_of("")
    Traceback (most recent call last):
    ValueError: give the name of a preset or a layout, as in "whisper" and layout=Layout(...)
    """
    if bool(preset) == (layout is not None):
        both = "not both" if preset else 'as in "whisper" and layout=Layout(...)'
        raise ValueError(f"give the name of a preset or a layout, {both}")
    if layout is not None:
        return "the layout", (layout,)
    known("preset", preset, importable())
    return preset, LAYOUTS[preset]


def readable(layouts: Sequence[Layout]) -> list[Layout]:
    """Layouts of files that are read: also those of a model without its head."""
    every = [(one, one.bare) if one.outer else (one,) for one in layouts]
    return [layout for several in every for layout in several]
