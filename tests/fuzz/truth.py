"""What calls have to return, in NumPy and float64, as short as it can be said."""

from typing import Any

import numpy as np


def _float(x: Any) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def _logits(q, k, *, mask=None, bias=None, scale=None, softcap=None) -> np.ndarray:
    """Scores (B, H, T, S), -inf where a key is hidden."""
    q, k = _float(q), _float(k)
    if q.ndim != 4 or k.ndim != 4:
        raise ValueError("an array without four axes")
    if scale is None:
        scale = q.shape[-1] ** -0.5
    k = np.repeat(k, q.shape[2] // k.shape[2], axis=2) if q.shape[2] else k
    scores = np.einsum("bthd,bshd->bhts", q, k) * float(scale)
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    if bias is not None:
        scores = scores + _float(bias)
    if mask is not None:
        scores = np.where(np.broadcast_to(np.asarray(mask), scores.shape), scores, -np.inf)
    return scores


def _weights(q, k, *, sinks=None, **options) -> tuple[np.ndarray, np.ndarray]:
    """Weights (B, H, T, S) and the logarithm of what they are normalised by (B, H, T)."""
    scores = _logits(q, k, **options)
    if sinks is not None:
        sink = np.broadcast_to(_float(sinks)[None, :, None, None], (*scores.shape[:3], 1))
        scores = np.concatenate([scores, sink], -1)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    shares = np.exp(scores - top)
    total = shares.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (np.log(total) + top)[..., 0]
    weights = shares / np.where(total > 0, total, 1)
    return weights[..., :-1] if sinks is not None else weights, lse


def attend(q, k, v, **options) -> tuple[np.ndarray, np.ndarray]:
    """(out, lse) of `crossattn.attend`."""
    weights, lse = _weights(q, k, **options)
    v = _float(v)
    if v.ndim != 4:
        raise ValueError("values without four axes")
    v = np.repeat(v, weights.shape[1] // v.shape[2], axis=2) if weights.shape[1] else v
    return np.einsum("bhts,bshv->bthv", weights, v), lse


def statistics(q, k, v, **options) -> tuple[np.ndarray, ...]:
    """(weights, entropy, peak) of its trace."""
    weights, _ = _weights(q, k, **options)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(weights > 0, weights * np.log(weights), 0).sum(-1)
    return weights, entropy, weights.max(-1, initial=0)


def mask(name: str, arguments: list[Any], B: int, T: int, S: int) -> np.ndarray:
    """(B, 1, T, S) of a mask by name."""
    i, j = np.arange(T)[None, :, None], np.arange(S)[None, None, :]
    numbers = [None if x is None else np.asarray(x) for x in arguments]
    each = lambda x: x.reshape(-1, 1, 1) if x.ndim else x
    if name == "lengths":
        query, key = numbers
        seen = np.ones((B, T, S), bool)
        seen &= True if query is None else i < each(query)
        seen &= True if key is None else j < each(key)
    elif name == "segments":
        seen = numbers[0][:, :, None] == numbers[1][:, None, :]
    elif name == "media":
        query, key = numbers[0][:, :, None], numbers[1][:, None, :]
        seen = (key > 0) & (key == query if bool(arguments[2]) else key <= query)
    elif name == "causal":
        seen = i + each(numbers[0]) >= j
    elif name == "window":
        left, right, offset = numbers
        seen = np.ones((B, T, S), bool)
        seen &= True if left is None else i + each(offset) - each(left) <= j
        seen &= True if right is None else j <= i + each(offset) + each(right)
    else:
        seen = numbers[0][:, None, :] if name == "keys" else numbers[0][:, 0]
    return np.broadcast_to(seen, (B, T, S))[:, None]


def counted(rows: list[list[int]], length: int, end: int | None) -> np.ndarray:
    """What is written behind prompts by who counts on, up to 6, and then starts with 0."""
    texts = []
    for row in rows:
        text, open_ = list(row), True
        for _ in range(length):
            word = text[-1] + 1 if text[-1] < 6 else 0
            text.append(word if open_ else 0)
            open_ = open_ and word != end
        texts.append(text)
    return np.array(texts)


def _pointing(weights, region):
    return [
        np.nan if not inside.any() else float(inside[row.argmax()] and row.max() > 0)
        for row, inside in zip(weights, region, strict=True)
    ]


MEASURES = {
    "pointing": lambda weights, region: np.array(_pointing(weights, region)),
    "pointing_chance": lambda region: np.array([x.mean() if x.any() else np.nan for x in region]),
    "mass_in_region": lambda weights, region: np.array(
        [w @ r if r.any() else np.nan for w, r in zip(weights, region, strict=True)]
    ),
    "slot_accuracy": lambda said, words, slots: np.array(
        [(a == b)[s].mean() if s.any() else 0.0 for a, b, s in zip(said, words, slots, strict=True)]
    ),
    "exact_match": lambda said, words, slots: np.array(
        [float((a == b)[s].all()) for a, b, s in zip(said, words, slots, strict=True)]
    ),
    "swap_scores": lambda score: {
        "group": np.array([float(_text(x) and _image(x)) for x in score]),
        "image": np.array([float(_image(x)) for x in score]),
        "text": np.array([float(_text(x)) for x in score]),
    },
}


def _text(score):
    return score[0, 0] > score[1, 0] and score[1, 1] > score[0, 1]


def _image(score):
    return score[0, 0] > score[0, 1] and score[1, 1] > score[1, 0]
