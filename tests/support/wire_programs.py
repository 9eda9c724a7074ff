"""Compiles attention over 8 TPUs that are not here, and says what the programs send.

Run by test_wire_bytes.py in a process of its own: the compiler ends it when it fails. Standard
input: a JSON list of [T, S, H, K, data, strategy or null, what], `what` one of "forward", "both"
(with the gradient) and "summary"; `data` devices share the examples, 8 / data the tokens.
Standard output: a JSON list of what is found, one dictionary for each.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from crossattn.sharding.attention import attend_sharded
from crossattn.sharding.context_parallel import ContextParallel
from crossattn.sharding.wire import COUNTABLE, wire_bytes


def program(T, S, H, K, data, strategy, what):
    devices = topologies.get_topology_desc(topology_name="v5e:2x4", platform="tpu").devices
    shape = (data, 8 // data)
    mesh = Mesh(np.array(devices).reshape(shape), ("data", "context"), (AxisType.Auto,) * 2)
    layout = ContextParallel(mesh, batch=("data",))
    place = NamedSharding(mesh, PartitionSpec("data", "context"))
    q, k = (
        jax.ShapeDtypeStruct((data, n, heads, 128), jnp.bfloat16, sharding=place)
        for n, heads in ((T, H), (S, K))
    )

    def forward(*qkv):
        return attend_sharded(*qkv, layout=layout, strategy=strategy)[0]

    def both(*call):
        out, pull = jax.vjp(forward, *call[:3])
        return out, *pull(call[3])

    def summary(*qkv):
        """What the statistics send beside the attention."""
        return attend_sharded(*qkv, layout=layout, strategy=strategy)[1].summary()

    call, given = {
        "forward": (forward, (q, k, k)),
        "both": (both, (q, k, k, q)),
        "summary": (summary, (q, k, k)),
    }[what]
    return jax.jit(call).lower(*given).compile(compiler_options=COUNTABLE).as_text()


def found(*case):
    text = program(*case)
    return {"wire": wire_bytes(text), "kernel": "splash_mha" in text}


if __name__ == "__main__":
    print(json.dumps([found(*case) for case in json.load(sys.stdin)]))
