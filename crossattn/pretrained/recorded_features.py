"""What the encoder of a published model of speech makes of recordings, as context for runs."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from crossattn.data.audio import log_mel, read_sound
from crossattn.data.errors import DataError
from crossattn.data.recordings.assembly import tokens_needed
from crossattn.data.recordings.source import RecordingsData, read_parts
from crossattn.files import write_atomically
from crossattn.pretrained.transcriber import Transcriber, encode
from crossattn.shapes import Float

__all__ = ["heard_by", "write_recorded_features"]

# Frames of a spectrogram for one context token, and sounds that are encoded together.
FRAMES_PER_TOKEN, TOGETHER = 2, 4
PATIENCE_SECONDS = 3.0


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


def write_recorded_features(model: Transcriber, data: RecordingsData, folder: Path) -> int:
    """Write NAME.npy for each part of a folder of recordings, for `data.features`.

    Returns:
      How many recordings were encoded.

    Raises:
      DataError: the recordings cannot be read, or tokens are an odd number of frames.
    """
    if data.token_frames % FRAMES_PER_TOKEN:
        raise DataError(
            f"data.token_frames {data.token_frames} is odd: an encoder makes one token of two "
            "frames"
        )
    read = read_parts(data)
    count, done = tokens_needed(read.parts), 0
    total = sum(map(len, read.parts.values()))
    folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=total, desc="encoding recordings", delay=PATIENCE_SECONDS) as shown:
        for name, own in read.parts.items():
            found = []
            for files in _groups([one.recording.file for one in own]):
                sounds = [read_sound(file) for file in files]
                # A last group that is not full would be compiled anew.
                filled = sounds + sounds[-1:] * (TOGETHER - len(sounds))
                found.append(heard_by(model, filled, count, data.token_frames)[: len(sounds)])
                shown.update(len(sounds))
                done += len(sounds)
            buffer = io.BytesIO()
            np.save(buffer, np.concatenate(found))
            write_atomically(folder / f"{name}.npy", buffer.getvalue())
    return done


def _groups(files: list[Path]) -> Iterator[list[Path]]:
    for start in range(0, len(files), TOGETHER):
        yield files[start : start + TOGETHER]
