"""Vision towers alone: ViT, and those of CLIP and SigLIP without their texts."""

from typing import Any

import jax
import jax.numpy as jnp

from crossattn.models.image_tower import ImageTower
from crossattn.nn import presets
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.clip import CLIP_VISION, SIGLIP_VISION, with_map_head
from crossattn.pretrained.picture_encoder import PictureEncoder
from crossattn.pretrained.towers import ModelPart, Sizes, image_tower, load_parts

__all__ = ["load_clip_vision", "load_siglip_vision", "load_vit"]

# What the class of transformers takes where config.json says nothing.
VIT = {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12},
    **{"num_attention_heads": 12, "image_size": 224, "patch_size": 16},
    **{"hidden_act": "gelu", "layer_norm_eps": 1e-12},
}
PROJECTION = "visual_projection.weight"
# A head for classes, and the pooler, which training by classes alone uses.
HEADS = r"(vit\.)?pooler\.|classifier\."


def load_vit(checkpoint: Checkpoint, dtype: Any = jnp.float32) -> PictureEncoder:
    """ViT (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"), without a head for classes.

    Raises:
      WeightsError, ImportMismatchError: the folder holds no such model, whole.
    """
    sizes = Sizes.of(checkpoint, "", VIT)
    if sizes.values.get("qkv_bias") is False:
        raise sizes.refused("qkv_bias", "true")
    return _loaded(checkpoint, image_tower(sizes, presets.TEXT), "vit", "vit.", dtype)


def load_clip_vision(checkpoint: Checkpoint, dtype: Any = jnp.float32) -> PictureEncoder:
    """That of a `CLIPVisionModel`, with its projection or without; raises as `load_vit`."""
    kind: dict[str, Any] = {"patch_bias": False, "first_norm": True}
    sizes = Sizes.of(checkpoint, "", {**CLIP_VISION, "projection_dim": 512})
    tower = image_tower(sizes, presets.TEXT, **kind)
    shape = tower.stack.width, sizes.whole("projection_dim")
    return _loaded(checkpoint, tower, "clip_vision", "vision_model.", dtype, shape)


def load_siglip_vision(checkpoint: Checkpoint, dtype: Any = jnp.float32) -> PictureEncoder:
    """The tower of a `SiglipVisionModel`; raises as `load_vit`."""
    sizes = Sizes.of(checkpoint, "", SIGLIP_VISION)
    tower = with_map_head(image_tower(sizes, presets.TEXT, class_token=False), sizes)
    return _loaded(checkpoint, tower, "siglip_vision", "vision_model.", dtype)


def _loaded(
    checkpoint: Checkpoint,
    tower: ImageTower,
    layout: str,
    outer: str,
    dtype: Any,
    projection: tuple[int, int] | None = None,
) -> PictureEncoder:
    """Of a file of the bare model, or of one in which its names begin with `outer`.

    A projection, of this shape, is read where the file has one.
    """
    prefix = outer if any(name.startswith(outer) for name in checkpoint.tensors) else ""
    side, (rows, columns) = tower.patch_size, tower.grid
    pixels = jnp.zeros((1, rows * side, columns * side, 3))
    like = jax.eval_shape(lambda: tower.init(jax.random.key(0), pixels, method="pooled"))
    parts = [ModelPart(layout, prefix, like, tower)]
    if projection is not None and PROJECTION in checkpoint.tensors:
        kernel = {"kernel": jax.ShapeDtypeStruct(projection, jnp.float32)}
        like = {"params": {"image_projection": kernel}}
        parts.append(ModelPart("clip_vision_projection", "", like))
    params, *more = load_parts(checkpoint, parts, ignored=HEADS, dtype=dtype)
    kernels = [one["image_projection"]["kernel"] for one in more]
    return PictureEncoder(tower, {"params": params}, checkpoint, *kernels)
