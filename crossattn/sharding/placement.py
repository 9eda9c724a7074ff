"""Create arrays where they belong, prove that they are there, and place batches."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crossattn.sharding.mesh import BATCH_AXES, axes_of
from crossattn.sharding.partitioning import format_rows, partition
from crossattn.sharding.rules import Rule

LOG = logging.getLogger(__name__)


def create(
    init: Callable[..., Any],
    mesh: Mesh,
    rules: str | Sequence[Rule],
    *args: Any,
    leading: str | None = None,
) -> Any:
    """What `init(*args)` returns, each device having made its own part and no other.

    The values do not depend on the mesh. What cannot be split as its rule says is logged as a
    warning.

    Args:
      init: a pure function, of a key for instance, that returns a tree of arrays.
      mesh: the mesh.
      rules: see `partition`.
      *args: arguments of `init`, arrays or trees of them.
      leading: see `partition`.

    Returns:
      The tree.

    Raises:
      ValueError: as `partition`.

    Example:
      >>> import jax.numpy as jnp
      >>> from crossattn.sharding import create, make_mesh
      >>> mesh = make_mesh("data=1", devices=jax.devices()[:1])
      >>> params = create(lambda: {"latents": jnp.ones((3, 5))}, mesh, "fsdp+tensor")
      >>> params["latents"].sharding.mesh == mesh
      True
    """
    plan = partition(jax.eval_shape(init, *args), mesh, rules, leading=leading)
    for note in plan.notes:
        LOG.warning(note)
    return jax.jit(init, out_shardings=plan.shardings)(*args)


def assert_placed(
    tree: Any, mesh: Mesh, rules: str | Sequence[Rule], *, leading: str | None = None
) -> None:
    """Compare where every array is with where the rules put it.

    Args:
      tree: arrays.
      mesh: the mesh.
      rules: see `partition`.
      leading: see `partition`.

    Raises:
      AssertionError: with a table of path, shape, both shardings of what is elsewhere (arrays of
        NumPy are on no device); or when a mesh axis with several devices, which a rule names,
        splits no array: its devices would all hold and do the same.
      ValueError: as `partition`, where the rules do not fit the mesh or the tree.

    Example:
      >>> import numpy as np
      >>> from crossattn.sharding import assert_placed, make_mesh
      >>> mesh = make_mesh("data=1", devices=jax.devices()[:1])
      >>> assert_placed({"bias": np.ones(3)}, mesh, "replicated")
      Traceback (most recent call last):
      AssertionError: 1 of 1 arrays is not where its rule puts it:
      path  shape  expected           actual
      bias  (3,)   P() on one device  numpy on no device
    """
    plan = partition(tree, mesh, rules, leading=leading)
    rows = []
    for leaf, array in zip(plan.leaves, jax.tree.leaves(tree), strict=True):
        wanted = NamedSharding(mesh, leaf.spec)
        if not _is_at(array, wanted):
            rows.append((leaf.path, str(leaf.shape), _said(wanted), _where(array)))
    if rows:
        verb = "is not where its rule puts it" if len(rows) == 1 else "are not where rules put them"
        shown = format_rows([("path", "shape", "expected", "actual"), *rows])
        raise AssertionError(f"{len(rows)} of {len(plan.leaves)} arrays {verb}:\n{shown}")
    if plan.idle:
        axes = " and ".join(f"{axis}={mesh.shape[axis]}" for axis in plan.idle)
        lines = (
            f"no array is split over {axes} of the mesh {axes_of(mesh)}: its devices all hold the "
            "same; take rules that split over it, or make the axis 1",
            *plan.notes,
        )
        raise AssertionError("\n".join(lines))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over data and fsdp, those of them that the mesh has.

    Example:
      >>> from crossattn.sharding import make_mesh
      >>> batch_sharding(make_mesh("data=1", devices=jax.devices()[:1])).spec[0]
      ('data', 'fsdp')
    """
    return NamedSharding(mesh, PartitionSpec(tuple(a for a in BATCH_AXES if a in mesh.shape)))


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """One global batch from the rows that each process has read.

    Args:
      batch: tree of arrays of this process, each with its own number of rows (axis 0); processes
        that feed the same part of the mesh must pass the same rows.
      mesh: the mesh.

    Returns:
      The tree with global arrays, rows split over data and fsdp (see `batch_sharding`), those of
      the processes in the order in which these stand in the mesh.

    Raises:
      ValueError: for an array without rows, or rows that do not divide evenly.

    Example:
      >>> import numpy as np
      >>> from crossattn.sharding import make_mesh, place_batch
      >>> mesh = make_mesh("data=-1")
      >>> tokens = np.ones((2 * len(jax.devices()), 3), np.int32)
      >>> place_batch({"tokens": tokens}, mesh)["tokens"].sharding.shard_shape(tokens.shape)
      (2, 3)
    """
    sharding = batch_sharding(mesh)
    parts = _local_parts(mesh)
    flat, treedef = jax.tree_util.tree_flatten_with_path(batch)
    placed = []
    for keys, leaf in flat:
        shape = np.shape(leaf)
        if not shape or shape[0] % parts:
            path = jax.tree_util.keystr(keys, simple=True, separator="/")
            raise ValueError(
                f"{path} {tuple(shape)}: its rows do not divide over the {parts} parts of "
                f"{axes_of(mesh)} that this process feeds; use a multiple of {parts} rows"
            )
        placed.append(jax.make_array_from_process_local_data(sharding, leaf))
    return jax.tree.unflatten(treedef, placed)


def _local_parts(mesh: Mesh) -> int:
    """Into how many parts the rows of this process are split."""
    here = np.vectorize(lambda device: device.process_index == jax.process_index())(mesh.devices)
    others = tuple(i for i, axis in enumerate(mesh.axis_names) if axis not in BATCH_AXES)
    return int(here.any(axis=others).sum())


def _is_at(array: Any, wanted: NamedSharding) -> bool:
    return isinstance(array, jax.Array) and array.sharding.is_equivalent_to(wanted, array.ndim)


def _where(array: Any) -> str:
    if isinstance(array, jax.Array):
        return _said(array.sharding)
    return f"{type(array).__module__} on no device"


def _said(sharding: Any) -> str:
    if isinstance(sharding, NamedSharding):
        return f"P{tuple(sharding.spec)} on {axes_of(sharding.mesh)}"
    devices = sorted(map(str, sharding.device_set))
    return f"whole on {devices[0]}" if len(devices) == 1 else str(sharding)
