"""Seeded inputs like those of tests/fixtures/measures, of any other seed."""

import numpy as np

T, S = 7, 9


def attention(random, *shape):
    """Maps of four heads, (4, ...), whose rows have a sum of 1, and gradients."""
    odds = np.exp(random.normal(size=(4, *shape)))
    return odds / odds.sum(axis=-1, keepdims=True), random.normal(size=(4, *shape))


def of_length_one(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def two_streams(seed):
    """Layers of LXMERT by the names of chefer_relevancy.npz."""
    random, found = np.random.default_rng(seed), {}
    for layer in range(2):
        for stream, size in (("tt", T), ("ii", S)):
            found[f"L_{stream}_{layer}"], found[f"Lg_{stream}_{layer}"] = attention(
                random, size, size
            )
        for way, sizes in (("ti", (T, S)), ("it", (S, T)), ("tt", (T, T)), ("ii", (S, S))):
            name = f"X{layer}_{way}"
            found[f"{name}_attn"], found[f"{name}_grad"] = attention(random, *sizes)
    return found


def representations(seed):
    """96 things: A and B are related, U is unrelated, all of length 1."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(96, 8))
    noisy = lambda width: common @ random.normal(size=(8, width)) + random.normal(size=(96, width))
    drawn = {"A": noisy(40), "B": noisy(24), "U": random.normal(size=(96, 24))}
    return {name: of_length_one(x) for name, x in drawn.items()}


def images_and_captions(seed):
    """60 images and three captions of each, of length 1."""
    random = np.random.default_rng(seed)
    image = random.normal(size=(60, 16))
    text = np.repeat(image, 3, axis=0) + random.normal(size=(180, 16)) - 0.4
    return of_length_one(image + 0.5), of_length_one(text)
