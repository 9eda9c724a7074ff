"""Calls of the library, and what they have to return by NumPy in float64."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn import Mask, align, attend, attention, explain, merge_partials
from crossattn import sharding as over
from crossattn.models.generate import Beam, Greedy, Sample, generate
from crossattn.nn import Block, CrossAttention, presets
from tests.fuzz import truth

# B, T, S, H, K, D, V: few, so that few programs are compiled.
SIZES = [
    *((2, 3, 5, 2, 1, 4, 4), (1, 1, 1, 1, 1, 1, 1), (2, 1, 7, 2, 2, 3, 5)),
    *((0, 3, 5, 2, 1, 4, 4), (2, 0, 5, 2, 2, 3, 3), (2, 3, 0, 2, 1, 4, 4), (2, 3, 5, 2, 1, 4, 0)),
    *((2, 3, 5, 0, 0, 4, 4), (2, 3, 5, 2, 1, 0, 4)),
]
DTYPES = ["float32", "float32", "float32", "bfloat16", "float16"]
TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}
NAN, INF = float("nan"), float("inf")
SCALARS: list[Any] = [0, 1, -1, 0.5, NAN, INF, -INF, None, "1.0", True, 10**30, 1j, [1.0], {}, ()]
NOTHING: list[Any] = [
    None,
    "x",
    3,
    1.5,
    [],
    {},
    [[1.0]],
    object(),
    NAN,
    b"",
    np.zeros(()),
    slice(1),
]
MESHES = ["data=1", "data=-1", "", "dta=1", "data=0", "data=1,data=1", "data=x", "=", ",", "data"]
MESHES += ["data=-1,fsdp=-1", "data=99999999999999999999", "data=1e0", "data=\u00b2", "data=--1"]


@dataclasses.dataclass
class Call:
    """One call.

    Attributes:
      area: of the library.
      said: the call in words.
      function: makes it.
      wanted: what it has to return, where it returns; None: anything.
      fits: whether it may not be refused.
      tolerance: of its numbers.
    """

    area: str
    said: str
    function: Callable[[], Any]
    wanted: Callable[[], Any] | None = None
    fits: bool = False
    tolerance: float = 2e-5


def different(found: Any, wanted: Any, tolerance: float) -> str:
    """Where two trees of numbers differ; "" where they do not."""
    ours, theirs = jax.tree.leaves(found), jax.tree.leaves(wanted)
    if len(ours) != len(theirs):
        return f"{len(ours)} results instead of {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        if one.shape != other.shape:
            return f"a result of shape {one.shape} instead of {other.shape}"
        if not np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True):
            return "wrong numbers"
    return ""


def one(pick: random.Random) -> Call:
    """A call of one area."""
    return pick.choices(AREAS, WEIGHTS)[0](pick)


def shown(value: Any) -> str:
    """An argument in a few words."""
    if hasattr(value, "shape"):
        kind = "numpy " if isinstance(value, np.ndarray) else ""
        return f"{kind}{value.dtype}{list(value.shape)}"
    return repr(value)[:60]


def spoiled(pick: random.Random, x: Any) -> Any:
    """Another value in an array's place."""
    x = np.asarray(x) if x is not None else np.ones((2, 3))
    ways: list[Callable[[], Any]] = [
        lambda: pick.choice(NOTHING),
        lambda: x.tolist(),
        lambda: x,  # numpy
        lambda: x.astype(pick.choice([np.float64, np.int32, np.bool_, np.complex64, np.uint8])),
        lambda: jnp.asarray(x)[None],
        lambda: jnp.asarray(x).reshape(-1),
        lambda: jnp.swapaxes(jnp.asarray(x), 0, -1) if x.ndim else x,
        lambda: jnp.concatenate([jnp.asarray(x)] * 2, -1) if x.ndim else x,
        lambda: jnp.asarray(x)[..., :0] if x.ndim else x,
        lambda: jnp.asarray(x)[:1] if x.ndim else x,
    ]
    return pick.choice(ways)()


