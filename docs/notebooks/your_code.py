# ---
# jupyter:
#   accelerator: TPU
#   colab:
#     gpuType: V5E1
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Can I put it into my own model, and see where its words look?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/crossattn/crossattn/blob/main/docs/notebooks/your_code.ipynb)
#
# You have a Flax model with `nn.MultiHeadDotProductAttention` in it. Here one import is changed. The parameters stay, the numbers stay, and three things are new: **masks cannot leak, every map can be asked for, and a loss can be put on where a word looks**. Then the same in NNX, and text that is written from a cache.
#
# Three minutes on two CPU cores, less on a TPU or GPU; sizes follow the device by themselves.

# %% tags=["install"]
# %pip install -q git+https://github.com/crossattn/crossattn  # jax, flax and numpy stay as they are

# %%
import time

import flax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn

import crossattn
from crossattn import Mask, viewer
from crossattn.data import scenes

CPU = jax.default_backend() == "cpu"
STEPS, BATCH = (400, 64) if CPU else (2000, 256)
print(f"crossattn {crossattn.__version__}, jax {jax.__version__}, flax {flax.__version__}")
print(f"{jax.device_count()} x {jax.devices()[0].device_kind}; {STEPS} steps of {BATCH} texts")

# %% [markdown]
# ## 1. Pictures, questions, and the region of every word
#
# `scenes` draws objects on 8 x 8 patches and asks about them. Which patches a word is about is exact: it was drawn. The cyan line is the region of the answer.

# %%
PATCHES = 64
train, test = (scenes.examples(name, 2000, seed=0) for name in ("train", "iid"))
asked = [train.kinds.index(kind) for kind in ("colour", "shape")]
train, test = (data.rows(np.isin(data.kind, asked)) for data in (train, test))
world = scenes.draw_scenes("iid", 2000, seed=0)
pictures, masks = world.render(test.image[:4]), world.masks[test.image[:4]]
outline = lambda row, word: np.isin(masks[row], np.flatnonzero(test.grounded[row, word]) + 1)

figure, axes = plt.subplots(1, 4, figsize=(12, 3.4))
for row, axis in enumerate(axes):
    axis.imshow(pictures[row])
    axis.contour(outline(row, test.answer[row]), [0.5], colors="cyan")
    words = test.words(row).split()[1:-1]
    axis.set_title(f"{' '.join(words[:-1])}\n{words[-1]}", fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## 2. Your model, and the one import
#
# A small reader: words look at words, then at patches. `attention` is Flax's class or ours; nothing else differs.

# %%
from crossattn.interop.flax import MultiHeadDotProductAttention


class Reader(nn.Module):
    attention: type
    width: int = 64

    @nn.compact
    def __call__(self, tokens, patches, seen=None, **ask):
        T, trace = tokens.shape[1], None
        x = nn.Embed(len(train.vocabulary), self.width)(tokens)
        x = x + nn.Embed(T, self.width)(jnp.arange(T))
        patches = nn.Dense(self.width)(patches) + nn.Embed(PATCHES, self.width)(jnp.arange(PATCHES))
        for _ in range(2):
            y = nn.LayerNorm()(x)
            x = x + self.attention(num_heads=4)(y, mask=nn.make_causal_mask(tokens))
            read = self.attention(num_heads=4)(nn.LayerNorm()(x), patches, mask=seen, **ask)
            read, trace = read if ask else (read, None)
            x = x + read
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(len(train.vocabulary))(nn.LayerNorm()(x)), trace


theirs, ours = Reader(nn.MultiHeadDotProductAttention), Reader(MultiHeadDotProductAttention)
tokens, patches = jnp.asarray(test.tokens[:4]), jnp.asarray(test.images[test.image[:4]])
params = jax.jit(theirs.init)(jax.random.key(0), tokens, patches)
with jax.default_matmul_precision("highest"):  # Flax's products are rounded on a TPU
    before, after = (jax.jit(model.apply)(params, tokens, patches)[0] for model in (theirs, ours))
print(f"the same parameters; largest difference of the logits: {jnp.abs(before - after).max():.1e}")
assert jnp.abs(before - after).max() < 1e-4

# %% [markdown]
# ## 3. What a mask lets through
#
# The second text has no picture: all its patches are padding, and the padding holds rubbish. Flax's softmax over nothing is the *mean of the padding*; here it is 0, and so is every gradient.

# %%
shown = jnp.array([64, 0, 64, 64])
seen = (jnp.arange(PATCHES) < shown[:, None])[:, None, None]
rubbish = jnp.where(seen[:, 0, 0, :, None], patches, 100.0)
logits = {
    name: [
        jax.jit(model.apply)(params, tokens, padded, seen)[0][1] for padded in (patches, rubbish)
    ]
    for name, model in (("flax", theirs), ("crossattn", ours))
}
for name, (clean, dirty) in logits.items():
    print(
        f"{name:>9}: padding moves the logits of a text without a picture by {jnp.abs(clean - dirty).max():.2g}"
    )
assert (logits["crossattn"][0] == logits["crossattn"][1]).all()

loss = lambda params, padded: ours.apply(params, tokens, padded, seen)[0].sum()
clean, dirty = (jax.jit(jax.grad(loss))(params, padded) for padded in (patches, rubbish))
assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), clean, dirty))
print("crossattn: and no gradient, not by a bit")

