"""A program of a call, and whether what it computes is right."""

import jax
import jax.numpy as jnp
import numpy as np

from crossattn import attend
from tests.support.calling import assert_judged
from tests.support.hidden import Seen, poisoned
from tests.support.trace_statistics import statistics, statistics_by_definition

STATISTICS = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def compiled(tried, implementation):
    """The program of a call."""
    return program(tried, implementation).lower(*given(tried, tried.arrays)).compile()


def program(tried, implementation):
    """Out, lse, gradients and statistics of what is `given`."""
    names = [n for n in ("q", "k", "v", "bias") if n in tried.arrays]

    def function(arrays, leaves, columns):
        def results(*values):
            given = dict(zip(names, values, strict=True)) | {"implementation": implementation}
            given |= {"scale": tried.call.scale, "softcap": tried.call.softcap}
            out, trace = attend(**given, mask=tried.mask(leaves))
            return (out, trace.lse), trace

        (out, lse), pull, trace = jax.vjp(results, *(arrays[n] for n in names), has_aux=True)
        gradients = pull((arrays["out"], arrays["lse"]))
        found = {"out": out, "lse": lse}
        found |= {f"d{n}": g for n, g in zip(names, gradients, strict=True)}
        return found, statistics(trace, columns)

    return jax.jit(function)


def given(tried, arrays, columns=None):
    """What the program takes."""
    dtypes = {name: "float32" if name == "lse" else tried.dtype for name in arrays}
    columns = all_columns(tried) if columns is None else columns
    device = {name: jnp.asarray(x, dtypes[name]) for name, x in arrays.items()}
    return device, jax.tree.map(jnp.asarray, tried.leaves), jnp.asarray(columns)


def all_columns(tried):
    shape = (tried.call.B, tried.call.S, 3)
    return np.random.default_rng(9).standard_normal(shape).astype(np.float32)


def check(tried, run_compiled):
    """Raise AssertionError where a value, gradient or statistic is not that of the definition,
    where what nobody sees is seen, or where a second call gives other numbers."""
    arrays, visible = tried.arrays, tried.visible
    seen = Seen(tried.call, visible, arrays)
    run = lambda *x: jax.tree.map(np.asarray, run_compiled(*given(tried, *x)))
    found, again = run(arrays), run(arrays)
    same(found, again, "from call to call")
    options = {"scale": tried.call.scale, "softcap": tried.call.softcap}
    results, shown = found
    assert_judged(results, arrays, visible, jnp.dtype(tried.dtype), **options)
    judge_statistics(tried, shown, arrays, visible, options)

    hidden = np.where(seen.keys.any(2, keepdims=True), all_columns(tried), np.nan)
    same(found, run(poisoned(arrays, seen, np.nan), hidden), "with NaN where nobody looks")
    for name, shows in {"dq": seen.queries, "dk": seen.keys, "dv": seen.keys}.items():
        assert not results[name][~shows].any(), f"{name} of what nobody sees is not 0"


def same(found, other, where):
    for part, others in zip(found, other, strict=True):
        for name, x in part.items():
            assert np.array_equal(x, others[name]), f"{name} is not the same {where}"


def judge_statistics(tried, found, arrays, visible, options):
    wanted = statistics_by_definition(arrays, visible, all_columns(tried), **options)
    near = STATISTICS[tried.dtype]
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, atol=near, rtol=near, err_msg=name)
    at = np.take_along_axis(wanted["rows"], found["index"][..., None], 3)[..., 0]
    np.testing.assert_allclose(at, wanted["weight"], atol=near, err_msg="index of the peak")
