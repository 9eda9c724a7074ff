"""Meshes, rules from parameters to mesh axes, placement that is proved, attention over an axis."""

from crossattn import renamed
from crossattn.sharding.attention import attend_sharded, explain_sharded
from crossattn.sharding.context_parallel import ContextParallel
from crossattn.sharding.mesh import AXES, BATCH_AXES, axes_of, default_axes, make_mesh
from crossattn.sharding.partitioning import Leaf, Partition, partition
from crossattn.sharding.placement import assert_placed, batch_sharding, create, place_batch
from crossattn.sharding.rules import PRESETS, Rule, preset

__all__ = [
    "AXES",
    "BATCH_AXES",
    "PRESETS",
    "ContextParallel",
    "Leaf",
    "Partition",
    "Rule",
    "assert_placed",
    "attend_sharded",
    "axes_of",
    "batch_sharding",
    "create",
    "default_axes",
    "explain_sharded",
    "make_mesh",
    "partition",
    "place_batch",
    "preset",
]

__getattr__ = renamed.former_names(__name__, Layout="ContextParallel")
