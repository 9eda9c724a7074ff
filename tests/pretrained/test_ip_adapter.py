"""A published IP-Adapter beside the attention of an image model: names, tokens, the sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import ImportMismatchError, huggingface
from crossattn.nn import presets
from crossattn.nn.layers.vector_tokens import VectorTokens
from tests.support.drawing import same

WIDTHS, HEADS, N, C, TOKENS = {1: 8, 3: 12}, 2, 6, 5, 3  # layers have odd numbers


def adapter():
    """Random tensors under the names of ip-adapter_sd15.safetensors."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(0, 0.4, shape).astype(np.float32)
    state = {
        "image_proj.proj.weight": draw(TOKENS * N, C),
        "image_proj.proj.bias": draw(TOKENS * N),
    }
    state |= {"image_proj.norm.weight": draw(N), "image_proj.norm.bias": draw(N)}
    for number, width in WIDTHS.items():
        names = (f"ip_adapter.{number}.to_{letter}_ip.weight" for letter in "kv")
        state |= {name: draw(width, N) for name in names}
    return state


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attended(q, k, v):
    cut = lambda x: x.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)
    q, k, v = map(cut, (q, k, v))
    read = softmax(q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5) @ v
    return read.swapaxes(1, 2).reshape(q.shape[0], q.shape[2], -1)


def test_tokens_of_a_picture():
    state, rng = adapter(), np.random.default_rng(1)
    loaded = huggingface.load(state, "ip_adapter_image", prefix="image_proj.")
    params = jax.tree.map(jnp.asarray, loaded)
    vector = rng.normal(size=(2, C)).astype(np.float32)
    ours = VectorTokens(TOKENS, N).apply(params, jnp.asarray(vector))
    x = vector @ state["image_proj.proj.weight"].T + state["image_proj.proj.bias"]
    x = x.reshape(2, TOKENS, N)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    wanted = x * state["image_proj.norm.weight"] + state["image_proj.norm.bias"]
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


@pytest.mark.parametrize("number", WIDTHS)
def test_a_layer_joins_the_attention_that_is_there(number):
    state, rng, width = adapter(), np.random.default_rng(number), WIDTHS[number]
    prefix = f"ip_adapter.{number}."
    loaded = huggingface.load(state, "ip_adapter", prefix=prefix)
    own = {name: one for name, one in state.items() if name.startswith(prefix)}
    same(own, huggingface.tensors(loaded, "ip_adapter", prefix=prefix))
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    x, text, picture = draw(2, 4, width), draw(2, 7, N), draw(2, TOKENS, N)
    module = presets.build("ip_adapter", width=width, heads=HEADS)
    given = jnp.asarray(x), [jnp.asarray(text), jnp.asarray(picture)]
    init = jax.jit(lambda key: module.init(key, *given, scales=[0.6]))
    base = init(jax.random.key(0))["params"]
    params = {"params": base | jax.tree.map(jnp.asarray, loaded["params"])}
    assert params["params"].keys() == base.keys()
    ours, _ = jax.jit(lambda p: module.apply(p, *given, scales=[0.6]))(params)
    maps = {name: np.asarray(base[name]["kernel"]) for name in ("query", "key", "value", "out")}
    q = x @ maps["query"]
    read = attended(q, text @ maps["key"], text @ maps["value"])
    k, v = (picture @ own[f"{prefix}to_{letter}_ip.weight"].T for letter in "kv")
    read = read + 0.6 * attended(q, k, v)
    wanted = read @ maps["out"] + np.asarray(base["out"]["bias"])
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_half_an_adapter_is_refused():
    state = adapter()
    del state["ip_adapter.3.to_v_ip.weight"]
    with pytest.raises(ImportMismatchError, match=r"missing +ip_adapter\.3\.to_v_ip\.weight"):
        huggingface.load(state, "ip_adapter", prefix="ip_adapter.3.")
