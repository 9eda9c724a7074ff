"""Published parameters that a run starts with: those of a text decoder, for the words of its data.

A folder holds `decoder.npz`, parameters by their paths in a `VisionLanguageDecoder`, and the
tokenizer of its words, tokenizer.json; `python -m experiments.decoder` writes both. Of its many
words a run has those that its texts have: each token of the data is a row of the published table,
the mean of the rows of its pieces where it is none of the published tokens (an answer of several
words; words, where no tokenizer cuts them).
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from crossattn.data.errors import DataError
from crossattn.data.tokenizer import read_tokenizer, with_tokenizer
from crossattn.fields import flat
from crossattn.train.run import Run

__all__ = ["FILE", "InitialError", "initial_parameters", "put_in"]

FILE = "decoder.npz"


class InitialError(ValueError):
    """Published parameters that cannot be read, or that do not fit the run."""


def initial_parameters(run: Run, words: int | Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays by path of what `run.initial` gives; {} where it is empty or ignored.

    Raises:
      InitialError: there is no such folder, it is of a decoder of other sizes than the model, or
        of another tokenizer than that of the data; only the number of words is given.
    """
    if not run.initial or run.ignore_initial:
        return {}
    if isinstance(words, int):
        raise InitialError("initial: parameters of words, of which only the number is known here")
    folder = Path(run.initial).expanduser()
    arrays = _read(folder)
    about = json.loads(arrays.pop("about").tobytes())
    own = flat(dataclasses.asdict(run))
    for name, wanted in about["settings"].items():
        if own[name] != wanted:
            option = name.replace("_", "-")
            raise InitialError(
                f"initial {folder} is of a decoder of {name} {wanted}, this run has {own[name]!r}: "
                f"type --{option} {wanted}"
            )
    _check_tokenizer(run, folder)
    table = arrays.pop("words/embedding")
    rows = _rows(table, about["special"], str(folder), words)
    arrays |= {"words/embedding": rows, "logits/kernel": rows.T}
    arrays["logits/bias"] = np.zeros(len(rows), rows.dtype)
    return {f"params/{path}": array for path, array in _grouped(arrays, run.model.cross_every)}


def _grouped(arrays: Mapping[str, np.ndarray], every: int) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays (L, ...) of layers of text as those (L / every, ...) of each place in a group."""
    for path, array in arrays.items():
        if "/text0/" not in path:
            yield path, array
            continue
        for number in range(every):
            yield path.replace("/text0/", f"/text{number}/"), array[number::every]


def put_in(params: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Parameters with published arrays at their paths, of positions as many as there are words.

    Raises:
      InitialError: there is no such parameter, or it has another shape.
    """
    leaves = flatten_dict(params, sep="/")
    for path, array in arrays.items():
        if path not in leaves:
            raise InitialError(f"initial: this model has no {path}")
        leaf = leaves[path]
        if path == "params/position":
            array = array[: leaf.shape[0]]
        if array.shape != leaf.shape[-array.ndim :]:
            raise InitialError(f"initial: {path} is {array.shape}, this model has {leaf.shape}")
        array = np.broadcast_to(array.astype(leaf.dtype), leaf.shape)
        place = None if isinstance(leaf, jax.core.Tracer) else leaf.sharding
        leaves[path] = jax.device_put(array, place)
    return unflatten_dict(leaves, sep="/")


def _read(folder: Path) -> dict[str, np.ndarray]:
    path = folder / FILE
    try:
        # np.load leaves a file open that it opened itself and then finds damaged.
        with path.open("rb") as opened, np.load(opened) as file:
            arrays = {name: file[name] for name in file.files}
        if not {"about", "words/embedding"} <= arrays.keys():
            raise ValueError("another archive")
        return arrays
    except (OSError, ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or no archive of a decoder"
        raise InitialError(
            f"initial: cannot read {path}: {reason}: type "
            f"python -m experiments.decoder whisper-tiny.en {folder}"
        ) from None


def _check_tokenizer(run: Run, folder: Path) -> None:
    given = getattr(run.data, "tokenizer", "")
    try:
        same = not given or with_tokenizer("", given) == with_tokenizer("", str(folder))
    except DataError as error:
        raise InitialError(f"initial: {error}") from None
    if not same:
        raise InitialError(
            f"data.tokenizer {given} is not that of initial {folder}: type --data.tokenizer "
            f"{folder}"
        )


def _rows(
    table: np.ndarray, special: Mapping[str, int], folder: str, vocabulary: Sequence[str]
) -> np.ndarray:
    """A vector for each token of the data (V, M)."""
    reader = read_tokenizer(folder)
    assert reader is not None
    known = reader.tokenizer
    found = []
    for word in vocabulary:
        number = special.get(word, known.token_to_id(word))
        pieces = known.encode(f" {word}", add_special_tokens=False).ids
        # What stands for any word is the mean of all.
        several = slice(None) if word == "<unknown>" else pieces
        found.append(table[several].mean(axis=0) if number is None else table[number])
    return np.stack(found)
