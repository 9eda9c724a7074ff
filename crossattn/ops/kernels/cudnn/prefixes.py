"""All previous media: a query sees the first so many images, which is a few times equal ids.

The first 13 images are the first 8, the 4 after them, and the 1 after those: at each power of two
where a number has a bit, a query sees one block of that many images. So runs of queries match runs
of keys at every power, no two of them share a query or a key, and results over disjoint keys are
joined by lse. What is computed is what is visible.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.cudnn.layouts import Ids
from crossattn.ops.kernels.cudnn.packing import Packing, Runs, most_runs
from crossattn.shapes import Array

__all__ = ["prefix_packings"]


def prefix_packings(ids: Ids) -> tuple[list[Packing], Array]:
    """Sequences for each power of two, and whether they are all of the mask, booleans ().

    `ids` are numbers of images, of which a query sees all up to its own; keys of the same image
    stand side by side, and images in their order.
    """
    B, most = ids.key.shape[0], most_runs(ids.key.shape[1])
    images = Runs.of(ids.key, ids.keys, most)
    there = images.lengths > 0
    rising = (images.ids[:, 1:] > images.ids[:, :-1]) | ~there[:, 1:]
    fits = rising.all(1) & (images.total <= most)
    seen = there[:, None] & (images.ids[:, None] <= ids.query[:, :, None])
    count = seen.sum(2, dtype=jnp.int32)  # (B, T): how many images a query sees
    powers = range(most.bit_length())

    def at(power: int) -> Ids:
        block = (count >> power) - 1
        rows = ids.queries & ((count >> power) % 2 == 1)
        return Ids(block, images.number >> power, rows, ids.keys)

    # All powers at once: as many small operations as one takes.
    stacked = jax.tree.map(lambda *x: jnp.concatenate(x), *map(at, powers))
    packing = stacked.packing()
    each = jax.tree.map(lambda x: x.reshape(len(powers), B, *x.shape[1:]), packing)
    packings = [jax.tree.map(lambda x, n=n: x[n], each) for n in powers]
    return packings, fits.all() & packing.fits.all()