def inputs(pick: random.Random) -> tuple[dict[str, Any], tuple[int, ...], str]:
    """Arguments of `attend` that fit."""
    sizes, dtype = pick.choice(SIZES), pick.choice(DTYPES)
    B, T, S, H, K, D, V = sizes
    random_ = np.random.default_rng(pick.randrange(2**32))
    made = lambda *shape: jnp.asarray(random_.standard_normal(shape), dtype)
    given: dict[str, Any] = {"q": made(B, T, H, D), "k": made(B, S, K, D), "v": made(B, S, K, V)}
    if pick.random() < 0.5:
        given["mask"] = jnp.asarray(random_.random(pick.choice([(B, 1, T, S), (1, 1, 1, S)])) < 0.6)
    if pick.random() < 0.3:
        given["bias"] = made(*pick.choice([(B, H, T, S), (1, H, 1, S), (1, 1, 1, 1)]))
    if pick.random() < 0.3:
        given["scale"] = pick.choice([1.0, 0, 0.3, -1])
    if pick.random() < 0.2:
        given["softcap"] = pick.choice([1.0, 30])
    if pick.random() < 0.2:
        given["sinks"] = made(H)
    if pick.random() < 0.3:
        given["implementation"] = pick.choice(
            ["reference", "xla", "chunked", "few_keys", "split_kv"]
        )
    return given, sizes, dtype


def attention_call(pick: random.Random) -> Call:
    """`attend` as it is meant, or with one argument spoiled."""
    given, sizes, dtype = inputs(pick)
    fits = pick.random() < 0.45
    if not fits:
        names = ["q", "k", "v", "mask", "bias", "scale", "softcap", "sinks", "implementation"]
        name = pick.choice([*names, "dropout"])
        if name in ("scale", "softcap"):
            given[name] = pick.choice(SCALARS)
        elif name in ("implementation", "dropout"):
            given[name] = pick.choice([*NOTHING, "fast", (0.5,), (2.0, 1), (NAN, None), ("a", "b")])
        else:
            given[name] = spoiled(pick, given.get(name))
    said = ", ".join(f"{name}={shown(value)}" for name, value in given.items())
    forced = given.get("implementation")
    plain = {n: x for n, x in given.items() if n not in ("implementation", "dropout")}
    wanted = None if given.get("dropout") is not None else lambda: truth.attend(**plain)
    # A width of 0 has no scale of its own, and what is forced may say what it cannot do.
    fits = fits and sizes[5] > 0 and sizes[3] > 0 and forced in (None, "reference")
    entry = pick.choice(["attend", "attention", "statistics"])
    if entry == "attention":
        out = (lambda: wanted()[0]) if wanted else None
        return Call("attention", said, lambda: attention(**given), out, fits, TOLERANCE[dtype])
    if entry == "statistics" and fits:
        measured = lambda: truth.statistics(**plain)
        take = lambda: _statistics(attend(**given)[1])
        return Call("statistics", said, take, measured, fits, 3 * TOLERANCE[dtype])

    def ours():
        result, trace = attend(**given)
        return result, trace.lse

    return Call("attention", said, ours, wanted, fits, TOLERANCE[dtype])


def _statistics(trace: Any) -> tuple[Any, ...]:
    return trace.weights(), trace.entropy(), trace.peak()[0]


def trace_call(pick: random.Random) -> Call:
    """Statistics of a trace with arguments that do not fit."""
    given, (B, _, S, *_), _ = inputs(pick)
    given |= {"implementation": None}
    what = pick.choice(["weights", "expect", "summary"])
    good = jnp.zeros((B, S, 2)) if what != "weights" else jnp.zeros((2,), jnp.int32)
    argument = spoiled(pick, good)
    through = {"through": pick.choice(NOTHING)} if pick.random() < 0.2 and what != "summary" else {}

    def call():
        trace = attend(**given)[1]
        return jax.tree.leaves(getattr(trace, what)(argument, **through))

    return Call("trace", f"{what}({shown(argument)}, {through})", call)