# %% [markdown]
# ## 4. A loss on where a word looks
#
# `return_trace=True` gives the attention itself, and `trace.expect(regions)` the share of its weight that falls on each region, exactly and differentiably, without a T x S array. Two models are trained in one program by `vmap`: one on its answers alone, one that is also told where to look.

# %%
rows = jnp.arange(BATCH)
arrays = {
    "tokens": train.tokens,
    "answer": train.answer,
    "patches": train.images[train.image],
    "region": train.regions()[np.arange(len(train)), train.answer][..., None],
}
arrays = {name: jnp.asarray(array) for name, array in arrays.items()}
optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0, 3e-3, STEPS // 10, STEPS))


def read(params, batch):
    """Of each answer: the logits of the word that asks, and its weight on the true region (H)."""
    logits, trace = ours.apply(params, batch["tokens"], batch["patches"], return_trace=True)
    at = jnp.arange(len(batch["answer"])), batch["answer"] - 1
    mass = trace.expect(batch["region"])[at[0], :, at[1], 0]
    return logits[at], mass, jnp.take_along_axis(batch["tokens"], batch["answer"][:, None], 1)[:, 0]


def fit(weight):
    def loss(params, batch):
        logits, mass, answer = read(params, batch)
        wrong = optax.softmax_cross_entropy_with_integer_labels(logits, answer).mean()
        aside = -jnp.log(mass.mean(1) + 1e-3).mean()
        return wrong + weight * aside, ((logits.argmax(1) == answer).mean(), mass.mean())

    def step(state, key):
        params, slots = state
        chosen = jax.random.randint(key, (BATCH,), 0, len(train))
        batch = {name: array[chosen] for name, array in arrays.items()}
        (_, seen), slopes = jax.value_and_grad(loss, has_aux=True)(params, batch)
        updates, slots = optimizer.update(slopes, slots)
        return (optax.apply_updates(params, updates), slots), seen

    start = ours.init(jax.random.key(1), tokens, patches)
    keys = jax.random.split(jax.random.key(2), STEPS)
    (params, _), curves = jax.lax.scan(step, (start, optimizer.init(start)), keys)
    return params, curves


begun = time.time()
learnt, curves = jax.block_until_ready(jax.jit(jax.vmap(fit))(jnp.array([0.0, 1.0])))
print(f"two models in {time.time() - begun:.0f} s, the compiler's included")

# %%
LABELS = ("answers alone", "told where to look")
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2))
for axis, curve, title in zip(
    axes, curves, ("answers that are right", "weight on the true region")
):
    for line, label in zip(np.asarray(curve), LABELS):
        axis.plot(np.convolve(line, np.ones(25) / 25, "valid"), label=label)
    axis.set(title=title, xlabel="step", ylim=(0, 1))
    axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 5. Held-out pictures
#
# The same texts, two models side by side: click a word, choose a layer or a head. The page is one file and asks no network.

# %%
held_out = {
    "tokens": test.tokens,
    "answer": test.answer,
    "patches": test.images[test.image],
    "region": test.regions()[np.arange(len(test)), test.answer][..., None],
}
judge = jax.jit(jax.vmap(read, (0, None)))
logits, mass, answer = judge(learnt, {name: jnp.asarray(array) for name, array in held_out.items()})
right, looked = (logits.argmax(2) == answer).mean(1), mass.mean((1, 2))
for label, accuracy, share in zip(LABELS, right, looked):
    print(
        f"{label:>18}: {accuracy:.1%} of {len(test)} held-out answers right, {share:.0%} of the weight on the region"
    )
assert looked[1] > looked[0]

