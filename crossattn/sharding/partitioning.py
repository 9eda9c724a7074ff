"""Apply rules to a tree: where every array belongs, and what that costs."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crossattn.sharding.mesh import axes_of, suggest_name
from crossattn.sharding.rules import Rule, entry_axes, preset


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of a tree and where it belongs.

    Attributes:
      path: its path, joined by "/".
      shape: of the whole array.
      spec: how it is split.
      bytes: what one device holds of it.
    """

    path: str
    shape: tuple[int, ...]
    spec: PartitionSpec
    bytes: int


@dataclasses.dataclass(frozen=True)
class Partition:
    """Where every array of a tree belongs; `str` of it is a table with bytes by device.

    Attributes:
      mesh: the mesh.
      leaves: in the order of the tree.
      notes: what could not be split as its rule says because it does not divide evenly.
      idle: mesh axes that were to split something and split nothing.
      treedef: structure of the tree.
    """

    mesh: Mesh
    leaves: tuple[Leaf, ...]
    notes: tuple[str, ...]
    idle: tuple[str, ...]
    treedef: Any

    @property
    def specs(self) -> Any:
        """The tree with a `PartitionSpec` for each array."""
        return self.treedef.unflatten([leaf.spec for leaf in self.leaves])

    @property
    def shardings(self) -> Any:
        """The tree with a `NamedSharding` for each array."""
        return self.treedef.unflatten([NamedSharding(self.mesh, leaf.spec) for leaf in self.leaves])

    def __str__(self) -> str:
        rows = [("path", "shape", "split", "bytes a device")]
        for leaf in self.leaves:
            rows.append((leaf.path, str(leaf.shape), f"P{tuple(leaf.spec)}", f"{leaf.bytes:,}"))
        total = sum(leaf.bytes for leaf in self.leaves)
        rows.append((f"all on {axes_of(self.mesh)}", "", "", f"{total:,}"))
        return "\n".join((format_rows(rows), *self.notes))


def partition(
    tree: Any, mesh: Mesh, rules: str | Sequence[Rule], *, leading: str | None = None
) -> Partition:
    """Apply rules to a tree; of several that match a path, the first decides.

    Args:
      tree: parameters, or a state with the optimizer's trees of parameters in it: arrays, or their
        shapes from `jax.eval_shape`. Scalars are replicated and need no rule.
      mesh: the mesh.
      rules: rules in order, or the name of one of `crossattn.sharding.PRESETS`.
      leading: mesh axis of a further first axis that every array has, scalars too: the seeds of
        states made with `jax.vmap`.

    Returns:
      The partition. An axis that does not divide evenly stays whole, and `notes` says so.

    Raises:
      ValueError: for an array that no rule matches, a rule with more axes than its array, a mesh
        axis that the mesh does not have, or a rule that decides nothing and is not optional.

    Example:
      >>> from crossattn.sharding import Rule, make_mesh
      >>> mesh = make_mesh("data=1", devices=jax.devices()[:1])
      >>> tree = {"query": {"kernel": jax.ShapeDtypeStruct((3, 5), "float32")}}
      >>> partition(tree, mesh, [Rule("kernel$", (None, "tensor"))]).leaves[0].bytes
      60
    """
    rules = preset(rules) if isinstance(rules, str) else tuple(rules)
    if leading is not None:
        _check_axes("leading", (leading,), "partition", mesh)
    leaves: list[Leaf] = []
    missed: dict[str, list[str]] = {}
    used: set[Rule] = set()
    flat, treedef = jax.tree_util.tree_flatten_with_path(tree)
    for keys, leaf in flat:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        shape = tuple(np.shape(leaf))
        rule = _deciding(path, shape[leading is not None :], rules)
        if rule is not None:
            used.add(rule)
            _check_axes(path, rule.axes, str(rule), mesh)
        spec, left = _split(shape, rule, mesh, leading)
        for reason in left:
            missed.setdefault(f"{rule} on {shape}: {reason}", []).append(path)
        local = NamedSharding(mesh, spec).shard_shape(shape)
        leaves.append(Leaf(path, shape, spec, math.prod(local) * _itemsize(leaf)))
    _check_used(rules, used, [leaf.path for leaf in leaves])
    notes = tuple(f"{note} ({_several(paths)})" for note, paths in missed.items())
    return Partition(mesh, tuple(leaves), notes, _idle(leaves, rules, mesh, leading), treedef)