def mask_call(pick: random.Random) -> Call:
    """A mask by name, written out."""
    B, T, S = pick.choice([(2, 3, 5), (2, 4, 4), (0, 3, 3), (1, 0, 2), (2, 3, 0)])
    name = pick.choice(["lengths", "segments", "media", "causal", "window", "keys", "dense"])
    ints = lambda n, *shape: jnp.asarray([pick.randrange(n) for _ in range(int(np.prod(shape)))],
                                         jnp.int32).reshape(shape)  # fmt: skip
    arguments: list[Any] = {
        "lengths": lambda: [pick.choice([None, ints(T + 3, B)]), ints(S + 3, B)],
        "segments": lambda: [ints(2, B, T), ints(2, B, S)],
        "media": lambda: [ints(3, B, T), ints(3, B, S), pick.choice([True, False])],
        "causal": lambda: [pick.choice([0, -1, 2, S - T, ints(3, B)])],
        "window": lambda: [pick.choice([0, 1, None, -1]), pick.choice([0, 1, None]), 1],
        "keys": lambda: [ints(2, B, S) > 0],
        "dense": lambda: [ints(2, B, 1, T, S) > 0],
    }[name]()
    if spoil := pick.random() < 0.5:
        place = pick.randrange(len(arguments))
        arguments[place] = spoiled(pick, arguments[place] if place < 2 else None)
    said = f"Mask.{name}({', '.join(map(shown, arguments))}).dense_array({B}, {T}, {S})"

    def ours():
        written = getattr(Mask, name)(*arguments).dense_array(B, T, S)
        return np.broadcast_to(np.asarray(written), (B, 1, T, S))

    return Call("masks", said, ours, lambda: truth.mask(name, arguments, B, T, S), not spoil)


def module_call(pick: random.Random) -> Call:
    """A module with sizes and inputs that may not fit, by shapes alone."""
    sizes: list[Any] = [4, 4, 4, 8, 0, 1, -1, 1.5, "4", None, True, 3]
    kind = pick.choice([CrossAttention, Block])
    fields = {"width": pick.choice(sizes), "heads": pick.choice([2, *sizes])}
    if kind is CrossAttention and pick.random() < 0.4:
        name = pick.choice(["key_value_heads", "head_size", "value_size", "positions", "use_bias"])
        fields[name] = pick.choice(sizes)
    x, context = jnp.ones((2, 3, 4)), jnp.ones((2, 5, 6))
    streams = [x, context]
    if spoil := pick.random() < 0.4:
        place = pick.randrange(len(streams))
        streams[place] = spoiled(pick, streams[place])
    mask = pick.choice([None, None, Mask.lengths(key=jnp.array([1, 2])), *NOTHING])
    said = f"{kind.__name__}({fields})({', '.join(map(shown, streams))}, mask={shown(mask)})"

    def call():
        made = lambda: kind(**fields).init(jax.random.key(0), *streams, mask=mask)
        return jax.eval_shape(made)

    fits = not spoil and fields == {"width": 4, "heads": 2} and (mask is None)
    return Call("modules", said, call, None, fits)


def preset_call(pick: random.Random) -> Call:
    """A preset by name."""
    sizes: list[Any] = [8, 0, 1, -1, 1.5, "4", None, True, 10**20]
    name = pick.choice([*presets.names(), "fusion", "", None, 3, "MLLAMA"])
    given = {"width": pick.choice([8, 8, *sizes]), "heads": pick.choice([2, 2, *sizes])}
    given["layers"] = pick.choice([None, None, 1, 2, *sizes])
    given["remat"] = pick.choice([None, None, None, "everything", "x", 3])
    given["dtype"] = pick.choice([None, None, None, jnp.bfloat16, "float8", 3])
    return Call("presets", f"build({name!r}, {given})", lambda: presets.build(name, **given))


