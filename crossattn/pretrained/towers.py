"""Towers and decoders as config.json describes them, and their parameters part by part."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from crossattn.interop import huggingface
from crossattn.interop.config import ACTIVATIONS, activation_of
from crossattn.interop.files import WeightsError
from crossattn.interop.table import ImportMismatchError, Line
from crossattn.models.image_tower import ImageTower
from crossattn.nn.config import BlockConfig
from crossattn.nn.stack import Stack
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.shapes import Int

__all__ = [
    "ModelPart",
    "Sizes",
    "check_size",
    "check_tokens",
    "check_widths",
    "image_tower",
    "load_parts",
    "stack_of",
]


class Sizes:
    """A part of config.json, whose classes have defaults for what it leaves out.

    >>> sizes = Sizes({"hidden_size": 12}, {"num_hidden_layers": 2}, "my/model")
    >>> sizes.whole("hidden_size"), sizes.whole("num_hidden_layers")
    (12, 2)
    """

    def __init__(
        self, content: Mapping[str, Any], defaults: Mapping[str, Any], where: str, absent: str = ""
    ):
        given = {key: value for key, value in content.items() if value is not None}
        self.values, self.where, self.absent = {**defaults, **given}, where, absent

    @classmethod
    def of(cls, checkpoint: Checkpoint, section: str, defaults: Mapping[str, Any]) -> "Sizes":
        """Those of a section of config.json, or of all of it where the section is "".

        Raises:
          WeightsError: the section is no object.
        """
        content = checkpoint.config.get(section) if section else checkpoint.config
        if not isinstance(content, dict | None):
            raise WeightsError(f"{checkpoint.where}/config.json has a {section} that is no object")
        return cls(content or {}, defaults, checkpoint.where, section if content is None else "")

    def whole(self, key: str, least: int = 1) -> int:
        """A whole number.

        Raises:
          WeightsError: it is none.
        """
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.refused(key, f"a whole number of at least {least}")
        return value

    def number(self, key: str) -> float:
        """A number above 0 and below 1.

        Raises:
          WeightsError: it is none.
        """
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise self.refused(key, "a number above 0 and below 1")
        return float(value)

    def activation(self, key: str) -> Any:
        """An activation, in the words of `MLP`.

        Raises:
          WeightsError: there is no such one here.
        """
        found = activation_of(self.values.get(key))
        if found is None:
            raise self.refused(key, f"one of {', '.join(ACTIVATIONS)}")
        return found

    def refused(self, key: str, wanted: str) -> WeightsError:
        """The error for a value that is not what is wanted."""
        found = self.values.get(key)
        return WeightsError(f"{self.where}/config.json has {key} {found!r}: expected {wanted}")


def check_widths(text: Sizes, key: str, vision: Sizes) -> None:
    """Refuse texts that are not as wide as pictures, where nothing stands between the two.

    Raises:
      WeightsError: names the section of config.json that is not there, or the size.
    """
    width = vision.whole("hidden_size")
    if text.whole(key) != width:
        absent = vision.absent or text.absent
        raise (
            _no_section(text.where, absent)
            if absent
            else text.refused(key, f"that of the pictures, {width}")
        )


def _no_section(where: str, section: str) -> WeightsError:
    return WeightsError(
        f"{where}/config.json has no {section}, and the sizes that its class then takes are not "
        "those of the tensors: copy the published config.json"
    )


def stack_of(sizes: Sizes, design: BlockConfig, heads: str = "num_attention_heads") -> Stack:
    """The layers, of a design whose norms, activation and hidden width config.json gives.

    Raises:
      WeightsError: a size or a word is not known, or heads do not divide the width.
    """
    width, count = sizes.whole("hidden_size"), sizes.whole(heads)
    if width % count:
        raise sizes.refused(heads, f"a divisor of hidden_size {width}")
    activation = sizes.activation("hidden_act")
    expansion = sizes.whole("intermediate_size") / width
    design = replace(
        design,
        residual=replace(design.residual, epsilon=sizes.number("layer_norm_eps")),
        mlp=replace(design.mlp, activation=activation, expansion=expansion),
    )
    return Stack(sizes.whole("num_hidden_layers"), width, count, design)


def image_tower(sizes: Sizes, design: BlockConfig, **kind: Any) -> ImageTower:
    """The tower of a vision_config; `kind` are further fields of `ImageTower`.

    Raises:
      WeightsError: as `stack_of`; channels that are no colours; patches that do not fit.
    """
    side: Any = sizes.values.get("image_size")
    patch = sizes.whole("patch_size")
    height, width = side if isinstance(side, list) and len(side) == 2 else (side, side)
    for one in (height, width):
        if not isinstance(one, int) or one < patch:
            raise sizes.refused("image_size", f"pixels, at least one patch of {patch}")
    if sizes.values.get("num_channels", 3) != 3:
        raise sizes.refused("num_channels", "3")
    stack, grid = stack_of(sizes, design), (height // patch, width // patch)
    return ImageTower(stack, patch, grid, epsilon=stack.config.residual.epsilon, **kind)


def check_tokens(tokens: Int[np.ndarray, "..."], size: int) -> None:
    """Refuse tokens for which a model has no words: its tokenizer is another's.

    >>> check_tokens(np.array([[2, 40]]), 40)
    Traceback (most recent call last):
    crossattn.interop.files.WeightsError: token 40 of the tokenizer: the model has words 0 to 39
    """
    wrong = tokens[(tokens < 0) | (tokens >= size)]
    if wrong.size:
        found = f"token {wrong[0]} of the tokenizer"
        raise WeightsError(f"{found}: the model has words 0 to {size - 1}")


def check_size(pixels: np.ndarray, tower: ImageTower, where: str) -> None:
    """Refuse a picture that is not as large as those that the tower reads.

    Raises:
      WeightsError: preprocessor_config.json is another model's.
    """
    side, (h, w) = tower.patch_size, pixels.shape[:2]
    if (h // side, w // side) != tower.grid:
        rows, columns = tower.grid
        raise WeightsError(
            f"{where}/preprocessor_config.json makes pictures of {h} x {w} pixels, the model reads "
            f"{rows * side} x {columns * side}"
        )


@dataclasses.dataclass(frozen=True)
class ModelPart:
    """Parameters of a model that one layout names.

    Attributes:
      layout: one of `huggingface.importable()`.
      prefix: what stands before its names.
      like: shapes of its parameters, {"params": ...}.
      module: that is compared with config.json, or None.
      section: of config.json that has its sizes; "" where they are not in one.
    """

    layout: str
    prefix: str
    like: Any
    module: nn.Module | None = None
    section: str = ""


def load_parts(
    checkpoint: Checkpoint,
    parts: Sequence[ModelPart],
    *,
    ignored: str = "",
    dtype: Any = jnp.float32,
) -> list[Any]:
    """The parameters of each part, on the device, in one dtype.

    Args:
      checkpoint: whose tensors they are.
      parts: all that the file has.
      ignored: a regular expression of names that belong to nothing that is loaded.
      dtype: of all parameters.

    Raises:
      ImportMismatchError: tensors are missing, unknown or misshaped, or config.json says otherwise.
      WeightsError: they do not fit, and config.json does not say what sizes they have.
    """
    found, known = [], set[str]()
    for part in parts:
        given: Any = {"prefix": part.prefix, "like": part.like, "module": part.module}
        try:
            params = huggingface.load(checkpoint.tensors, part.layout, **given)
        except ImportMismatchError:
            if part.section and part.section not in checkpoint.config:
                raise _no_section(checkpoint.where, part.section) from None
            raise
        fit = huggingface.look(checkpoint.tensors, part.layout, **given)
        known |= {place.name for place in fit.places} | {*fit.tied} | {*fit.ignored}
        found.append(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params["params"]))
    others = [name for name in checkpoint.tensors if name not in known]
    others = [name for name in others if not (ignored and re.match(ignored, name))]
    if others:
        what = "tensor does" if len(others) == 1 else "tensors do"
        title = f"{len(others)} {what} not belong to the model of {checkpoint.where}/config.json"
        raise ImportMismatchError(title, [Line("unknown", name) for name in sorted(others)])
    return found
