"""Weight files that are damaged, foreign, renamed or of other heads, read in one process.

python -m tests.fuzz.weight_files [SEED]

Each is read by `huggingface.load` and by the command. The outcome is right (the parameters of the
whole file, bit for bit) or one line (a table of what does not fit); anything else is printed.
"""

import collections
import contextlib
import io
import json
import os
import pickle
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save, save_file

from crossattn.interop import huggingface
from crossattn.interop.table import ImportMismatchError
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import Stack, presets
from experiments import import_weights
from tests.support.damage import FOREIGN, HEADERS, INDICES, entry, numbers, packed

INDEX = "model.safetensors.index.json"
SECONDS = 60
M, N, F, W, P, HEADS, LAYERS = 12, 12, 20, 11, 7, 3, 2
CONFIG = {
    "decoder_attention_heads": HEADS,
    "decoder_layers": LAYERS,
    "decoder_ffn_dim": F,
    "d_model": M,
    "vocab_size": W,
    "max_target_positions": P,
    "activation_function": "gelu",
}


class Runs:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def module(heads=HEADS):
    design = presets.config("whisper")
    design = replace(design, mlp=replace(design.mlp, expansion=F / M))
    stack = Stack(LAYERS, M, heads, design)
    return TextDecoder(stack, W, P)


def checkpoint():
    """Whisper's decoder; no tensor of two axes is square but those of the attentions."""
    model, tokens = module(), np.zeros((1, 2), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, np.ones((1, 3, N), np.float32))
    leaves, tree = jax.tree.flatten(shapes)
    drawn = [numbers(leaf.shape, seed) for seed, leaf in enumerate(leaves)]
    params = jax.tree.unflatten(tree, drawn)
    return params, huggingface.tensors(params, "whisper_decoder")


PARAMS, TENSORS = checkpoint()
WORDS = "model.decoder.embed_tokens.weight"
FIRST = "model.decoder.layers.0."


def whole(folder, tensors=TENSORS, config=CONFIG, name="model.safetensors"):
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / name)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))


def flipped(folder, rng):
    """One bit of the header; those of the data nobody can see."""
    data = bytearray(save(TENSORS))
    length = 8 + int.from_bytes(data[:8], "little")
    place = int(rng.integers(length))
    data[place] ^= 1 << int(rng.integers(8))
    (folder / "model.safetensors").write_bytes(bytes(data))


def cut(folder, rng):
    data = save(TENSORS)
    (folder / "model.safetensors").write_bytes(data[: int(rng.integers(len(data)))])


def spliced(folder, rng):
    """Some bytes of the header are random ones."""
    data = bytearray(save(TENSORS))
    place = int(rng.integers(8, 8 + int.from_bytes(data[:8], "little")))
    data[place : place + 5] = rng.bytes(5)
    (folder / "model.safetensors").write_bytes(bytes(data))


def noise(folder, rng):
    (folder / "model.safetensors").write_bytes(rng.bytes(int(rng.integers(1, 300))))


def without(*names):
    return {name: tensor for name, tensor in TENSORS.items() if name not in names}


def renamed(old, new):
    return {name.replace(old, new): tensor for name, tensor in TENSORS.items()}


def cast(dtype):
    return {name: tensor.astype(dtype) for name, tensor in TENSORS.items()}


def quantised(dtype):
    """The bytes of one tensor are said to be of a dtype that has one byte a number."""
    header, data = {}, b""
    for name, tensor in TENSORS.items():
        one = name == f"{FIRST}fc1.weight"
        raw = tensor.astype(np.int8).tobytes() if one else tensor.tobytes()
        kind = dtype if one else "F32"
        header[name] = entry(len(data), len(data) + len(raw), dtype=kind, shape=tensor.shape)
        data += raw
    return packed(header, data)


def sharded(folder, _, *, stray=False):
    names = sorted(TENSORS)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in halves.items():
        whole(folder, {name: TENSORS[name] for name in own}, name=file)
    index = {name: file for file, own in halves.items() for name in own}
    if stray:
        index[names[0]] = "c.safetensors"
    (folder / INDEX).write_text(json.dumps({"weight_map": index}))


# What each makes of tensors, and whether they are whole all the same.
TENSOR_CASES = {
    "whole": (TENSORS, True),
    "without the head's prefix": (renamed("model.decoder.", "decoder."), True),
    "the other of a tied pair": (without(WORDS) | {"proj_out.weight": TENSORS[WORDS]}, True),
    "both of a tied pair": (TENSORS | {"proj_out.weight": TENSORS[WORDS]}, True),
    "an encoder beside": (TENSORS | {"model.encoder.conv1.weight": numbers((3, 2))}, True),
    "tied and different": (TENSORS | {"proj_out.weight": TENSORS[WORDS] + 1}, False),
    "tied and misshaped": (without(WORDS) | {"proj_out.weight": TENSORS[WORDS].T}, False),
    "renamed": (renamed("fc1", "fc3"), False),
    "a layer renamed": (renamed("layers.1.", "layers.2."), False),
    "missing": (without(f"{FIRST}fc1.bias"), False),
    "unknown": (TENSORS | {f"{FIRST}lora\x1b[31m": numbers(3)}, False),
    "transposed": (TENSORS | {f"{FIRST}fc1.weight": TENSORS[f"{FIRST}fc1.weight"].T}, False),
    "flattened": (TENSORS | {f"{FIRST}fc2.weight": TENSORS[f"{FIRST}fc2.weight"].ravel()}, False),
    "whole numbers": (cast(np.int32), False),
    "yes and no": (cast(np.bool_), False),
    "nothing": ({}, False),
    "zero sizes": (TENSORS | {f"{FIRST}fc1.weight": np.ones((0, M), np.float32)}, False),
    "scalars": (TENSORS | {f"{FIRST}fc1.bias": np.float32(1).reshape(())}, False),
}
CONFIG_CASES = {
    "heads 5": {"decoder_attention_heads": 5},
    "heads of a word": {"decoder_attention_heads": "3"},
    "heads of a list": {"decoder_attention_heads": [3]},
    "negative heads": {"decoder_attention_heads": -3},
    "no heads": {"decoder_attention_heads": 0},
    "another depth": {"decoder_layers": 4},
    "another width": {"d_model": 24},
    "another vocabulary": {"vocab_size": 12},
    "other positions": {"max_target_positions": 8},
    "another hidden width": {"decoder_ffn_dim": 48},
    "heads of 6": {"decoder_attention_heads": 6},
    "another activation": {"activation_function": "relu"},
}
RANDOM = {"flipped": (flipped, 12), "cut": (cut, 6), "spliced": (spliced, 6), "noise": (noise, 4)}


