"""What an encoder makes of every image, kept in files: the context of models that train no encoder.

A folder holds `train.npy` and `SPLIT.npy`, float32 (images, patches, width), in the order of the
images of the data that they were made from; or, with `encoder.json` beside them, what
experiments.encode has written, see `crossattn.data.encoded`.
"""

import dataclasses
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.data.dataset import Dataset
from crossattn.data.encoded import Encoder, match_keys, through_encoder
from crossattn.data.examples import Examples
from crossattn.data.stream import StreamedRecords
from crossattn.files import write_atomically
from crossattn.nn import PatchEncoder

AT_A_TIME = 128


def with_features(dataset: Dataset, folder: str) -> Dataset:
    """Data whose images are the features of a folder.

    Raises:
      ValueError: there is no such file, or it was made of other images.
    """
    if not folder:
        raise ValueError(
            "model.image_encoder features needs data.features: a folder of NAME.npy files, which "
            "python -m experiments.evaluate RUN --features FOLDER writes, or experiments.encode"
        )
    encoder = Encoder.of(folder)
    path = lambda name: Path(folder) / f"{name}.npy"
    if encoder is None and not isinstance(dataset.train, Examples):
        raise ValueError(
            f"{folder} has no encoder.json: features of these data, which are read while a run "
            "trains, are those that experiments.encode writes"
        )
    if encoder is None:
        found = {name: _array(path(name)) for name in dataset.held}
    else:
        keys = {name: dataset.original(name).keys for name in dataset.held}
        files = {name: _rows(path(name)) for name in dataset.held}
        at = {name: match_keys(files[name]["key"], keys[name], path(name)) for name in files}
        if isinstance(dataset.train, StreamedRecords):
            file = files.pop("train")
            train = dataset.train.encoded(file, encoder.grid, np.arange(len(file))[at["train"]])
            dataset = dataclasses.replace(dataset, train=train)
        rows = {name: file[at[name]] for name, file in files.items()}
        if encoder.grid:
            return through_encoder(dataset, rows, encoder.grid)
        found = {name: own["features"] for name, own in rows.items()}
    parts = {name: _replaced(part, found[name], path(name)) for name, part in dataset.held.items()}
    return dataclasses.replace(dataset, train=parts.pop("train"), splits=parts)


def _array(path: Path) -> np.ndarray:
    try:
        # Memory-mapped: a batch reads its own rows.
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no array in NumPy's format"
        raise ValueError(f"cannot read the features {path}: {reason}") from None


def _rows(path: Path) -> np.ndarray:
    """The rows of a file."""
    found = _array(path)
    if found.dtype.names != ("key", "seen", "features") or not len(found):
        raise ValueError(f"{path} is none that experiments.encode has written: encode once more")
    return found


def _replaced(part: Examples, found: np.ndarray, path: Path) -> Examples:
    wanted = (len(part.coverage), part.coverage.shape[-1])
    if found.ndim != 3 or found.shape[:2] != wanted or found.dtype != np.float32:
        raise ValueError(
            f"{path} holds {found.dtype} {found.shape}, these data need float32 "
            f"{(*wanted, 'width')}: type the data options that the features were made with"
        )
    return dataclasses.replace(part, images=found)


def write_features(encoder: PatchEncoder, params: Any, images: np.ndarray, path: Path) -> None:
    """Encode images (N, ...) with the encoder's own parameters into a file (N, P, M)."""
    encode = jax.jit(lambda batch: encoder.apply({"params": params}, batch))
    parts = []
    for start in range(0, len(images), AT_A_TIME):
        rows = np.minimum(np.arange(start, start + AT_A_TIME), len(images) - 1)
        made = np.asarray(encode(jnp.asarray(images[rows])))
        parts.append(made[: len(images) - start])
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate(parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
