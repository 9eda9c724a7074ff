"""Compiles attention and its gradient for TPUs that are not here, and says what the programs hold.

Run by test_ahead_of_time.py in a process of its own: the compiler ends it when it fails. Standard
input: a JSON list of [topology, [B, T, S, H, K, D], dtype, implementation or null, sharded];
sharded: the queries over all chips within `jax.shard_map`. Standard output: a JSON list of what is
found, one dictionary for each.
"""

import json
import re
import sys

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from crossattn import attention


def compiled(topology, sizes, dtype, implementation, sharded):
    B, T, S, H, K, D = sizes
    devices = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    devices = np.array(devices if sharded else devices[:1])
    mesh = Mesh(devices, ("x",), axis_types=(AxisType.Auto,))
    split, same = PartitionSpec(None, "x"), PartitionSpec()
    query, key = (
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for shape, spec in (((B, T, H, D), split), ((B, S, K, D), same))
    )

    def both(q, k, v, cotangent):
        out, pull = jax.vjp(lambda *x: attention(*x, implementation=implementation), q, k, v)
        return out, *pull(cotangent)

    if sharded:
        specs = (split, same, same, split), (split, split, same, same)
        both = jax.shard_map(both, mesh=mesh, in_specs=specs[0], out_specs=specs[1])
    return jax.jit(both).lower(query, key, key, query).compile()


def found(topology, sizes, *rest):
    B, T, S, H, K, _ = sizes
    program = compiled(topology, sizes, *rest)
    text = program.as_text()
    return {
        "kernels": sorted(set(re.findall(r"splash_mha_[a-z]+|resident_kv_(?:for|back)ward", text))),
        "scores": sorted(set(re.findall(rf"\w+\[(?:\d+,)*(?:{T}|{T * H // K}),{S}\]", text))),
        "temporary": program.memory_analysis().temp_size_in_bytes,
        "dense": 2 * B * H * T * S,  # bytes of the scores in bfloat16
    }


if __name__ == "__main__":
    print(json.dumps([found(*case) for case in json.load(sys.stdin)]))
