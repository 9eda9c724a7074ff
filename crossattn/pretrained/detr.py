"""DETR (Carion et al. 2020, arXiv:2005.12872) behind its backbone: DetrForObjectDetection."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.interop.files import WeightsError
from crossattn.models.detector import ObjectDetector
from crossattn.nn import AttentionConfig, presets
from crossattn.nn.stack import Stack
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.towers import ModelPart, Sizes, load_parts
from crossattn.shapes import Array, Bool, Float

__all__ = ["Detector", "load_detr"]

# What the class takes where config.json says nothing.
DEFAULTS = {
    **{"d_model": 256, "num_queries": 100, "activation_function": "relu"},
    **{f"{side}_layers": 6 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 2048 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 8 for side in ("encoder", "decoder")},
    "position_embedding_type": "sine",
}
BACKBONE, HEAD = r"model\.backbone\.", "class_labels_classifier.bias"


@dataclasses.dataclass(frozen=True)
class Detector:
    """A DETR that is given the features of its backbone, which is not read.

    Attributes:
      model: the module.
      params: its parameters.
      names: of the classes, as far as config.json has them.
    """

    model: ObjectDetector
    params: Any
    names: dict[int, str]

    def objects(
        self, features: Float[Array, "B Y X C"], there: Bool[Array, "B Y X"] | None = None
    ) -> tuple[Float[Array, "B Q _"], Float[Array, "B Q 4"]]:
        """Logits of classes and boxes, as of `ObjectDetector`."""
        return self._apply(self.params, features, there)[:2]

    @functools.cached_property
    def _apply(self) -> Any:
        return jax.jit(self.model.apply)


def load_detr(checkpoint: Checkpoint, *, dtype: Any = jnp.float32) -> Detector:
    """All of it but the backbone; parameters are of `dtype`.

    Raises:
      WeightsError: config.json says what is not done here, or there is no head of classes.
      ImportMismatchError: tensors are missing, unknown or misshaped.
    """
    tensors, says = checkpoint.tensors, checkpoint.config
    sizes = Sizes(says, DEFAULTS, checkpoint.where)
    if HEAD not in tensors:
        raise WeightsError(f"{checkpoint.where} has no {HEAD}: DetrForObjectDetection is loaded")
    if sizes.values["position_embedding_type"] != "sine":
        raise sizes.refused("position_embedding_type", "sine")
    if sizes.values.get("auxiliary_loss"):  # the class then norms the stream behind each layer
        raise sizes.refused("auxiliary_loss", "false")
    encoder, decoder = (_stack(sizes, side) for side in ("encoder", "decoder"))
    classes = int(tensors[HEAD].shape[0]) - 1
    model = ObjectDetector(encoder, decoder, sizes.whole("num_queries"), classes)
    projection = tensors.get("model.input_projection.weight")
    channels = 1 if projection is None else projection.shape[1]
    features = jnp.zeros((1, 1, 1, channels))
    like = jax.eval_shape(model.init, jax.random.key(0), features)
    (params,) = load_parts(checkpoint, [ModelPart("detr", "", like)], ignored=BACKBONE, dtype=dtype)
    names = {int(number): name for number, name in (says.get("id2label") or {}).items()}
    return Detector(model, {"params": params}, names)


def _stack(sizes: Sizes, side: str) -> Stack:
    width, heads = sizes.whole("d_model"), sizes.whole(f"{side}_attention_heads")
    if width % heads or width % 4:
        raise sizes.refused("d_model", f"a multiple of 4 and of {side}_attention_heads {heads}")
    activation = sizes.activation("activation_function")
    design, placed = presets.config("encoder_decoder_post"), AttentionConfig(positions="add")
    expansion = sizes.whole(f"{side}_ffn_dim") / width
    design = dataclasses.replace(
        design,
        order=("self", "mlp") if side == "encoder" else ("self", "cross", "mlp"),
        residual=dataclasses.replace(design.residual, epsilon=1e-5),
        self_attention=placed,
        cross_attention=placed,
        mlp=dataclasses.replace(design.mlp, activation=activation, expansion=expansion),
    )
    return Stack(sizes.whole(f"{side}_layers"), width, heads, design)
