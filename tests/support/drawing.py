"""Random tensors under the names of published classes."""

import ml_dtypes
import numpy as np

from crossattn.interop.names import LAYOUTS
from crossattn.interop.table import NUMBER, parsed

SIZES = (5, 7, 11, 13, 17, 19, 23, 29)
DTYPES = (np.float32, np.float16, ml_dtypes.bfloat16)


def drawn(name, k=0):
    """Random tensors of all dtypes; letters have sizes of their own, and there are two layers."""
    rng, sizes, found = np.random.default_rng(0), {}, {}
    for place, entry in enumerate(LAYOUTS[name][k].entries):
        letters = [(factor, letter) for factor, letter in map(parsed, entry.shape.split())]
        for _, letter in letters:
            sizes.setdefault(letter, SIZES[len(sizes) % len(SIZES)] if letter else 1)
        shape = [factor * sizes[letter] for factor, letter in letters]
        match = NUMBER.search(entry.theirs)
        first = int(match[1] or 0) if match else 0
        for number in (first, first + 1) if match else (0,):
            tensor = rng.standard_normal(shape).astype(DTYPES[place % len(DTYPES)])
            found[NUMBER.sub(str(number), entry.theirs)] = tensor
    return found


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert tensor.shape == other[name].shape, name
        assert tensor.tobytes() == other[name].tobytes(), name
