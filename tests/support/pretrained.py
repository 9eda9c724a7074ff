"""Folders of published models: those of tests/fixtures/pretrained in their true format."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FOLDER = Path(__file__).parents[1] / "fixtures" / "pretrained"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{n}" for n in range(4, 30)), "##s", "##ly")
PICTURES = {"image_processor_type": "BlipImageProcessor", "size": {"height": 14, "width": 14}}
PICTURES |= {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}


def fixture(name):
    """Arrays by name, tensors by theirs, and config.json."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    state = {key[6:]: value for key, value in arrays.items() if key.startswith("state/")}
    return arrays, state, json.loads(str(arrays.get("config", "{}")))


def write(folder, state, config, *, preprocessing=PICTURES):
    """A folder with weights, config.json, tokenizer and preprocessing."""
    folder.mkdir(exist_ok=True)
    state = {name: np.array(tensor, order="C") for name, tensor in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder


def folder_of(name, tmp_path):
    """The folder of a fixture, and its arrays."""
    arrays, state, config = fixture(name)
    return write(tmp_path / name, state, config), arrays


def tokenizer():
    """BERT's: pieces of words, with [CLS] before and [SEP] behind them."""
    piece = lambda name, kind=0: {"SpecialToken": {"id": name, "type_id": kind}}
    special = {
        name: {"id": name, "ids": [n], "tokens": [name]} for n, name in ((2, "[CLS]"), (3, "[SEP]"))
    }
    single = [piece("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, piece("[SEP]")]
    added = [
        {"id": n, "content": WORDS[n], "special": True, "single_word": False}
        | {"lstrip": False, "rstrip": False, "normalized": False}
        for n in range(4)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        | {"strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single}
        | {"special_tokens": special},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
        | {"max_input_chars_per_word": 100, "vocab": {word: n for n, word in enumerate(WORDS)}},
    }
