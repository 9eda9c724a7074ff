"""What every module here is: a Linen module whose fields are checked when it is made."""

from flax import linen as nn
from flax.core import meta

from crossattn.nn.choices import check_fields

__all__ = ["Module"]


class Module(nn.Module):
    """A Linen module that refuses fields of another kind or out of range in one line."""

    def __post_init__(self):
        check_fields(self)
        super().__post_init__()

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
