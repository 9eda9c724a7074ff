"""Arrays of an example as the page wants them, or one line about what is wrong with them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Rows of weights in half precision add up to 1 within this.
ROUNDING = 0.01


def checked_numbers(name: str, value: Any) -> np.ndarray:
    """An array in float32, of anything that numpy makes real numbers of.

    Raises:
      ValueError: it is none, or has NaN or infinity.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(value).astype(np.float32, casting="same_kind")
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers") from None
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, got {array[place]} at {place}")
    return array


def checked_texts(name: str, value: Sequence[str]) -> tuple[str, ...]:
    """Several texts.

    Raises:
      ValueError: it is one text, or has something else among them, or nothing.
    """
    if isinstance(value, str) or not all(isinstance(one, str) for one in value) or not len(value):
        raise ValueError(f'{name} must be a list of texts, such as "a red ring".split()')
    return tuple(value)


def checked_weights(value: Any) -> np.ndarray:
    """Attention (L, H, T, S), float32, of two to four axes.

    Raises:
      ValueError: they are no attention.
    """
    array = checked_numbers("weights", value)
    if not 2 <= array.ndim <= 4 or 0 in array.shape:
        shapes = "(T, S), (H, T, S) or (L, H, T, S)"
        raise ValueError(f"weights must be {shapes}, none of them 0, got {array.shape}")
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    if array.min() < 0:
        raise ValueError(f"weights must not be negative, got {array.min():g}: are they logits?")
    most = array.sum(axis=-1, dtype=np.float64).max()
    if most > 1 + ROUNDING:
        raise ValueError(
            f"weights of a row must add up to at most 1 over the last axis, got {most:.4g}"
        )
    return array


def check_rows(array: np.ndarray, T: int, readings: str) -> None:
    """Check that there is a row of weights for each word.

    Raises:
      ValueError: there are more or fewer, or the meaning of the rows is unknown.
    """
    if readings not in ("", "consumed", "predicted", "both"):
        raise ValueError(
            f'readings must be "", "consumed", "predicted" or "both", got {readings!r}'
        )
    found = array.shape[2]
    if found != T and not (readings == "both" and found == T - 1):
        raise ValueError(f"{T} words need weights (..., {T}, S), got {found} rows")


def checked_grid(given: tuple[int, int] | None, S: int) -> tuple[int, int]:
    """Rows and columns of S patches.

    Raises:
      ValueError: they are not that many, or S is no square and nothing is given.
    """
    if given is not None:
        height, width = given
        if height * width != S or height < 1:
            raise ValueError(f"grid must be rows * columns = {S} patches, got {tuple(given)}")
        return int(height), int(width)
    side = math.isqrt(S)
    if side * side == S:
        return side, side
    extra = S - side * side
    advice = "grid=(rows, columns), tokens=[names of the keys] or seconds="
    if extra <= 5:
        advice += f", or leave out {extra} that are no patches, such as weights[..., {extra}:]"
    raise ValueError(f"{S} keys are no square of patches: give {advice}")


def checked_image(value: Any) -> np.ndarray:
    """A picture (h, w, 3), uint8.

    Raises:
      ValueError: it is none.
    """
    array = np.asarray(value)
    grey = array.ndim == 2
    if not (grey or (array.ndim == 3 and array.shape[2] == 3)) or 0 in array.shape:
        raise ValueError(f"image must be (h, w, 3) or (h, w), got {array.shape}")
    if array.dtype != np.uint8:
        array = checked_numbers("image", array)
        if array.min() < 0 or array.max() > 1:
            found = f"{array.min():.3g} to {array.max():.3g}"
            raise ValueError(f"image must be uint8, or numbers in 0..1, got {found}")
        array = np.rint(array * 255).astype(np.uint8)
    return np.repeat(array[..., None], 3, axis=2) if grey else array


def checked_tokens(given: Sequence[str] | None, S: int) -> tuple[str, ...] | None:
    """Names of S keys.

    Raises:
      ValueError: they are fewer or more.
    """
    if given is None:
        return None
    if len(given) != S:
        raise ValueError(f"weights of {S} keys need {S} tokens, got {len(given)}")
    return checked_texts("tokens", given)


def checked_waveform(given: Any, seconds: float | None) -> np.ndarray | None:
    """Samples of a sound (N,), float32.

    Raises:
      ValueError: its length is unknown or nothing, or the samples are no vector.
    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"seconds must be the length of the sound, got {seconds}")
    if given is None:
        return None
    if seconds is None:
        raise ValueError("a waveform needs its length: give seconds=")
    array = checked_numbers("waveform", given)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"waveform must be samples (N,), got {array.shape}")
    return array


def checked_generated(given: bool | Sequence[bool], T: int) -> tuple[bool, ...]:
    """Whether the model wrote each of T words.

    Raises:
      ValueError: they are fewer or more.
    """
    if isinstance(given, bool | np.bool_):
        return (bool(given),) * T
    if len(given) != T:
        raise ValueError(f"generated must say so of each of {T} words, got {len(given)}")
    return tuple(bool(one) for one in given)


def checked_regions(
    given: Any, T: int, S: int, size: tuple[int, int] | None, kind: str
) -> np.ndarray:
    """True regions: pixels (T, h, w), bool, or shares of keys (T, S), float32.

    Raises:
      ValueError: they are neither, or not of the picture's size, or other numbers.
    """
    array = np.asarray(given)
    if array.ndim == 3 and kind == "grid":
        fits = array.shape[0] == T and (size is None or array.shape[1:] == size)
        if not fits or 0 in array.shape:
            wanted = (T, *(size or ("h", "w")))
            raise ValueError(f"regions in pixels must be {wanted}, got {array.shape}")
        wrong = array[(array != 0) & (array != 1)]
        if wrong.size:
            raise ValueError(f"regions in pixels must be booleans, or 0 and 1, got {wrong[0]}")
        return array.astype(bool)
    shares = checked_numbers("regions", array)
    if shares.shape != (T, S):
        raise ValueError(f"regions of keys must be shares {(T, S)}, got {shares.shape}")
    if shares.min() < 0 or shares.max() > 1:
        raise ValueError("regions of keys are shares in 0..1")
    return shares
