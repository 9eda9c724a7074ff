"""The Attention cases of ONNX's backend tests: read, translated to our words and judged in float64.

Written from the operator's specification (ONNX Attention, opsets 23 to 25):
https://onnx.ai/onnx/operators/onnx__Attention.html
"""

import dataclasses
import functools
import importlib
import warnings
from typing import Any

import numpy as np
import onnx

from crossattn import Mask
from tests.support.definition import judge, weights

INPUTS = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")
OUTPUTS = ("Y", "present_key", "present_value", "qk_matmul_output")


@dataclasses.dataclass(frozen=True)
class Problem:
    """One case in our words; `stored` are the outputs that ship with it, by ONNX's names."""

    arrays: dict[str, np.ndarray]  # q, k, v, bias where there is one, in the case's dtype
    terms: dict[str, Any]  # the arguments of our masks: key_lengths, offset, window, dense
    visible: np.ndarray  # the same visibility in numpy, without that of a bias of -inf
    scale: float | None
    softcap: float | None
    mode: int
    stored: dict[str, np.ndarray]

    @property
    def mask(self):
        terms, mask = self.terms, Mask()
        if "key_lengths" in terms:
            mask = mask & Mask.lengths(key=terms["key_lengths"])
        if "causal" in terms:
            mask = mask & Mask.causal(terms["causal"])
        if "window" in terms:
            mask = mask & Mask.window(*terms["window"])
        if "dense" in terms:
            mask = mask & Mask.dense(terms["dense"])
        return mask


@functools.cache
def cases():
    """{name: TestCase}, without the variants that expand the operator into others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Importing the module makes its cases: no download, no files.
        importlib.import_module("onnx.backend.test.case.node.attention")
        made = importlib.import_module("onnx.backend.test.case.node")._NodeTestCases

    wanted = [c for c in made if c.model.graph.node[0].op_type == "Attention"]
    return {c.name: c for c in wanted if "_expanded" not in c.name}


def problem(name):
    case = cases()[name]
    (node,) = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    ((ins, outs),) = case.data_sets
    given, stored = (
        {slot: next(values) for slot, name in zip(slots, names, strict=False) if name}
        for slots, names, values in (
            (INPUTS, node.input, iter(ins)),
            (OUTPUTS, node.output, iter(outs)),
        )
    )
    q, k, v = (
        _heads(given[slot], attributes.get(heads))
        for slot, heads in (("Q", "q_num_heads"), ("K", "kv_num_heads"), ("V", "kv_num_heads"))
    )
    if "past_key" in given:
        k = np.concatenate([given["past_key"].swapaxes(1, 2), k], 1)
        v = np.concatenate([given["past_value"].swapaxes(1, 2), v], 1)
    arrays, terms = {"q": q, "k": k, "v": v}, {}
    (B, T, H, _), S = q.shape, k.shape[1]
    # How many keys precede the first query.
    offset = given["past_key"].shape[2] if "past_key" in given else 0
    if "nonpad_kv_seqlen" in given:
        terms["key_lengths"] = given["nonpad_kv_seqlen"].astype(np.int32)
        offset = given["nonpad_kv_seqlen"] - T
    # Per example and with every axis, though it could broadcast: the cases share compilations then.
    offset = np.broadcast_to(np.asarray(offset, np.int32), (B,))
    if attributes.get("is_causal"):
        terms["causal"] = offset
    sides = [attributes.get(f"{side}_window_size", -1) for side in ("left", "right")]
    if max(sides) >= 0:
        terms["window"] = (*(None if n < 0 else n for n in sides), offset)
    if "attn_mask" in given:
        written = np.broadcast_to(_four_axes(given["attn_mask"], S), (B, H, T, S))
        arrays |= {} if written.dtype == bool else {"bias": written}
        terms |= {"dense": written} if written.dtype == bool else {}
    return Problem(
        arrays,
        terms,
        _visible(terms, B, T, S),
        attributes.get("scale"),
        attributes.get("softcap") or None,
        attributes.get("qk_matmul_output_mode", 0),
        stored,
    )


def judged(problem):
    """The outputs in float64, by ONNX's names and in the layout of `stored`."""
    p = problem
    options = {"scale": p.scale, "softcap": p.softcap}
    out = judge(p.arrays, p.visible, **options)["out"].swapaxes(1, 2)
    keys, values = (p.arrays[name].swapaxes(1, 2) for name in "kv")
    q, k = (p.arrays[name].astype(np.float64) for name in "qk")
    s = np.einsum("bihd,bjhd->bhij", q, np.repeat(k, q.shape[2] // k.shape[2], 2))
    s = s * (q.shape[3] ** -0.5 if p.scale is None else p.scale)
    if p.mode >= 1 and p.softcap is not None:
        s = p.softcap * np.tanh(s / p.softcap)
    if p.mode == 2:
        s = np.where(p.visible, s, -np.inf) + p.arrays.get("bias", np.zeros(())).astype(np.float64)
    if p.mode == 3:
        s = weights(p.arrays, p.visible, **options)["weights"]
    if p.stored["Y"].ndim == 3:
        out = out.swapaxes(1, 2).reshape(p.stored["Y"].shape)
    outputs = dict(zip(OUTPUTS, (out, keys, values, s), strict=True))
    return {name: outputs[name] for name in p.stored}


def _heads(x, heads):
    """(B, heads, n, size) or (B, n, heads * size) to (B, n, heads, size)."""
    return x.swapaxes(1, 2) if x.ndim == 4 else x.reshape(*x.shape[:2], heads, -1)


def _four_axes(mask, S):
    """Broadcast from the right; keys that it does not mention are hidden."""
    hidden = False if mask.dtype == bool else -np.inf
    short = [(0, 0)] * (mask.ndim - 1) + [(0, S - mask.shape[-1])]
    mask = np.pad(mask, short, constant_values=hidden)
    return mask.reshape((1,) * (4 - mask.ndim) + mask.shape)


def _visible(terms, B, T, S):
    visible = np.ones((B, 1, T, S), bool)
    i, j = np.arange(T)[:, None], np.arange(S)
    if "key_lengths" in terms:
        visible = visible & (j < terms["key_lengths"].reshape(-1, 1, 1, 1))
    if "causal" in terms:
        visible = visible & (j <= i + np.reshape(terms["causal"], (-1, 1, 1, 1)))
    if "window" in terms:
        left, right, offset = terms["window"]
        ahead = j - (i + np.reshape(offset, (-1, 1, 1, 1)))
        visible = visible & (True if left is None else ahead >= -left)
        visible = visible & (True if right is None else ahead <= right)
    return visible & terms.get("dense", np.ones((), bool))
