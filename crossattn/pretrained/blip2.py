"""BLIP-2's first stage, whole: Blip2ForImageTextRetrieval."""

from typing import Any

import jax
import jax.numpy as jnp

from crossattn.interop.files import WeightsError
from crossattn.models.query_towers import QueryTowers
from crossattn.nn import presets
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.query_encoder import QueryEncoder
from crossattn.pretrained.towers import ModelPart, Sizes, image_tower, load_parts, stack_of

__all__ = ["load_blip2"]

# What the classes of transformers take where config.json says nothing.
VISION = {
    **{"hidden_size": 1408, "intermediate_size": 6144, "num_hidden_layers": 39},
    **{"num_attention_heads": 16, "image_size": 224, "patch_size": 14},
    **{"hidden_act": "gelu", "layer_norm_eps": 1e-6},
}
QFORMER = {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12},
    **{"num_attention_heads": 12, "vocab_size": 30522, "max_position_embeddings": 512},
    **{"hidden_act": "gelu", "layer_norm_eps": 1e-12, "cross_attention_frequency": 2},
    **{"pad_token_id": 0},
}
WHOLE = {"num_query_tokens": 32, "image_text_hidden_size": 256}


def load_blip2(checkpoint: Checkpoint, dtype: Any = jnp.float32) -> QueryEncoder:
    """BLIP-2 (Li et al. 2023, "Bootstrapping Language-Image Pre-training with Frozen ... Models").

    Raises:
      WeightsError, ImportMismatchError: the folder holds no such model, whole.
    """
    vision, text = (
        Sizes.of(checkpoint, f"{name}_config", defaults)
        for name, defaults in (("vision", VISION), ("qformer", QFORMER))
    )
    whole = Sizes.of(checkpoint, "", WHOLE)
    if not any(name.startswith("itm_head.") for name in checkpoint.tensors):
        kind = "Blip2ForImageTextRetrieval is loaded, of others `huggingface.load` reads the parts"
        raise WeightsError(f"{checkpoint.where} has no tensors of an itm_head: {kind}")
    stack = stack_of(text, presets.config("qformer"))
    qformer: Any = presets.build(
        "qformer", width=stack.width, heads=stack.heads, layers=stack.layers, config=stack.config
    )
    qformer = qformer.clone(
        queries=whole.whole("num_query_tokens"), every=text.whole("cross_attention_frequency")
    )
    model = QueryTowers(
        image_tower(vision, presets.TEXT),
        qformer,
        vocab_size=text.whole("vocab_size"),
        length=text.whole("max_position_embeddings"),
        size=whole.whole("image_text_hidden_size"),
    )
    side, (rows, columns) = model.image.patch_size, model.image.grid
    pixels = jnp.zeros((1, rows * side, columns * side, 3))
    given = pixels, jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    like = dict(jax.eval_shape(model.init, jax.random.key(0), *given)["params"])
    image, queries = ({"params": like.pop(one)} for one in ("image", "qformer"))
    parts = [
        ModelPart("blip_vision", "vision_model.", image, model.image, "vision_config"),
        ModelPart("qformer", "", queries, model.qformer, "qformer_config"),
        ModelPart("blip2", "", {"params": like}),
    ]
    image, queries, rest = load_parts(checkpoint, parts, dtype=dtype)
    params = {"params": {"image": image, "qformer": queries, **rest}}
    return QueryEncoder(model, params, checkpoint, pad_id=text.whole("pad_token_id", 0))
