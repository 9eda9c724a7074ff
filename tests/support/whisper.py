"""Small Whispers in the true formats: a folder of Hugging Face, and a model of CTranslate2."""

import json
import struct

import numpy as np
from safetensors.numpy import save_file

from tests.support.fixtures import FOLDER

END, PROMPT = 20, (21, 23, 25, 26)
NAMES = ["endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "notimestamps"]
DTYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "bfloat16": 5}


def peer():
    """(config.json and generation_config.json, arrays, tensors) of the fixture."""
    with np.load(FOLDER.parent / "pretrained_whisper.npz") as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays.pop("about").tobytes())
    state = {name[6:]: arrays.pop(name) for name in list(arrays) if name.startswith("state/")}
    return about, arrays, state


def write_tokenizer(folder):
    """Words w0 to w19 and the tokens that steer."""
    vocabulary = {f"w{n}": n for n in range(END)}
    added = [{"id": END + n, "content": f"<|{name}|>"} for n, name in enumerate(NAMES)]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    content = {
        "version": "1.0",
        "added_tokens": [one | flags | {"special": True} for one in added],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "truncation": None,
        "padding": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))


def write_folder(folder, about, state, **change):
    """As transformers saves it, the tied output left out."""
    save_file({n: t for n, t in state.items() if n != "proj_out.weight"},
              folder / "model.safetensors")  # fmt: skip
    for name in ("config", "generation_config"):
        content = about[name] | (change if name == "config" else {})
        (folder / f"{name}.json").write_text(json.dumps(content))
    write_tokenizer(folder)
    return folder


def variables_of(state, heads=(2, 3)):
    """The same tensors as CTranslate2 names and joins them."""
    found, sides = {}, zip(("encoder", "decoder"), heads, strict=True)
    maps = lambda kind, letters: [f"{kind}.{letter}_proj" for letter in letters]
    pair = lambda one: {leaf: state[f"{one}.{leaf}"] for leaf in ("weight", "bias")}

    def norm(theirs, ours):
        found[f"{theirs}/gamma"], found[f"{theirs}/beta"] = pair(ours).values()

    def linear(theirs, *ours):
        for leaf in ("weight", "bias"):
            zeros = np.zeros(state[f"{ours[0]}.weight"].shape[0], np.float32)
            parts = [state.get(f"{one}.{leaf}", zeros) for one in ours]
            found[f"{theirs}/{leaf}"] = np.concatenate(parts)

    for side, count in sides:
        ours = f"model.{side}"
        found |= {f"{side}/{n}": np.int8(v) for n, v in (("activation", 3), ("pre_norm", 1))}
        found[f"{side}/num_heads"] = np.int16(count)
        found[f"{side}/position_encodings/encodings"] = state[f"{ours}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"{ours}.layer_norm")
        layers = {name.split(".")[3] for name in state if name.startswith(f"{ours}.layers.")}
        for layer in sorted(layers):
            one, other = f"{side}/layer_{layer}", f"{ours}.layers.{layer}"
            norm(f"{one}/self_attention/layer_norm", f"{other}.self_attn_layer_norm")
            linear(f"{one}/self_attention/linear_0", *maps(f"{other}.self_attn", "qkv"))
            linear(f"{one}/self_attention/linear_1", f"{other}.self_attn.out_proj")
            if side == "decoder":
                norm(f"{one}/attention/layer_norm", f"{other}.encoder_attn_layer_norm")
                linear(f"{one}/attention/linear_0", *maps(f"{other}.encoder_attn", "q"))
                linear(f"{one}/attention/linear_1", *maps(f"{other}.encoder_attn", "kv"))
                linear(f"{one}/attention/linear_2", f"{other}.encoder_attn.out_proj")
            norm(f"{one}/ffn/layer_norm", f"{other}.final_layer_norm")
            linear(f"{one}/ffn/linear_0", f"{other}.fc1")
            linear(f"{one}/ffn/linear_1", f"{other}.fc2")
    found["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    for name in ("conv1", "conv2"):
        linear(f"encoder/{name}", f"model.encoder.{name}")
    return found


def packed(variables, aliases=(), version=6, specification="WhisperSpec"):
    """The bytes of a model.bin."""
    text = lambda name: struct.pack("<H", len(name) + 1) + name.encode() + b"\0"
    out = [struct.pack("<I", version), text(specification), struct.pack("<II", 3, len(variables))]
    for name, array in sorted(variables.items()):
        array = np.asarray(array)
        head = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        kind = struct.pack("<BI", DTYPES[array.dtype.name], array.nbytes)
        out += [text(name), head, kind, array.tobytes()]
    out.append(struct.pack("<I", len(aliases)))
    return b"".join([*out, *(text(one) for pair in aliases for one in pair)])


TIED = (("decoder/projection/weight", "decoder/embeddings/weight"),)


def write_ctranslate2(folder, about, state):
    """As its converter writes it."""
    says = about["generation_config"]
    content = {
        "suppress_ids": says["suppress_tokens"],
        "suppress_ids_begin": says["begin_suppress_tokens"],
        "alignment_heads": says["alignment_heads"],
        "lang_ids": [22, 23],
        "is_multilingual": True,
    }
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "model.bin").write_bytes(packed(variables_of(state), TIED))
    write_tokenizer(folder)
    return folder
