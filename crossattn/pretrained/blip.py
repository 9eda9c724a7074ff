"""BLIP, whole: captions (BlipForConditionalGeneration), answers (BlipForQuestionAnswering)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.interop.files import WeightsError
from crossattn.models.text_decoder import TextDecoder
from crossattn.models.text_tower import TextTower
from crossattn.nn import presets
from crossattn.pretrained.captioner import Captioner
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.towers import (
    ModelPart,
    Sizes,
    check_widths,
    image_tower,
    load_parts,
    stack_of,
)

__all__ = ["load_blip"]

LAYERS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
# What the classes of transformers take where config.json says nothing.
VISION = {
    **LAYERS,
    **{"num_attention_heads": 12, "image_size": 384, "patch_size": 16},
    **{"hidden_act": "gelu", "layer_norm_eps": 1e-5},
}
TEXT = {
    **LAYERS,
    **{"num_attention_heads": 8, "vocab_size": 30524, "max_position_embeddings": 512},
    **{"hidden_act": "gelu", "layer_norm_eps": 1e-12},
    **{"bos_token_id": 30522, "sep_token_id": 102, "pad_token_id": 0},
}


def load_blip(checkpoint: Checkpoint, dtype: Any = jnp.float32) -> Captioner:
    """BLIP (Li et al. 2022, "Bootstrapping Language-Image Pre-training"), by the tensors there are.

    Raises:
      WeightsError, ImportMismatchError: the folder holds no such model, whole.
    """
    vision, text = (
        Sizes.of(checkpoint, f"{name}_config", defaults)
        for name, defaults in (("vision", VISION), ("text", TEXT))
    )
    has = lambda prefix: any(name.startswith(prefix) for name in checkpoint.tensors)
    if not has("text_decoder."):
        kinds = "BlipForConditionalGeneration and BlipForQuestionAnswering are loaded"
        raise WeightsError(f"{checkpoint.where} has no tensors of a text_decoder: {kinds}")
    asked = has("text_encoder.")
    stack = stack_of(text, presets.config("encoder_decoder_post"))
    words = text.whole("vocab_size"), text.whole("max_position_embeddings")
    epsilon = stack.config.residual.epsilon
    bert: dict[str, Any] = {"first_norm": True, "final_norm": False, "epsilon": epsilon}
    image = image_tower(vision, presets.TEXT)
    decoder = TextDecoder(stack, *words, transformed=True, **bert)
    question = TextTower(stack, *words, **bert) if asked else None
    if asked:
        check_widths(text, "hidden_size", vision)
    tokens, context = jnp.zeros((1, 1), jnp.int32), jnp.zeros((1, 1, image.stack.width))
    side = image.patch_size
    pixels = jnp.zeros((1, image.grid[0] * side, image.grid[1] * side, 3))
    parts = [
        _part("blip_vision", "vision_model.", image, pixels),
        _part("blip_decoder", "text_decoder.", decoder, tokens, context),
    ]
    if question is not None:
        parts.append(_part("blip_question", "text_encoder.", question, tokens, context))
    found = load_parts(checkpoint, parts, dtype=dtype)
    params = dict(
        zip(("image", "decoder", "question"), ({"params": p} for p in found), strict=False)
    )
    numbers = {
        f"{ours}_id": text.whole(f"{theirs}_token_id", 0)
        for ours, theirs in (("start", "bos"), ("end", "sep"), ("pad", "pad"))
    }
    return Captioner(image, decoder, params, checkpoint, question=question, **numbers)


def _part(layout: str, prefix: str, module: nn.Module, *given: Any) -> ModelPart:
    like = jax.eval_shape(module.init, jax.random.key(0), *given)
    section = "vision_config" if layout == "blip_vision" else "text_config"
    return ModelPart(layout, prefix, like, module, section)
