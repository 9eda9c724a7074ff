"""Programs of all cases, compiled in threads before anything is timed."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import jax
import jax.numpy as jnp

from ..benchmarks.attention import OURS, with_gradients
from ..timing import UnavailableError, reason_of
from .cases import DeviceCase
from .contestants import (
    Contestant,
    chosen_kernel,
    contestant_of,
    definition,
    shapes_of,
    visible_keys,
)

# A run of several calls should take so long on an accelerator at its best, in seconds.
RUN = 3e-3
MOST_CALLS = 64
NOMINAL = {"cpu": (5e10, 1e10), "gpu": (5e14, 3e12), "tpu": (4e14, 1.5e12)}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One contestant of one case.

    Attributes:
      call: the program of one call.
      loop: the program of `calls` calls, each of which waits for the one before.
      calls: how many.
      contestant: whose.
      temporary_bytes: of one call, as the compiler states them.
      chosen: the implementation behind it, if it has a choice.
    """

    call: Any
    loop: Any
    calls: int
    contestant: Contestant
    temporary_bytes: int | None = None
    chosen: str | None = None


def work_of(case: DeviceCase) -> tuple[float, float]:
    """(floating-point operations of the products, bytes of inputs and outputs) of one call.

    Of the keys that are visible. A backward pass has five products beside the two of the forward
    pass; it reads inputs, output and its cotangent, and writes a gradient for each input.
    """
    B, T, _, H, D = case.shape.sizes
    S = visible_keys(case)
    item = jnp.dtype(case.dtype).itemsize
    rows, keys = B * T * H * D * item, 2 * B * S * case.shape.key_heads * D * item
    products, moved = 4.0 * B * T * S * H * D, 2.0 * rows + keys
    if case.direction == "backward":
        return 3.5 * products, moved + 4.0 * rows + 2.0 * keys
    return products, moved


def calls_in_a_run(case: DeviceCase) -> int:
    """So many that a run is not timed in a blink."""
    best = max(w / rate for w, rate in zip(work_of(case), NOMINAL[case.device], strict=True))
    return max(2, min(MOST_CALLS, round(RUN / best)))


def timed_function(case: DeviceCase, contestant: Contestant) -> Callable[..., list[Any]]:
    """(q, k, v[, cotangent], *leaves) -> [out] or [out, dq, dk, dv]."""
    inputs = 3 + (case.direction == "backward")

    def call(*arguments: Any) -> list[Any]:
        arrays, leaves = arguments[:inputs], arguments[inputs:]
        attend = lambda q, k, v: contestant.function(q, k, v, *leaves)
        function = with_gradients(attend) if case.direction == "backward" else attend
        return jax.tree.leaves(function(*arrays))

    return call