# %%
ask = jax.vmap(lambda params: ours.apply(params, tokens, patches, return_trace=True)[1].weights())
weights = np.asarray(jax.jit(ask)(learnt))  # model, example, head, word, patch
texts = [test.words(row).split() for row in range(4)]
pages = [
    [
        viewer.Example(
            words,
            maps[row, None, :, : len(words)],
            image=pictures[row],
            regions=np.stack([outline(row, word) for word in range(len(words))]),
            readings="both",
        )
        for row, words in enumerate(texts)
    ]
    for maps in weights
]
viewer.explore(pages[0], compare=pages[1], names=LABELS, title="Where the question looks")

# %% [markdown]
# ## 6. The same in NNX
#
# `MultiHeadAttention` takes the place of `flax.nnx`'s; any other module of this library goes into NNX with `to_nnx`.

# %%
from flax import nnx

from crossattn.interop.flax import MultiHeadAttention
from crossattn.interop.nnx import to_nnx
from crossattn.nn import presets

layer = MultiHeadAttention(num_heads=4, in_features=64, decode=False, rngs=nnx.Rngs(0))
x, context = jnp.ones((2, 5, 64)), jnp.ones((2, 49, 64))
y, trace = nnx.jit(
    lambda layer: layer(x, context, mask=Mask.lengths(key=jnp.array([49, 0])), return_trace=True)
)(layer)
print("NNX:", y.shape, "valid queries", trace.valid[:, 0].sum(1))

block = to_nnx(presets.build("flamingo", width=64, heads=4), x, context, rngs=nnx.Rngs(0))
gate = block.cross_residual["gate"]
print("flamingo's gate is a parameter of", gate.shape, "and begins at", float(gate[...].sum()))

# %% [markdown]
# ## 7. Writing from a cache
#
# A picture is projected once, words go into a cache of fixed shape, and the whole text is written in one compiled loop. It is the text that the uncached model writes, word by word.

# %%
from crossattn.models.generate import generate
from crossattn.models.text_decoder import TextDecoder

LENGTH = 24 if CPU else 128
decoder = TextDecoder(
    presets.build("whisper", width=64, heads=4, layers=2), vocab_size=50, length=LENGTH
)
prompt = jnp.ones((4, 1), jnp.int32)
variables = jax.jit(decoder.init)(jax.random.key(0), prompt, patches)


@jax.jit
def cached(variables, patches):
    projected = decoder.apply(variables, patches, method="project")
    cache = decoder.apply(variables, 4, LENGTH, method="init_cache")
    step = lambda cache, words, position: decoder.apply(
        variables, words, projected, cache, position, method="decode_step"
    )
    return generate(step, cache, prompt, length=LENGTH - 1, eos_id=None, prefill=step).tokens


@jax.jit
def uncached(variables, patches):
    def word(text, position):
        logits, *_ = decoder.apply(variables, text, patches)
        chosen = logits[:, position].argmax(1).astype(text.dtype)
        return text.at[:, position + 1].set(chosen), None

    text = jnp.zeros((4, LENGTH), jnp.int32).at[:, :1].set(prompt)
    return jax.lax.scan(word, text, jnp.arange(LENGTH - 1))[0]


written, took = {}, {}
for name, call in (("cached", cached), ("uncached", uncached)):
    jax.block_until_ready(call(variables, patches))  # compiles
    begun = time.time()
    written[name] = jax.block_until_ready(call(variables, patches))
    took[name] = time.time() - begun
same = (written["cached"] == written["uncached"]).mean()
print(
    f"{LENGTH} words: {same:.0%} are the same; the cache takes {took['cached'] / took['uncached']:.2f} of the time"
)
assert (
    same == 1 or not CPU
)  # elsewhere products are rounded, and words that are equally likely may swap

# %% [markdown]
# ## What was shown, and what was not
#
# * One import: the same parameters and numbers, masks that cannot leak, maps that can be asked for. [docs/migrating.md](https://github.com/crossattn/crossattn/blob/main/docs/migrating.md) has every argument, also from PyTorch and Hugging Face.
# * A loss on attention moves attention. Whether it makes *better answers* is another question: one seed of a small model does not say. The notebook [alignment](https://colab.research.google.com/github/crossattn/crossattn/blob/main/docs/notebooks/alignment.ipynb) asks it with several seeds and intervals.
# * These pictures are drawn, not photographed, and symbolic: the encoder has nothing to learn.
#
# Exercises: (1) give the loss on attention to one head only, `mass[:, 0]`. (2) Hide the true region with `seen` and count the right answers. (3) Put `MultiHeadDotProductAttention` into a model of your own and show `trace.weights()` of it with `viewer.explore(image, words, weights)`.
