"""transformers' Whisper of any size, with parameters of its own: its decoder trains and writes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case, DecoderShape
from ..timing import Program, UnavailableError
from .attention import optional_module

NAMES = ("transformers", "transformers-compiled")


def writing(case: Case, name: str, context: np.ndarray, parameters: int, work: Any) -> Program:
    """Greedy words, one forward pass after the other over a cache; weights in the case's dtype."""
    torch, model, device = _model(case, name, case.steps + 1, parameters)
    model = model.eval().to(getattr(torch, case.dtype))
    seen = torch.from_numpy(np.array(context, np.float32)).to(device, model.dtype)
    called = torch.compile(model, dynamic=True) if name == NAMES[1] else model

    def run() -> Any:
        tokens = torch.ones((case.shape.B, 1), dtype=torch.int64, device=device)
        cache, written = None, []
        with torch.inference_mode():
            for _ in range(case.steps):
                given = {"decoder_input_ids": tokens, "past_key_values": cache}
                found = called(encoder_outputs=(seen,), use_cache=True, **given)
                cache, tokens = found.past_key_values, found.logits[:, -1:].argmax(-1)
                written.append(tokens)
        words = torch.cat(written, 1)
        _wait(torch, device)
        return words

    return Program(run, lambda result: None, case.steps, work=work)


def training(
    case: Case, name: str, arrays: tuple[np.ndarray, np.ndarray], parameters: int, work: Any
) -> Program:
    """Steps of AdamW on parameters in float32, with autocast in half precision.

    `arrays` are a context and tokens, of which each predicts the next.
    """
    context, tokens = arrays
    torch, model, device = _model(case, name, tokens.shape[1] - 1, parameters)
    trained = list(model.get_decoder().parameters())
    fused = {"fused": True} if device == "cuda" else {}
    optimizer = torch.optim.AdamW(trained, lr=1e-4, **fused)
    words = torch.from_numpy(np.asarray(tokens, np.int64)).to(device)
    seen = torch.from_numpy(np.array(context, np.float32)).to(device)
    half = {"dtype": torch.bfloat16, "enabled": case.dtype == "bfloat16"}

    def loss_of() -> Any:
        given = {"encoder_outputs": (seen,), "decoder_input_ids": words[:, :-1]}
        logits = model(use_cache=False, **given).logits.float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten())

    computed = torch.compile(loss_of) if name == NAMES[1] else loss_of

    def run() -> Any:
        with torch.autocast(device, **half):
            loss = computed()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        _wait(torch, device)
        return loss.detach()

    return Program(run, lambda loss: 0.0 * float(loss), work=work)


def _model(case: Case, name: str, length: int, parameters: int) -> tuple[Any, Any, str]:
    """(torch, the model on its device, that device); its decoder is of our size.

    Raises:
      UnavailableError: it is not installed, runs on no such device, or is of another size.
    """
    torch, transformers = optional_module("torch"), optional_module("transformers")
    if case.device == "tpu" or (case.device == "gpu" and not torch.cuda.is_available()):
        raise UnavailableError(f"this build of torch has no {case.device}")
    torch.set_num_threads(case.threads)
    torch.manual_seed(case.seed)
    shape = case.shape
    layers, vocab_size = DecoderShape.layers, DecoderShape.vocab_size
    if isinstance(shape, DecoderShape):
        layers, vocab_size = shape.layers, shape.vocab_size
    M = shape.H * shape.D
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "d_model": M,
        "max_source_positions": shape.S,
    }
    sizes |= {"decoder_layers": layers, "decoder_attention_heads": shape.H}
    sizes |= {"encoder_layers": 1, "encoder_attention_heads": shape.H, "encoder_ffn_dim": M}
    sizes |= {"decoder_ffn_dim": 4 * M, "max_target_positions": length}
    ids = dict.fromkeys(
        ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0
    )
    config = transformers.WhisperConfig(**sizes, **ids, attn_implementation="sdpa")
    device = "cuda" if case.device == "gpu" else "cpu"
    model = transformers.WhisperForConditionalGeneration(config).to(device)
    count = sum(x.numel() for x in model.get_decoder().parameters())
    if count != parameters:
        raise UnavailableError(f"its decoder has {count:,} parameters, ours {parameters:,}")
    return torch, model, device


def _wait(torch: Any, device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
