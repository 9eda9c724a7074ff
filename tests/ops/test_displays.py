"""What masks and traces say of themselves: short, exact, inert, and nothing computed by `repr`."""

import base64
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from crossattn import Mask, attend
from crossattn.sharding import ContextParallel, attend_sharded, make_mesh
from crossattn.viewer.markup import DEEP, PALE, heat_map, html_table, html_text, picture

B, T, S, H, D = 2, 3, 5, 2, 4
MASK = Mask.lengths(key=jnp.array([5, 2])) & Mask.causal(1)


def inputs(*shape, dtype=jnp.float32):
    make = lambda n, size: jax.random.normal(jax.random.key(n), (*shape, B, size, H, D), dtype)
    return make(0, T), make(1, S), make(2, S)


@pytest.fixture(scope="module")
def trace():
    return attend(*inputs(), mask=MASK)[1]


def pictures(html):
    found = re.findall(r"data:image/png;base64,([^\"]+)", html)
    opened = [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]
    return [np.asarray(one.convert("RGBA")) for one in opened]


def cells(image, rows, columns):
    """The colour of the middle of each cell."""
    height, width = (image.shape[0] // rows, image.shape[1] // columns)
    return image[height // 2 :: height, width // 2 :: width, :3]


WRITTEN = [
    "Mask()",
    "Mask.causal()",
    "Mask.causal(0)",
    "Mask.window(1, None, 0)",
    "Mask.window(-2, 1)",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_mask_is_written_as_it_is_made(text):
    assert repr(eval(text)) == text
    assert jax.tree.structure(eval(repr(eval(text)))) == jax.tree.structure(eval(text))


def test_arrays_of_a_mask_are_shapes():
    ids = jnp.zeros((B, T), jnp.int32)
    mask = Mask.segments(ids, ids) & Mask.media(ids, ids, latest_only=False) & MASK
    mask = mask & Mask.keys(np.ones((B, S), bool)) & Mask.dense(jnp.ones((1, 1, T, S), bool))
    assert repr(mask) == (
        "Mask.segments(int32[2,3], int32[2,3]) & "
        "Mask.media(int32[2,3], int32[2,3], latest_only=False) & Mask.lengths(key=int32[2]) & "
        "Mask.causal(1) & Mask.keys(bool[2,5]) & Mask.dense(bool[1,1,3,5])"
    )


def test_a_trace_is_one_line(trace):
    assert repr(trace) == (
        "AttentionTrace(B=2, T=3, S=5, H=2, D=4, float32, scale=0.5, "
        "mask=Mask.lengths(key=int32[2]) & Mask.causal(1))"
    )


def test_repr_reads_no_array(trace):
    said = []

    def traced(q, k, v):
        out, trace = attend(q, k, v, mask=MASK)
        said.append(repr(trace))
        said.append(trace._repr_html_())
        return out

    jax.jit(traced)(*inputs())
    assert said[0] == repr(trace)
    assert "not drawn: its arrays are traced" in said[1]
    gone = attend(*inputs(), mask=MASK)[1]
    jax.tree.map(lambda x: x.delete() if isinstance(x, jax.Array) else x, (gone.q, gone.k))
    assert repr(gone) == repr(trace)
    assert "not drawn: its arrays are deleted" in gone._repr_html_()
    with jax.transfer_guard("disallow_explicit"):
        repr(trace), repr(trace.mask)


def test_repr_takes_whatever_stands_for_arrays(trace):
    for leaf in (None, 3, "x", object(), jax.ShapeDtypeStruct((2,), jnp.float32)):
        other = jax.tree.map(lambda _, leaf=leaf: leaf, trace)
        assert len(repr(other)) < 500
        assert len(repr(other.mask)) < 300
        assert "not drawn" in other._repr_html_()
    shapes = jax.eval_shape(lambda: attend(*inputs(), mask=MASK)[1])
    assert repr(shapes) == repr(trace).replace("causal(1)", "causal(int32[])")


def test_stacks_say_so():
    stacked = jax.vmap(lambda *qkv: attend(*qkv)[1])(*inputs(7))
    assert repr(stacked).startswith("AttentionTrace(stack of 7, B=2, T=3, S=5, H=2, D=4, float32")
    assert "jax.tree.map(lambda x: x[0], trace)" in stacked._repr_html_()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_maps_of_the_first_example(dtype):
    trace = attend(*inputs(dtype=dtype), mask=MASK)[1]
    html = trace._repr_html_()
    found = pictures(html)
    assert len(found) == H
    assert "weights of the first of 2 examples; 3 queries down" in html
    weights = np.asarray(trace.weights())[0]
    for head, image in enumerate(found):
        drawn = cells(image, T, S)
        assert (drawn[weights[head] == 0] == PALE).all()
        top = np.unravel_index(weights[head].argmax(), (T, S))
        assert tuple(drawn[top]) == DEEP


def test_maps_are_small_and_say_what_is_left_out():
    q, k = jnp.ones((1, 100, 40, 2)), jax.random.normal(jax.random.key(0), (1, 300, 40, 2))
    trace = attend(q * jnp.arange(100.0)[None, :, None, None], k, k)[1]
    html = trace._repr_html_()
    assert len(html) < 100_000
    assert "<script" not in html
    assert "the first 32 of 100 queries" in html
    assert "300 keys across, 5 in a column" in html
    assert "the first 32 of 40 heads" in html
    assert len(pictures(html)) == 32


def test_large_traces_are_not_computed(monkeypatch):
    shapes = jnp.zeros((64, 32, 8, 1)), jnp.zeros((64, 512, 8, 1))
    trace = attend(shapes[0], shapes[1], shapes[1])[1]
    monkeypatch.setattr(type(trace), "weights", lambda *_: pytest.fail("computed"))
    assert "are too many: call weights(queries) for a few" in trace._repr_html_()


def test_nan_is_red_and_said():
    q, k, v = inputs()
    html = attend(q.at[0, 1, 0].set(jnp.nan), k, v)[1]._repr_html_()
    assert "head 0: up to" in html
    assert html.count("red: NaN") == 2
    assert tuple(cells(pictures(html)[0], T, S)[1, 0]) == (214, 40, 40)


@pytest.mark.parametrize("empty", ["B", "T", "S"])
def test_empty_arrays(empty):
    B, T, S = (0 if letter == empty else 2 for letter in "BTS")
    trace = attend(jnp.zeros((B, T, H, D)), jnp.zeros((B, S, H, D)), jnp.zeros((B, S, H, D)))[1]
    assert f"{empty}=0" in repr(trace)
    assert "not drawn: it is empty" in trace._repr_html_()


def test_over_a_mesh(trace):
    layout = ContextParallel(make_mesh("context=-1"), "context")
    found = attend_sharded(*inputs(), mask=MASK, layout=layout)[1]
    assert repr(found) == repr(trace).replace("AttentionTrace", "ShardedTrace").replace(
        "mask=Mask.lengths(key=int32[2]) & Mask.causal(1))",
        "mask=Mask.lengths(key=int32[2]) & Mask.causal(1), keys over 'context')",
    )
    assert len(pictures(found._repr_html_())) == H


MASKS = {
    "lengths": (Mask.lengths(key=jnp.array([2, 3])), 3, 3),
    "causal": (Mask.causal(0), 8, 8),
    "both": (MASK, 5, 5),
    "keys": (Mask.keys(jnp.array([[True, False]])), 2, 2),
    "dense": (Mask.dense(np.tri(3, 4, dtype=bool)[None, None]), 3, 4),
    "open": (Mask(), 8, 8),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_grid_shows_who_sees_whom(name):
    mask, T, S = MASKS[name]
    html = mask._repr_html_()
    assert f"{T} queries down, {S} keys across" in html
    B = 2 if name in ("lengths", "both") else 1
    images, seen = pictures(html), np.asarray(mask.dense_array(B, T, S))[:, 0]
    assert len(images) == B
    for image, one in zip(images, seen, strict=True):
        assert ((cells(image, T, S) == DEEP).all(-1) == one).all()
        assert ((cells(image, T, S) == PALE).all(-1) == ~one).all()


def test_rows_of_a_grid_are_chosen():
    mask = Mask.lengths(key=jnp.array([1, 2, 3]))
    assert repr(mask.grid(1, 4, rows=[2])) == "1 1 1 0"
    html = mask.grid(1, 4, rows=[2, 0])._repr_html_()
    assert re.findall(r"example (\d)</fig", html) == ["2", "0"]
    with pytest.raises(ValueError, match="rows are of the batch, 0 to 2, got"):
        mask.grid(1, 4, rows=[3])
    with pytest.raises(ValueError, match="S="):
        Mask.keys(jnp.ones((1, 3), bool)).grid(2, 4)


def test_long_masks_are_drawn_in_blocks():
    html = Mask.causal(0).grid(100, 1000)._repr_html_()
    assert "a cell is 2 x 16 of them" in html
    assert len(html) < 10_000
    drawn = cells(pictures(html)[0], 50, 63)
    assert tuple(drawn[0, 1]) == PALE
    assert tuple(drawn[40, 1]) == DEEP
    many = Mask.lengths(key=jnp.full(30, 3))._repr_html_()
    assert "22 more are not drawn" in many
    assert len(pictures(many)) == 8
    heads = Mask.dense(jnp.ones((1, 3, 2, 2), bool))._repr_html_()
    assert re.findall(r"head (\d)</fig", heads) == ["0", "1", "2"]


def test_what_cannot_be_drawn_says_why():
    huge = Mask.lengths(key=jnp.array([2**30]))
    assert "is too large" in huge._repr_html_()
    assert "is ambiguous" in (Mask.causal() & MASKS["dense"][0])._repr_html_()
    said = []
    jax.jit(lambda mask: said.append(mask._repr_html_()))(MASK)
    assert "not drawn: its arrays are traced" in said[0]


def test_names_are_inert():
    hostile = "</td><script>alert(1)</script>\x1b[31m\u202e"
    for html in (html_text(hostile), html_table([hostile], [[hostile]])):
        assert "<script" not in html
        assert "\x1b" not in html
        assert "\u202e" not in html
    html = picture(np.zeros((1, 1), int), np.zeros((1, 3)), caption=f'"{hostile}')
    assert "<script" not in html
    assert 'alt="&quot;' in html
    assert "no cells" in heat_map(np.zeros((0, 3)), caption="head 0")


def test_show_is_the_page_of_these_weights(trace, monkeypatch):
    given = []
    monkeypatch.setattr("crossattn.viewer.explore", lambda *a, **named: given.append((a, named)))
    image = np.zeros((10, 2, 3), np.uint8)
    trace.show(["a", "red", "ring"], image, example=1, grid=(5, 1))
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), trace)
    stacked.show(["a", "red", "ring"], tokens=list("abcde"))
    (one, first), (several, second) = given
    assert one[0] is image
    np.testing.assert_array_equal(one[2], trace.weights()[1])
    assert (first, second) == ({"grid": (5, 1)}, {"tokens": list("abcde")})
    assert several[0] is None
    assert several[2].shape == (2, H, T, S)
    np.testing.assert_allclose(several[2][1], trace.weights()[0], atol=1e-6)


def test_show_makes_a_page_and_says_what_does_not_fit(trace, monkeypatch):
    page = trace.show(["a", "red", "ring"], tokens=list("abcde"))
    assert "1 layer x 2 heads" in repr(page)
    for words, named, said in (
        (["a"], {}, "1 words need weights"),
        (["a", "red", "ring"], {}, "5 keys are no square of patches"),
        (["a", "red", "ring"], {"example": 2}, "example 2 is not one of the B=2"),
    ):
        with pytest.raises(ValueError, match=said):
            trace.show(words, **named)
    monkeypatch.setattr("crossattn.ops.trace.display.MOST_SHOWN", 10)
    with pytest.raises(ValueError, match="are too many: take the trace of fewer"):
        trace.show(["a", "red", "ring"])
    with pytest.raises(ValueError, match="its arrays are traced"):
        jax.jit(lambda trace: trace.show(["a", "red", "ring"]))(trace)


@pytest.mark.filterwarnings("ignore:The chararray class")  # treescope with numpy 2.5
def test_treescope_draws_them(trace):
    treescope = pytest.importorskip("treescope")
    for value in (trace, trace.mask, [trace]):
        html = treescope.render_to_html(value, compressed=False)
        assert type(trace).__name__ in html or "Mask" in html
        assert treescope.render_to_text(value)
