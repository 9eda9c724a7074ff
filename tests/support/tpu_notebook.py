"""Compiles what a notebook trains with, for one TPU chip that is not here.

Run by tests/notebooks/test_ahead_of_time.py in a process of its own. Standard input: a JSON list of
[topology, seeds, steps of a program]; standard output: a JSON list of bytes and seconds.
"""

import json
import sys
import time

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from crossattn.lab.suites import find
from crossattn.plan.chips import topology
from crossattn.train.chunks import Chunking, OnDevice
from crossattn.train.loop import TrainPrograms
from crossattn.train.parallel import Parallelism
from crossattn.train.run import replace
from crossattn.train.source import batches_of, load_dataset

FEW = 100


def found(name, seeds, steps):
    """Of the program that trains the first variant of the notebook on an accelerator."""
    run = find("fusion").base
    source = load_dataset(replace(run, {"data.images": FEW, "data.evaluation_images": FEW}))
    batches = batches_of(run, source.train, 0)
    here = Parallelism(chunking=Chunking(steps, seeds))
    programs = TrainPrograms(run, len(source.vocabulary), here)
    state = jax.eval_shape(programs.create, 0, batches.batch(0))
    # All rows have the same shapes: as many of them as the run has.
    whole = lambda x: (x.shape[0] * run.data.images // FEW, *x.shape[1:])
    slice_ = topology(name)
    there = topologies.get_topology_desc(slice_.name, "tpu", chips_per_host_bounds=slice_.host)
    mesh = Mesh(np.array(there.devices[:1]), ("x",), axis_types=(AxisType.Auto,))
    place = NamedSharding(mesh, PartitionSpec())
    placed = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=place)
    placed_rows = lambda x: None if x is None else placed(whole(x), x.dtype)
    arguments = (
        jax.tree.map(lambda x: placed((seeds, *x.shape), x.dtype), state),
        OnDevice(*(placed_rows(getattr(source.train, part)) for part in OnDevice._fields)),
        jax.tree.map(lambda x: placed((steps, seeds, *x.shape), x.dtype), batches.picked(0)),
        placed((seeds,), "float32"),
        placed((seeds,), "int32"),
    )
    begun = time.perf_counter()
    program = programs.chunks.program.lower(*arguments).compile()
    memory = program.memory_analysis()
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "bytes": memory.temp_size_in_bytes + memory.argument_size_in_bytes,
    }


if __name__ == "__main__":
    print(json.dumps([found(*case) for case in json.load(sys.stdin)]))