def in_one_program(function: Callable[..., list[Any]], calls: int) -> Callable[..., Any]:
    """`calls` calls in a loop; the queries of each depend on all results of the one before.

    One number of q is written anew each time. The barrier keeps what a call makes of k and v alone
    (padding, casts) inside of the loop, and results that nobody reads from being left out.

    >>> add = lambda q, k: [q + k]
    >>> q, k = jnp.ones((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1))
    >>> in_one_program(add, 3)(q, k).tolist()
    [[[[1.0]]]]
    """

    def run(*arguments: Any) -> Any:
        def body(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
            given, results = jax.lax.optimization_barrier((given, function(*given)))
            ends = [x[(0,) * x.ndim].astype(jnp.float32) for x in results]
            q, *rest = given
            first = q[(slice(1),) * q.ndim] + (0 * sum(ends)).astype(q.dtype)
            return jax.lax.dynamic_update_slice(q, first, (0,) * q.ndim), *rest

        return jax.lax.fori_loop(0, calls, body, arguments)[0]

    return run


def compile_contestant(case: DeviceCase, name: str) -> Compiled:
    """Both programs of a contestant; nothing is run.

    Raises:
      UnavailableError: it cannot take part, or does what `OURS` does without being told.
    """
    chosen = chosen_kernel(case) if name == OURS else None
    if name.startswith(f"{OURS}[") and chosen_kernel(case).startswith(name[len(OURS) + 1 : -1]):
        raise UnavailableError(f"what {OURS} takes without being told")
    contestant, calls = contestant_of(case, name), calls_in_a_run(case)
    function, arguments = timed_function(case, contestant), abstract(case, contestant)
    # Other libraries mix dtypes, whatever this process has been told of promotion.
    with jax.numpy_dtype_promotion("standard"):
        lowered = jax.jit(function).lower(*arguments)
        repeated = jax.jit(in_one_program(function, calls)).lower(*arguments)
    call, loop = lowered.compile(), repeated.compile()
    temporary = getattr(call.memory_analysis(), "temp_size_in_bytes", None)
    return Compiled(call, loop, calls, contestant, temporary, chosen)


def abstract(case: DeviceCase, contestant: Contestant) -> list[jax.ShapeDtypeStruct]:
    """Shapes of a contestant's arguments."""
    shapes = shapes_of(case, contestant.keys)
    own = [jax.ShapeDtypeStruct(shape, case.dtype) for shape in shapes]
    return own + [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in contestant.leaves]


@dataclasses.dataclass(frozen=True)
class Around:
    """What a case needs beside its contestants: its inputs, the truth, and the error of a result.

    Attributes:
      make: () -> [q, k, v] and the cotangent.
      truth: (arrays and leaves) -> results in float32.
      error: (results, truth) -> the worst, relative to the largest entry of the truth.
      leaves: of the definition.
    """

    make: Any
    truth: Any
    error: Any
    leaves: tuple[Any, ...]


def compile_around(case: DeviceCase) -> Around:
    """Compile these three programs."""
    exact = definition(case)
    arguments = abstract(case, exact)

    def make() -> list[Any]:
        keys = jax.random.split(jax.random.key(case.seed), 4)
        return [
            jax.random.normal(key, shape, jnp.float32).astype(case.dtype)
            for key, shape in zip(keys, shapes_of(case), strict=False)
        ]

    def truth(*arguments: Any) -> list[Any]:
        arrays = [x.astype(jnp.float32) for x in arguments[: len(shapes_of(case))]]
        with jax.default_matmul_precision("highest"):
            return timed_function(case, exact)(*arrays, *arguments[len(arrays) :])

    result = jax.eval_shape(truth, *arguments)
    found = [jax.ShapeDtypeStruct(x.shape, case.dtype) for x in result]
    compiled = lambda function, *given: jax.jit(function).lower(*given).compile()
    error = compiled(worst_error, found, result)
    return Around(compiled(make), compiled(truth, *arguments), error, exact.leaves)


def worst_error(found: Sequence[Any], truth: Sequence[Any]) -> Any:
    """Of any result; NaN where one is not finite.

    >>> float(worst_error([jnp.ones(2)], [jnp.array([1.0, 2.0])]))
    0.5
    """
    each = [
        jnp.max(jnp.abs(x.astype(jnp.float32) - y.astype(jnp.float32))) / jnp.max(jnp.abs(y))
        for x, y in zip(found, truth, strict=True)
    ]
    return jnp.max(jnp.stack([error.astype(jnp.float32) for error in each]))


Job = tuple[int, str]
AROUND = "inputs"


def compile_jobs(
    cases: Sequence[DeviceCase],
    jobs: Sequence[Job],
    *,
    threads: int,
    until: float,
    announce: Callable[..., None],
) -> dict[Job, Any]:
    """What became of each job, a `Compiled`, an `Around` or the reason why there is none.

    Args:
      cases: what is measured.
      jobs: (number of a case, contestant or `AROUND`), the most important first.
      threads: that compile.
      until: by `time.monotonic`, when those that have not begun are given up.
      announce: called with compiling=job and compiled=job.
    """

    def one(job: Job) -> Any:
        announce(compiling=job)
        index, name = job
        try:
            make = compile_around if name == AROUND else functools.partial(_named, name)
            return make(cases[index])
        except Exception as error:
            return reason_of(error)
        finally:
            announce(compiled=job)

    pool = ThreadPoolExecutor(threads)
    futures: dict[Job, Future] = {job: pool.submit(one, job) for job in jobs}
    wait(futures.values(), timeout=max(0.0, until - time.monotonic()))
    pool.shutdown(wait=False, cancel_futures=True)
    # Those that have begun would disturb what is timed.
    wait([future for future in futures.values() if not future.cancelled()])
    late = "not compiled in time"
    return {job: late if f.cancelled() else f.result() for job, f in futures.items()}


def _named(name: str, case: DeviceCase) -> Compiled:
    return compile_contestant(case, name)


def all_jobs(
    cases: Sequence[DeviceCase], todo: Sequence[int], excluded: Container[Job]
) -> Iterator[Job]:
    """Every contestant of the cases `todo` that JAX compiles, case by case."""
    for index in todo:
        names = [n for n in cases[index].contestants if not n.startswith("torch")]
        yield from ((index, n) for n in (AROUND, *names) if (index, n) not in excluded)