def format_rows(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of words in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = lambda row: (word.ljust(width) for word, width in zip(row, widths, strict=True))
    return "\n".join("  ".join(pad(row)).rstrip() for row in rows)


def _itemsize(leaf: Any) -> int:
    return (leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype).itemsize


def _several(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _deciding(path: str, shape: tuple[int, ...], rules: Sequence[Rule]) -> Rule | None:
    """The first rule that matches, or None for a scalar."""
    if not shape:
        return None
    rule = next((rule for rule in rules if re.search(rule.pattern, path)), None)
    end = path.rsplit("/", 1)[-1]
    if rule is None:
        spec = ", ".join(["None"] * len(shape))
        raise ValueError(
            f"{path} {shape}: no rule matches; add Rule(r'{end}$', ({spec},)) to replicate it"
        )
    if len(rule.spec) > len(shape):
        raise ValueError(
            f"{path} {shape}: {rule} is for arrays with {len(rule.spec)} axes or more; put a rule "
            f"for {path!r} before it"
        )
    return rule


def _check_axes(path: str, axes: Sequence[str], who: str, mesh: Mesh) -> None:
    for axis in axes:
        if axis not in mesh.shape:
            raise ValueError(
                f"{path}: {who} names mesh axis {axis!r}, which the mesh "
                f"({', '.join(mesh.shape)}) does not have; {suggest_name(axis, mesh.shape)}"
            )


def _check_used(rules: Sequence[Rule], used: set[Rule], paths: Sequence[str]) -> None:
    for rule in rules:
        if rule in used or rule.optional:
            continue
        matched = [path for path in paths if re.search(rule.pattern, path)]
        if matched:
            raise ValueError(
                f"{rule} decides nothing: a rule before it decides {_several(matched)}"
            )
        raise ValueError(
            f"{rule} matches no path, the last of which is {max(paths, default='none')!r}; correct "
            "it, or write optional=True"
        )


def _split(
    shape: tuple[int, ...], rule: Rule | None, mesh: Mesh, leading: str | None
) -> tuple[PartitionSpec, list[str]]:
    """How an array is split, and what does not divide evenly."""
    spec = rule.spec if rule else ()
    front = () if leading is None else (leading,)
    wanted = [*front, *[None] * (len(shape) - len(front) - len(spec)), *spec]
    entries, left = [], []
    for size, entry in zip(shape, wanted, strict=True):
        # Axes of one device split nothing.
        split = tuple(axis for axis in entry_axes(entry) if mesh.shape[axis] > 1)
        if size % math.prod(mesh.shape[axis] for axis in split):
            said = " x ".join(f"{axis}={mesh.shape[axis]}" for axis in split)
            left.append(f"{size} does not divide by {said}, left whole")
            split = ()
        entries.append(split if len(split) > 1 else next(iter(split), None))
    if rule and rule.spread and (shards := mesh.shape[rule.spread]) > 1:
        own = range(len(shape) - len(spec), len(shape))
        fits = [axis for axis in own if entries[axis] is None and shape[axis] % shards == 0]
        if fits:
            entries[max(fits, key=lambda axis: shape[axis])] = rule.spread
        else:
            left.append(f"no whole axis divides by {rule.spread}={shards}, left whole")
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries), left


def _idle(
    leaves: Sequence[Leaf], rules: Sequence[Rule], mesh: Mesh, leading: str | None
) -> tuple[str, ...]:
    """Axes with several devices that were to split something and split nothing.

    Batches use data, fsdp and context, and runs use seed, whatever the rules say; an axis tensor
    that no rule names makes all its devices do the same work.
    """
    asked = {"tensor", leading, *(axis for rule in rules for axis in rule.axes)}
    splitting = {axis for leaf in leaves for entry in leaf.spec for axis in entry_axes(entry)}
    return tuple(a for a, size in mesh.shape.items() if size > 1 and a in asked - splitting)
