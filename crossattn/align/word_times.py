"""When words are spoken, from where the heads of a decoder look while it writes them.

As published with Whisper (openai/whisper, `timing.py`): weights of its alignment heads over frames
of sound are normalised over the tokens and smoothed by a median over time, and dynamic time warping
finds the path through their mean that goes from the first token and frame to the last ones.
A decoder looks for a token at the position that predicts it, one before it.
"""

import numpy as np

from crossattn.align.arguments import finite_numbers, not_empty
from crossattn.shapes import Float, Int

__all__ = ["alignment_matrix", "token_starts", "warping_path"]

# Frames of the median, and the length of one: two windows of 10 ms.
MEDIAN, SECONDS = 7, 0.02
DIAGONAL, NEXT_TOKEN, NEXT_FRAME = 0, 1, 2


def token_starts(
    weights: Float[np.ndarray, "H T S"],
    *,
    prompt: int = 0,
    seconds_per_frame: float = SECONDS,
    median: int = MEDIAN,
) -> Float[np.ndarray, " R"]:
    """When each token begins: the first frame of it on the warping path.

    With the position that predicts the end of the text as the last row, a token ends where the next
    one begins.

    Args:
      weights: of the alignment heads, over the frames of the sound alone, without those of padding.
        Row t belongs to the token that it predicts.
      prompt: so many first rows count in normalising only, as published; R = T - prompt.
      seconds_per_frame: 0.02 of Whisper's encoder.
      median: frames, an odd number; see `alignment_matrix`.

    Raises:
      ValueError: another shape, weights that are not finite, no row after the prompt, or a median
        of an even number of frames.

    Example:
      >>> weights = np.repeat(np.eye(3), 50, axis=1)[None]  # one head, 3 tokens of a second each
      >>> token_starts(weights).tolist()
      [0.0, 1.0, 2.0]
    """
    matrix = alignment_matrix(weights, median=median)
    if not 0 <= prompt < len(matrix):
        raise ValueError(f"prompt is fewer than the {len(matrix)} rows, got {prompt}")
    tokens, frames = warping_path(matrix[prompt:])
    first = np.flatnonzero(np.diff(tokens, prepend=-1))
    return frames[first] * seconds_per_frame


def alignment_matrix(
    weights: Float[np.ndarray, "H T S"], *, median: int = MEDIAN
) -> Float[np.ndarray, "T S"]:
    """The mean over heads of weights that are normalised over tokens, then smoothed over frames.

    Each frame has mean 0 and standard deviation 1 over the tokens, of each head, so that a frame
    that all tokens look at says nothing; a frame that all look at alike is 0. Edges are mirrored;
    of fewer frames than half a median nothing is smoothed.

    Raises:
      ValueError: as `token_starts`.

    Example:
      >>> alignment_matrix(np.eye(2)[None]).tolist()
      [[1.0, -1.0], [-1.0, 1.0]]
    """
    weights = not_empty("weights", finite_numbers("weights", weights), "H T S").astype(np.float64)
    if median < 1 or median % 2 == 0:
        raise ValueError(f"a median is of an odd number of frames, got {median}")
    spread = weights.std(axis=1, keepdims=True)
    centred = weights - weights.mean(axis=1, keepdims=True)
    # Rounding makes a spread of what is equal.
    equal = spread <= 1e-12 * weights.max(initial=0)
    normal = np.where(equal, 0, centred / np.where(equal, 1, spread))
    return _smoothed(normal, median).mean(axis=0)


def _smoothed(x: np.ndarray, median: int) -> np.ndarray:
    half = median // 2
    if x.shape[-1] <= half or not half:
        return x
    padded = np.pad(x, ((0, 0), (0, 0), (half, half)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, median, axis=-1)
    return np.partition(windows, half, axis=-1)[..., half]


def warping_path(benefit: Float[np.ndarray, "T S"]) -> Int[np.ndarray, "2 N"]:
    """The path of the largest sum from the first token and frame to the last of both.

    Each step goes to the next token, to the next frame, or to both (Sakoe & Chiba 1978). Sums are
    kept in float32 and ties go to the next frame, as published with Whisper.

    Returns:
      the tokens and the frames of its N cells.

    Raises:
      ValueError: another shape, or numbers that are not finite.

    Example:
      >>> warping_path(np.array([[1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])).tolist()
      [[0, 0, 1], [0, 1, 2]]
    """
    benefit = not_empty("benefit", finite_numbers("benefit", benefit), "T S")
    T, S = benefit.shape
    steps = _steps(-benefit.astype(np.float64))
    t, s, path = T, S, []
    while t > 0 or s > 0:
        path.append((t - 1, s - 1))
        step = NEXT_FRAME if t == 0 else NEXT_TOKEN if s == 0 else steps[t + s, t]
        t -= step != NEXT_FRAME
        s -= step != NEXT_TOKEN
    return np.array(path[::-1]).T


def _steps(cost: np.ndarray) -> np.ndarray:
    """By which step the cheapest path comes to cell (t, s), at [t + s, t]; both count from 1.

    One diagonal after the other: its cells depend on the two diagonals before it alone.
    """
    T, S = cost.shape
    slanted = np.full((T + S + 1, T + 1), np.inf)
    t, s = np.indices(cost.shape)
    slanted[t + s + 2, t + 1] = cost
    steps = np.full(slanted.shape, NEXT_FRAME, np.uint8)
    before, last = (np.full(T + 1, np.inf, np.float32) for _ in range(2))
    before[0] = 0
    for diagonal in range(2, T + S + 1):
        both, token, frame = before[:-1], last[:-1], last[1:]
        by_both = (both < token) & (both < frame)
        by_token = (token < both) & (token < frame)
        steps[diagonal, 1:] = np.where(
            by_both, DIAGONAL, np.where(by_token, NEXT_TOKEN, NEXT_FRAME)
        )
        cheapest = np.where(by_both, both, np.where(by_token, token, frame))
        now = np.full_like(last, np.inf)
        now[1:] = slanted[diagonal, 1:] + cheapest
        before, last = last, now
    return steps
