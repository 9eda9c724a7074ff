"""What every module here is: a Linen module whose fields are checked when it is made."""

import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any

import jax
from flax import linen as nn
from flax.core import meta

from crossattn.nn.choices import check_fields
from crossattn.nn.displays import Displayed, slots_html
from crossattn.ops import BlockSizes
from crossattn.shapes import Array
from crossattn.sharding import ContextParallel

# The same for a checker of types, which takes Linen's alone for one that makes fields of modules.
if TYPE_CHECKING:
    from flax.linen.module import module_field as field
else:
    from dataclasses import field

__all__ = ["KERNEL_INIT", "Module", "PolicyModule"]

# Flax's; one object, so that modules that do not name another one are equal.
KERNEL_INIT = nn.initializers.lecun_normal()


class Module(Displayed, nn.Module):
    """A Linen module that refuses fields of another kind or out of range in one line."""

    def __post_init__(self):
        check_fields(self)
        super().__post_init__()

    @nn.nowrap
    def _repr_html_(self) -> str:
        return slots_html(self)

    def made_for(self, name: str, axis: int, width: int) -> None:
        """Refuse an input of another width than a parameter was made for, with both widths.

        Flax names both shapes as well, but neither what they are of nor what to do.
        """
        if not self.has_variable("params", name):
            return
        made = meta.unbox(self.get_variable("params", name)).shape
        if len(made) >= -axis and made[axis] != width:
            raise ValueError(
                f"{'/'.join(self.path)}: an input of width {width}, but the parameters were made "
                f"for width {made[axis]}: init the module with an input like this one"
            )


class PolicyModule(Module):
    """How a module computes, whatever it is made of; it hands all of it to its parts.

    Attributes:
      dtype: in which all is computed; when None that to which x and the context are promoted.
        Parameters are cast to it; norms and softmax are taken in float32 at least.
      param_dtype: of parameters that are made: JAX's float, unless another one is given.
      kernel_init: initial values of kernels.
      dropout: rate at which weights of attention, what a sublayer makes, and hidden units of the
        MLP are set to 0; only where `apply` is given `rngs={"dropout": key}`.
      implementation: of all attention, as that of `attend`; None chooses.
      layout: how queries and keys lie over the devices of a mesh, see `attend_sharded`; None: as
        the compiler has them.
    """

    dtype: Any = field(default=None, kw_only=True)
    param_dtype: Any = field(default=float, kw_only=True)
    kernel_init: nn.initializers.Initializer = field(default=KERNEL_INIT, kw_only=True)
    dropout: float = field(default=0.0, kw_only=True)
    implementation: str | BlockSizes | None = field(default=None, kw_only=True)
    layout: ContextParallel | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        cls.__doc__ = _with_policy(cls.__doc__)

    @property
    def policy(self) -> dict[str, Any]:
        """All of it, for a part."""
        return {name: getattr(self, name) for name in POLICY}

    @property
    def dense_policy(self) -> dict[str, Any]:
        """For a `Dense`."""
        names = ("dtype", "param_dtype", "kernel_init")
        return {name: getattr(self, name) for name in names} | {"flat": self.layout is None}

    def weight_dropout(self) -> tuple[float, Array] | None:
        """`dropout` of one call of `attend`, while training: the next call drops other weights."""
        if not (self.dropout and self.has_rng("dropout")):
            return None
        return self.dropout, self.make_rng("dropout")

    @nn.compact
    def dropped(self, x: Array) -> Array:
        """x with some of its numbers set to 0 and the others scaled up, while training."""
        if not (self.dropout and self.has_rng("dropout")):
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.dropout, x.shape)
        return jax.numpy.where(kept, x / (1 - self.dropout), 0)


def _with_policy(text: str | None) -> str | None:
    """A class's documentation with the fields above after `others`, so that `help` is whole."""
    others = re.compile(r"^( *)others: as those of `PolicyModule`.*(?:\n\1 +.*)*", re.MULTILINE)
    found = others.search(text or "")
    if text is None or found is None:
        return text
    fields = inspect.cleandoc(PolicyModule.__doc__ or "").partition("Attributes:\n")[2]
    said = textwrap.indent(textwrap.dedent(fields).rstrip(), found[1])
    return f"{text[: found.end()]}\n{said}{text[found.end() :]}"


POLICY = ("dtype", "param_dtype", "kernel_init", "dropout", "implementation", "layout")