def cases(rng):
    """(kind, name, what writes the files, whether they are whole: None where either may be)."""
    for name, (tensors, good) in TENSOR_CASES.items():
        yield "tensors", name, lambda folder, t=tensors: whole(folder, t), good
    for name, change in CONFIG_CASES.items():
        yield "config", name, lambda folder, c=change: whole(folder, config=CONFIG | c), False
    for name, (content, _) in HEADERS.items():
        write = lambda folder, c=content: (folder / "model.safetensors").write_bytes(c)
        yield "header", name, write, False
    for name, (content, _) in INDICES.items():
        yield "index", name, lambda folder, c=content: (folder / INDEX).write_bytes(c), False
    for name, (content, _) in FOREIGN.items():
        yield "foreign", name, lambda folder, n=name, c=content: (folder / n).write_bytes(c), False
    for dtype in ("I8", "U8", "F8_E4M3", "F8_E5M2", "BOOL", "F4", "X"):
        write = lambda folder, d=dtype: (folder / "model.safetensors").write_bytes(quantised(d))
        yield "quantised", dtype, write, False
    for name in ("pytorch_model.bin", "model.pt", "model.safetensors"):
        write = lambda folder, n=name: (folder / n).write_bytes(pickle.dumps(Runs(folder / "ran")))
        yield "pickle", name, write, False
    yield "shards", "whole", lambda folder: sharded(folder, rng), True
    yield "shards", "one is not there", lambda folder: sharded(folder, rng, stray=True), False
    for name, (write, times) in RANDOM.items():
        for number in range(times):
            yield name, str(number), lambda folder, w=write: w(folder, rng), None


def loaded(folder):
    """("right" | "line" | what went wrong, the message)."""
    try:
        params = huggingface.load(folder, "whisper_decoder", module=module())
    except ImportMismatchError as error:
        return "line", str(error)
    except ValueError as error:
        said = str(error)
        return ("line" if "\n" not in said and said.isprintable() else "several lines"), said
    except Exception as error:
        return "traceback", repr(error)
    same = jax.tree.map(lambda a, b: a.tobytes() == np.asarray(b).tobytes(), params, PARAMS)
    return ("right" if all(jax.tree.leaves(same)) else "wrong numbers"), ""


def commanded(folder):
    """The same of the command, which knows no module."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            import_weights.main([str(folder), "--preset", "whisper_decoder"])
    except SystemExit as end:
        code = end.code
    except Exception as error:
        return "traceback", repr(error)
    said, line = out.getvalue(), err.getvalue()
    if not all(one.isprintable() for one in (said + line).splitlines()):
        return "control characters", said + line
    if code == 2:
        return ("line" if line.count("\n") == 1 and not said else "several lines"), line
    return ("right" if code == 0 and not line else "line" if code == 1 else "code"), said


def judged(outcome, good):
    if outcome not in ("right", "line"):
        return outcome
    if good is None or (outcome == "right") == good:
        return "as it should be"
    return "refused" if good else "believed"


def too_long(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def main(seed=0):
    """Print counts, and whatever is not as it should be; the number of these is the exit code."""
    rng, counts, bad = np.random.default_rng(seed), collections.Counter(), 0
    signal.signal(signal.SIGALRM, too_long)
    for kind, name, write, good in cases(rng):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write(folder)
            before = {path: path.read_bytes() for path in folder.iterdir()}
            for reader in (loaded, commanded):
                # Another activation or another divisor of the width only a module contradicts.
                module_only = name in ("another activation", "heads of 6")
                wanted = True if module_only and reader is commanded else good
                signal.alarm(SECONDS)
                outcome, said = reader(folder)
                signal.alarm(0)
                verdict = judged(outcome, wanted)
                if {path: path.read_bytes() for path in folder.iterdir()} != before:
                    verdict = "wrote files"
                counts[kind, reader.__name__, outcome] += 1
                if verdict != "as it should be":
                    bad += 1
                    print(f"{kind} {name!r} {reader.__name__}: {verdict}: {said[:300]!r}")
        counts["files"] += 1
    print(f"seed {seed}: {counts.pop('files')} files, {bad} not as they should be")
    for (kind, reader, outcome), number in sorted(counts.items()):
        print(f"  {kind:<10} {reader:<10} {outcome:<6} {number}")
    return bad


if __name__ == "__main__":
    raise SystemExit(min(1, main(*map(int, sys.argv[1:]))))