def generate_call(pick: random.Random) -> Call:
    """A step that counts to 6 writes on."""
    rows = pick.choice([[[1], [2]], [[1, 2], [0, 1]]])
    given: dict[str, Any] = {"length": pick.choice([1, 3]), "end": pick.choice([None, 5])}
    prompt: Any = jnp.asarray(rows)
    if spoil := pick.random() < 0.6:
        name = pick.choice(["prompt", "length", "end", "pad", "how", "key", "lengths", "cache"])
        odd = [*NOTHING, 0, -1, 2.0, jnp.array([1, 2]), jnp.array([5, 3]), Greedy(), Beam(2), Beam]
        value = spoiled(pick, prompt) if name == "prompt" else pick.choice([*odd, Sample()])
        prompt, given = (value, given) if name == "prompt" else (prompt, given | {name: value})
    cache = given.pop("cache", ())
    step = lambda cache, tokens, place: (9.0 * jax.nn.one_hot(tokens + 1, 7), cache, None)
    said = f"prompt={shown(prompt)}, " + ", ".join(f"{n}={shown(x)}" for n, x in given.items())
    write = lambda: generate(step, cache, prompt, **given).tokens
    wanted = lambda: truth.counted(rows, given["length"], given["end"])
    return Call("generate", said, write, None if spoil else wanted, not spoil)


def align_call(pick: random.Random) -> Call:
    """A measure of alignment."""
    random_ = np.random.default_rng(pick.randrange(2**32))
    N, P = pick.choice([(3, 4), (1, 1), (0, 4), (3, 1)])
    name = pick.choice(list(truth.MEASURES))
    region = random_.random((N, P)) < 0.5
    words = random_.integers(0, 3, (N, P))
    arguments: list[Any] = {
        "pointing": [random_.random((N, P)), region],
        "pointing_chance": [region],
        "mass_in_region": [random_.random((N, P)), random_.random((N, P)) * region],
        "slot_accuracy": [random_.integers(0, 3, (N, P)), words, region],
        "exact_match": [random_.integers(0, 3, (N, P)), words, region],
        "swap_scores": [random_.random((N, 2, 2))],
    }[name]
    if spoil := pick.random() < 0.5:
        place = pick.randrange(len(arguments))
        arguments[place] = spoiled(pick, arguments[place])
    said = f"{name}({', '.join(map(shown, arguments))})"
    wanted = None if spoil else lambda: truth.MEASURES[name](*arguments)
    return Call("align", said, lambda: getattr(align, name)(*arguments), wanted, not spoil)


def sharding_call(pick: random.Random) -> Call:
    """Meshes from a line, and attention over one."""
    axes = pick.choice([*MESHES, *NOTHING])
    if pick.random() < 0.5:
        return Call("sharding", f"make_mesh({axes!r})", lambda: over.make_mesh(axes) and None)
    given, sizes, dtype = inputs(pick)
    given = {name: given[name] for name in ("q", "k", "v")}
    if spoil := pick.random() < 0.6:
        given["qkv"[pick.randrange(3)]] = spoiled(pick, given["k"])
    option = pick.choice([{}, {}, {"strategy": pick.choice(["ulysses", "x", 3])}, {"axis": "x"}])
    layout = {"axis": option.pop("axis")} if "axis" in option else {}

    def call():
        along = over.ContextParallel(over.make_mesh("data=1"), **layout)
        return over.attend_sharded(**given, layout=along, **option)[0]

    said = ", ".join(f"{name}={shown(value)}" for name, value in given.items())
    fits = not (spoil or option or layout) and all(sizes)
    wanted = lambda: truth.attend(**given)[0]
    return Call("sharding", f"{said}, {option}, {layout}", call, wanted, fits, TOLERANCE[dtype])


def other_call(pick: random.Random) -> Call:
    """`explain` and `merge_partials`."""
    given, _, _ = inputs(pick)
    given = {name: given[name] for name in ("q", "k", "v")}
    name = "qkv"[pick.randrange(3)]
    given[name] = spoiled(pick, given[name])
    said = ", ".join(f"{name}={shown(value)}" for name, value in given.items())
    if pick.random() < 0.5:
        return Call("explain", said, lambda: explain(**given) and None)
    out = jnp.ones((2, 2, 3, 2, 4))
    parts = [out, jnp.zeros((2, 2, 2, 3))]
    place = pick.randrange(2)
    parts[place] = spoiled(pick, parts[place])
    return Call(
        "merge_partials",
        f"merge_partials({', '.join(map(shown, parts))})",
        lambda: merge_partials(*parts),
    )


AREAS = [attention_call, trace_call, mask_call, module_call, preset_call, generate_call]
AREAS += [align_call, sharding_call, other_call]
WEIGHTS = [40, 6, 14, 10, 6, 6, 8, 8, 2]
