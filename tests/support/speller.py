"""Letters to sounds: a CrossAttention between two GRUs, with the weights of the package e2k."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.interop.entries import dense, fused
from crossattn.interop.table import Entry, Layout
from crossattn.models.generate import generate
from crossattn.nn import CrossAttention


def gru(theirs, ours, size, *, end=""):
    """torch's `GRU` of one layer: three gates in one map of the input, and one of the state."""
    maps = (("ih", "input", size), ("hh", "state", "M"))
    return tuple(
        entry
        for short, name, width in maps
        for entry in (
            Entry(f"{theirs}.weight_{short}_l0{end}", (f"{ours}/{name}/kernel",),
                  f"3M {width}", f"{width} 3M"),
            Entry(f"{theirs}.bias_{short}_l0{end}", (f"{ours}/{name}/bias",), "3M"),
        )
    )  # fmt: skip


LAYOUT = Layout(
    (
        Entry("e_emb.weight", ("letters/embedding",), "E M"),
        Entry("k_emb.weight", ("sounds/embedding",), "W M"),
        *gru("encoder", "forward/cell", "M"),
        *gru("encoder", "backward/cell", "M", end="_reverse"),
        *dense("encoder_fc.0", "joined", "M 2M"),
        *gru("pre_decoder", "before/cell", "M"),
        *fused("attn.", "reads"),
        *gru("post_decoder", "after/cell", "2M"),
        *dense("fc", "logits", "W M"),
    )
)


class Cell(nn.Module):
    """A gated recurrent unit as torch has it: the state's bias stands within the reset gate."""

    width: int

    @nn.compact
    def __call__(self, state, x):
        dense = lambda name, x: jnp.split(nn.Dense(3 * self.width, name=name)(x), 3, axis=-1)
        (r, z, n), (reset, update, new) = dense("input", x), dense("state", state)
        n = jnp.tanh(n + nn.sigmoid(r + reset) * new)
        state = n + nn.sigmoid(z + update) * (state - n)
        return state, state


class GRU(nn.Module):
    """A cell over a line of vectors (B, T, _); returns the last state and all of them."""

    width: int
    reverse: bool = False

    @nn.compact
    def __call__(self, x, state=None):
        state = jnp.zeros((x.shape[0], self.width), x.dtype) if state is None else state
        over = {"variable_broadcast": "params", "split_rngs": {"params": False}}
        scanned = nn.scan(Cell, in_axes=1, out_axes=1, reverse=self.reverse, **over)
        return scanned(self.width, name="cell")(state, x)


class Speller(nn.Module):
    width: int
    letter_count: int
    sound_count: int
    heads: int = 4

    def setup(self):
        self.letters = nn.Embed(self.letter_count, self.width)
        self.sounds = nn.Embed(self.sound_count, self.width)
        self.forward, self.backward = GRU(self.width), GRU(self.width, reverse=True)
        self.joined = nn.Dense(self.width)
        self.before, self.after = GRU(self.width), GRU(self.width)
        self.reads = CrossAttention(self.width, self.heads)
        self.logits = nn.Dense(self.sound_count)

    def project(self, letters):
        """Keys and values of a word (B, S), once."""
        x = self.letters(letters)
        both = jnp.concatenate([self.forward(x)[1], self.backward(x)[1]], axis=-1)
        return self.reads.project(jnp.tanh(self.joined(both)))

    def __call__(self, letters, sounds):
        logits, _, trace = self.step(sounds, self.project(letters))
        return logits, trace

    def step(self, sounds, projected, states=(None, None)):
        """Logits behind each sound (B, T), the states of both GRUs, and the trace."""
        first, said = self.before(self.sounds(sounds), states[0])
        read, trace = self.reads(said, projected)
        second, out = self.after(jnp.concatenate([said, read], axis=-1), states[1])
        return self.logits(out), (first, second), trace


def spelled(model, params, letters, *, start, end, length):
    """The sounds (B, length) that it writes, greedily."""
    projected = model.apply(params, letters, method="project")

    def step(cache, tokens, position):
        given = tokens[:, None], projected, (cache[0], cache[1])
        logits, states, _ = model.apply(params, *given, method="step")
        return logits[:, 0], jnp.stack(states), None

    prompt = jnp.full((letters.shape[0], 1), start, jnp.int32)
    cache = jnp.zeros((2, letters.shape[0], model.width))
    return generate(step, cache, prompt, length=length, eos_id=end, pad_id=end)


def of_weights(params):
    """The module of parameters, and these in float32."""
    tree = params["params"]
    (E, M), W = tree["letters"]["embedding"].shape, tree["sounds"]["embedding"].shape[0]
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    return Speller(M, E, W), wide
