"""What the encoder of a published model makes of pictures or recordings, as context for runs."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from crossattn.data.audio import log_mel
from crossattn.data.encoded import ABOUT, WHOLE_PICTURE, Encoder
from crossattn.data.errors import DataError
from crossattn.data.originals import Originals
from crossattn.files import write_atomically
from crossattn.pretrained.feature_file import FeatureFile
from crossattn.pretrained.picture_encoder import PictureEncoder
from crossattn.pretrained.transcriber import Transcriber, encode
from crossattn.shapes import Float

__all__ = ["Frozen", "encode_parts", "heard_by", "of_pictures", "of_sounds"]

# Frames of a spectrogram for one context token; pictures or sounds that are encoded together.
FRAMES_PER_TOKEN, TOGETHER = 2, 4
PATIENCE_SECONDS = 3.0


class Frozen(NamedTuple):
    """A frozen encoder.

    Attributes:
      about: what it is.
      encode: what `Originals.read` gives, `TOGETHER` of them, to features (n, P, M) and to the
        windows (n, 4) of the pictures that their tokens cover.
    """

    about: Encoder
    encode: Callable[[Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray]]


def of_pictures(model: PictureEncoder, name: str) -> Frozen:
    """A tower, of which each patch is a token; by a name for messages."""

    def patches(pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        found = model.patches(pictures)
        seen = np.array([model.seen(one) for one in pictures])
        return found.reshape(len(found), -1, found.shape[-1]), seen

    does = f"{model.module} {dataclasses.astuple(model.processor)}"
    return Frozen(Encoder(_digest(model.params, does), name, model.module.grid), patches)


def of_sounds(model: Transcriber, name: str, tokens: int, frames: int) -> Frozen:
    """The encoder of a model of speech, see `heard_by`.

    Raises:
      DataError: tokens are an odd number of frames.
    """
    if frames % FRAMES_PER_TOKEN:
        raise DataError(
            f"data.token_frames {frames} is odd: an encoder makes one token of two frames"
        )
    whole = np.array([WHOLE_PICTURE] * TOGETHER)
    hear = lambda sounds: (heard_by(model, sounds, tokens, frames), whole)
    does = f"{model.bands} {tokens} {frames}"
    return Frozen(Encoder(_digest(model.params["params"]["encoder"], does), name), hear)


def heard_by(
    model: Transcriber, sounds: Sequence[np.ndarray], tokens: int, frames: int
) -> Float[np.ndarray, "B P M"]:
    """The context of sounds, averaged over stretches of equally many frames.

    The encoder hears the whole of a sound at each place. Sounds end with silence after P stretches,
    and not after 30 seconds as in training.

    Args:
      model: of which the encoder is used.
      sounds: float32 samples (N,) at 16 kHz, none longer than all stretches.
      tokens: P, how many stretches.
      frames: of 10 ms in each; an even number.

    Returns:
      float32.
    """
    seconds = tokens * frames / 100
    spectra = np.stack([log_mel(one, model.bands, seconds=seconds) for one in sounds])
    context = encode(model.model, model.params, jnp.asarray(spectra))
    found = np.asarray(context, np.float32).reshape(len(sounds), tokens, -1, context.shape[-1])
    return found.mean(axis=2)


def encode_parts(frozen: Frozen, originals: Mapping[str, Originals], folder: Path) -> int:
    """Write NAME.npy for each part of a set, for `data.features`; go on where one was killed.

    No more than a few pictures are in memory, and each is read and encoded once.

    Returns:
      How many pictures or recordings the files hold.

    Raises:
      DataError: the folder holds features of another encoder or set, or a picture cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, frozen.about)
    total = sum(len(own.keys) for own in originals.values())
    with tqdm(total=total, desc="encoding", delay=PATIENCE_SECONDS) as shown:
        for name, own in originals.items():
            with FeatureFile(folder / f"{name}.npy", own.keys) as file:
                shown.update(file.done)
                while file.done < len(own.keys):
                    start = file.done
                    read = [
                        own.read(at) for at in range(start, min(start + TOGETHER, len(own.keys)))
                    ]
                    # A last group that is not full would be compiled anew.
                    features, seen = frozen.encode(read + read[-1:] * (TOGETHER - len(read)))
                    file.append(seen[: len(read)], features[: len(read)])
                    shown.update(len(read))
    return total


def _claim(folder: Path, about: Encoder) -> None:
    """Say whose features a folder holds, before the first is there."""
    there = Encoder.of(folder)
    if there is None:
        content = about._asdict() | {"grid": list(about.grid)}
        write_atomically(folder / ABOUT, json.dumps(content, indent=1) + "\n")
    elif there.digest != about.digest:
        raise DataError(
            f"{folder} holds features of another encoder, {there.name} ({there.digest}), not of "
            f"{about.name} ({about.digest}): name another folder"
        )


def _digest(params: Any, does: str) -> str:
    """Sixteen digits that change with any weight, and with what is done to the input."""
    said = hashlib.blake2b(does.encode(), digest_size=8)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        said.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        said.update(np.ascontiguousarray(leaf).tobytes())
    return said.hexdigest()
