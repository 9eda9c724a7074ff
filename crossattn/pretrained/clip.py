"""CLIP and SigLIP, whole."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.models.dual_towers import DualTowers
from crossattn.models.image_tower import ImageTower
from crossattn.models.text_tower import TextTower
from crossattn.nn import presets
from crossattn.nn.block import Block
from crossattn.nn.families.latents import Latents
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.dual_encoder import DualEncoder
from crossattn.pretrained.towers import (
    ModelPart,
    Sizes,
    check_widths,
    image_tower,
    load_parts,
    stack_of,
)

__all__ = ["CLIP_VISION", "SIGLIP_VISION", "load_clip", "load_siglip", "with_map_head"]

LAYERS = {"num_hidden_layers": 12, "intermediate_size": 3072, "hidden_size": 768}
HEADS = {"num_attention_heads": 12}
# What the classes of transformers take where config.json says nothing.
CLIP = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, **LAYERS, **HEADS}
CLIP_VISION = {**CLIP, "image_size": 224, "patch_size": 32}
CLIP_TEXT = {
    **CLIP,
    **{"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
    **{"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407},
}
SIGLIP = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, **LAYERS, **HEADS}
SIGLIP_VISION = {**SIGLIP, "image_size": 224, "patch_size": 16}
SIGLIP_TEXT = {**SIGLIP, "vocab_size": 32000, "max_position_embeddings": 64, "pad_token_id": 1}
# The end token of the first files of CLIP, in which it is another one, that of the largest id.
WRONG_END = 2


def load_clip(checkpoint: Checkpoint, dtype: Any = jnp.float32) -> DualEncoder:
    """CLIP (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language").

    Raises:
      WeightsError, ImportMismatchError: the folder holds no such model, whole.
    """
    vision, text = _sizes(checkpoint, CLIP_VISION, CLIP_TEXT)
    whole = Sizes.of(checkpoint, "", {"projection_dim": 512})
    tower = image_tower(vision, presets.TEXT, patch_bias=False, first_norm=True)
    end = text.whole("eos_token_id")
    model = DualTowers(
        tower,
        _text_tower(text, causal=True),
        size=whole.whole("projection_dim"),
        stands="largest" if end == WRONG_END else "end",
        end_id=end,
    )
    # What fills a text up stands behind its end, where a causal tower does not see it.
    return _loaded(checkpoint, model, "clip", pad_id=0 if end == WRONG_END else end, dtype=dtype)


def load_siglip(checkpoint: Checkpoint, dtype: Any = jnp.float32) -> DualEncoder:
    """SigLIP (Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training").

    Raises:
      WeightsError, ImportMismatchError: the folder holds no such model, whole.
    """
    vision, text = _sizes(checkpoint, SIGLIP_VISION, SIGLIP_TEXT)
    tower = image_tower(vision, presets.TEXT, class_token=False)
    size = "projection_size" if "projection_size" in text.values else "hidden_size"
    check_widths(text, size, vision)
    model = DualTowers(
        with_map_head(tower, vision),
        _text_tower(text),
        size=text.whole(size),
        project_image=False,
        text_bias=True,
        logit_bias=True,
    )
    return _loaded(checkpoint, model, "siglip", pad_id=text.whole("pad_token_id", 0), dtype=dtype)


def _sizes(checkpoint: Checkpoint, vision: Any, text: Any) -> tuple[Sizes, Sizes]:
    parts = (("vision_config", vision), ("text_config", text))
    image, words = (Sizes.of(checkpoint, name, defaults) for name, defaults in parts)
    return image, words


def _text_tower(sizes: Sizes, *, causal: bool = False) -> TextTower:
    stack = stack_of(sizes, presets.TEXT)
    words = sizes.whole("vocab_size"), sizes.whole("max_position_embeddings")
    return TextTower(stack, *words, causal=causal, epsilon=stack.config.residual.epsilon)


def with_map_head(tower: ImageTower, sizes: Sizes) -> ImageTower:
    """A tower of SigLIP with its head, unless config.json says that it has none.

    The head is one query, with the sizes of the tower's layers.
    """
    if not sizes.values.get("vision_use_head", True):
        return tower
    layers, design = tower.stack.config, presets.config("map_head")
    residual = replace(design.residual, epsilon=layers.residual.epsilon)
    design = replace(design, residual=residual, mlp=layers.mlp)
    return tower.clone(head=Latents(1, Block(tower.stack.width, tower.stack.heads, design)))


def _loaded(
    checkpoint: Checkpoint, model: DualTowers, kind: str, *, pad_id: int, dtype: Any
) -> DualEncoder:
    rows, columns = model.image.grid
    side = model.image.patch_size
    pixels = jnp.zeros((1, rows * side, columns * side, 3))
    tokens = jnp.zeros((1, model.text.length), jnp.int32)
    like = dict(jax.eval_shape(model.init, jax.random.key(0), pixels, tokens)["params"])
    image, text = ({"params": like.pop(one)} for one in ("image", "text"))
    parts = [
        ModelPart(f"{kind}_vision", "vision_model.", image, model.image, "vision_config"),
        ModelPart(f"{kind}_text", "text_model.", text, model.text, "text_config"),
        ModelPart(kind, "", {"params": like}),
    ]
    image, text, rest = load_parts(checkpoint, parts, dtype=dtype)
    params = {"params": {"image": image, "text": text, **rest}}
    return DualEncoder(model, params, checkpoint, pad_id=pad_id)
