"""What an encoder makes of every image, kept in files: the context of models that train no encoder.

A folder holds `train.npy` and `SPLIT.npy`, float32 (images, patches, width), in the order of the
images of the data that they were made from.
"""

import dataclasses
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.data.examples import Examples
from crossattn.files import write_atomically
from crossattn.nn import PatchEncoder

AT_A_TIME = 128


def with_features(examples: Examples, folder: str, name: str) -> Examples:
    """Examples whose images are the features of a folder.

    Raises:
      ValueError: there is no such file, or it was made of other images.
    """
    if not folder:
        raise ValueError(
            "model.image_encoder features needs data.features: a folder of NAME.npy files, which "
            "python -m experiments.evaluate RUN --features FOLDER writes"
        )
    path = Path(folder) / f"{name}.npy"
    try:
        # Memory-mapped: a batch reads its own rows.
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no array in NumPy's format"
        raise ValueError(f"cannot read the features {path}: {reason}") from None
    wanted = (len(examples.coverage), examples.coverage.shape[-1])
    if found.ndim != 3 or found.shape[:2] != wanted or found.dtype != np.float32:
        raise ValueError(
            f"{path} holds {found.dtype} {found.shape}, these data need float32 "
            f"{(*wanted, 'width')}: type the data options that the features were made with"
        )
    return dataclasses.replace(examples, images=found)


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
