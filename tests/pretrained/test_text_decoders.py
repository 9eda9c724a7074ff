"""A run that starts with a published decoder: its words to the bit, and only new layers move."""

import dataclasses
import gc
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.dataset import Dataset
from crossattn.interop.files import WeightsError
from crossattn.models.interventions import capture
from crossattn.models.reading_layers import readings
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import Stack, presets
from crossattn.nn.parameters import chosen
from crossattn.pretrained import load_model
from crossattn.pretrained.text_decoders import decoder_parameters, write_decoder
from crossattn.train.initial import FILE, InitialError, initial_parameters, put_in
from crossattn.train.loop import TrainPrograms, fit
from crossattn.train.predictions import evaluation_step
from crossattn.train.record import RunRecord, library_versions, write_record
from crossattn.train.run import Data, Model, Optimizer, Run, replace
from crossattn.train.source import batches_of
from crossattn.train.step import forward, inputs_of
from crossattn.train.trained import load_trained
from experiments import ablate
from experiments import decoder as command
from tests.support.whisper import peer, write_folder

pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")

FROZEN = "params/(words|position|norm|logits)|groups/text"
SPECIAL = {"<pad>": 20, "<bos>": 21, "<eos>": 20}
SIZES = {"model.width": 12, "model.heads": 3, "model.layers": 2, "model.block.mlp.expansion": 4 / 3}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A random Whisper in the true format."""
    about, _, state = peer()
    return load_model(write_folder(tmp_path_factory.mktemp("whisper"), about, state))


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory):
    there = tmp_path_factory.mktemp("decoder")
    write_decoder(published, there)
    return there


@pytest.fixture(scope="module")
def examples():
    return scenes.examples("train", 100, seed=0)


@pytest.fixture(scope="module")
def words(examples):
    """As many as the scenes have, of them two in one and one that nobody knows."""
    more = [f"w{n} w{n + 1}" for n in range(len(examples.vocabulary))]
    known = [*SPECIAL, "<unknown>", *(f"w{n}" for n in range(20)), *more]
    return tuple(known[: len(examples.vocabulary)])


@pytest.fixture(scope="module")
def run(folder):
    base = Run(
        data=Data(images=100, evaluation_images=100),
        model=Model(preset="flamingo", text_preset="whisper"),
        optimizer=Optimizer(learning_rate=0.05, frozen=FROZEN),
        steps=6,
        batch_size=10,
        checkpoint_every=2,
        initial=str(folder),
    )
    return replace(base, SIZES)


@pytest.fixture(scope="module")
def programs(run, words):
    return TrainPrograms(run, words)


@pytest.fixture(scope="module")
def batch(run, examples):
    return jax.tree.map(jnp.asarray, batches_of(run, examples, 0).batch(0))


@pytest.fixture(scope="module")
def finished(programs, run, examples, tmp_path_factory):
    return fit(programs, batches_of(run, examples, 0), tmp_path_factory.mktemp("whole"))


def rows_of(published, words):
    """Numbers of published tokens, one or several for each word; None: all."""
    ids = [SPECIAL.get(word) or published.tokenizer.encode(word).ids for word in words]
    return [None if word == "<unknown>" else one for word, one in zip(words, ids, strict=True)]


def alone(published, words):
    """Logits of the published decoder for these words, as a program of its parameters.

    It hears nothing: its context has no token.
    """
    whole, params = published.model.decoder, dict(published.params["params"]["decoder"])
    table = np.asarray(params["words"]["embedding"])
    ids = rows_of(published, words)
    rows = [table[slice(None) if one is None else np.atleast_1d(one)].mean(0) for one in ids]
    cut = whole.clone(vocab_size=len(words))
    params["words"] = {"embedding": jnp.stack(rows)}
    nothing = lambda tokens: jnp.zeros((len(tokens), 0, whole.stack.width))
    return jax.jit(lambda tokens: cut.apply({"params": params}, tokens, nothing(tokens))[0])


def test_at_the_start_it_says_what_the_published_decoder_says(
    published, programs, words, batch, run
):
    wanted = alone(published, words)(batch.tokens[:, :-1])
    state = programs.create(0, batch)
    say = jax.jit(lambda params, visible: forward(programs.model, params, batch, visible)[0])
    seen = jnp.ones(batch.coverage.shape[::2], bool)
    for visible in (seen, ~seen):
        np.testing.assert_array_equal(say(state.params, visible), wanted)
    other = programs.create(1, batch).params["params"]
    kernel = lambda params: params["encoder"]["embed"]["kernel"]
    assert (kernel(other) != kernel(state.params["params"])).any()
    drawn = TrainPrograms(dataclasses.replace(run, initial=""), len(words)).create(0, batch)
    assert np.abs(say(drawn.params, seen) - wanted).max() > 0.1


@pytest.mark.slow
def test_so_it_does_with_few_reading_layers_and_with_adapters(published, words, batch, run):
    wanted = alone(published, words)(batch.tokens[:, :-1])
    seldom = TrainPrograms(replace(run, {"model.cross_every": 2}), words)
    (every_second,) = readings(seldom.model.config)
    assert every_second.layers == 1
    params = seldom.create(0, batch).params
    assert jnp.array_equal(forward(seldom.model, params, batch)[0], wanted)
    low_rank = TrainPrograms(replace(run, {"optimizer.adapted": "text0/mlp"}), words)
    params = low_rank.create(0, batch).evaluated
    np.testing.assert_array_equal(forward(low_rank.model, params, batch)[0], wanted)


def named(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def test_only_the_new_layers_and_the_encoder_move(programs, batch, finished):
    before, after = named(programs.create(0, batch).params), named(finished.params)
    still = {path for path in before if bool((before[path] == after[path]).all())}
    assert still - set(chosen(FROZEN, before)) <= {
        path for path in before if path.endswith("key/bias")
    }
    assert set(chosen(FROZEN, before)) <= still
    assert any("gate" in path for path in before.keys() - still)


class KilledError(Exception):
    pass


def test_killed_and_resumed_it_is_the_same_and_is_read_again(
    programs, run, examples, words, finished, tmp_path
):
    def kill(step, metrics):
        if step == 3:
            raise KilledError

    write_record(tmp_path, RunRecord("tiny", "gated", 0, run, library_versions()))
    with pytest.raises(KilledError):
        fit(programs, batches_of(run, examples, 0), tmp_path, progress=kill)
    again = fit(programs, batches_of(run, examples, 0), tmp_path)
    same = lambda one, other: bool((one == other).all())
    assert all(jax.tree.leaves(jax.tree.map(same, again, finished)))
    # Nothing of the folder is needed any more.
    of = RunRecord("tiny", "gated", 0, dataclasses.replace(run, initial="nowhere"), {})
    spelt = dataclasses.replace(examples, vocabulary=words)
    source = Dataset(spelt, {"test": spelt}, main="test")
    trained = load_trained(tmp_path, of, source)
    assert all(jax.tree.leaves(jax.tree.map(same, trained.params, finished.params)))


def test_maps_are_those_of_the_new_layers(programs, finished, batch):
    """What is pointed with, and what interventions change, is the attention of the new layers."""
    model, visible = programs.model, jnp.ones(batch.coverage.shape[::2], bool)
    (reading,) = readings(model.config)
    assert reading.path == ("stack", "groups", "reading", "cross_attention")

    @jax.jit
    def run(params):
        _, found = capture(model, params, inputs_of(batch))
        return found.map, evaluation_step(model, params, batch, visible)[2]

    maps, look = run(finished.params)
    np.testing.assert_allclose(maps.mean(2), look.attention, atol=1e-6)
    np.testing.assert_array_equal(maps.argmax(-1).swapaxes(2, 3), look.peak)
    assert maps.shape[::2] == (2, 3, batch.coverage.shape[-1])


def refused(run, words, **changes):
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    with pytest.raises(InitialError) as error:
        initial_parameters(replace(run, changed), words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_does_not_fit_is_said_in_a_line(run, words, folder, tmp_path):
    said = refused(run, words, model__width=24)
    assert "of model.width 12, this run has 24: type --model.width 12" in said
    assert "--model.text-preset whisper" in refused(run, words, model__text_preset="")
    said = refused(run, words, initial=str(tmp_path / "no"))
    assert re.search("cannot read .*: No such file .*: type python -m experiments.decoder", said)
    (tmp_path / FILE).write_bytes(b"damaged")
    assert "it is damaged, or no archive" in refused(run, words, initial=str(tmp_path))
    whole = (folder / "decoder.npz").read_bytes()
    (tmp_path / "decoder.npz").write_bytes(whole[: len(whole) // 2])
    assert "it is damaged, or no archive" in refused(run, words, initial=str(tmp_path))
    gc.collect()  # A file that stayed open is an error here, not in whatever test runs by then.
    np.savez(tmp_path / "decoder.npz", x=np.ones(2))
    assert "it is damaged, or no archive" in refused(run, words, initial=str(tmp_path))
    assert "only the number is known" in refused(run, len(words))
    with pytest.raises(ValueError, match=r"model\.text_preset whisper is a decoder like whisper"):
        Model(text_preset="whisper")
    with pytest.raises(ValueError, match=r"unknown|no preset"):
        Model(preset="flamingo", text_preset="whispr")


def test_decoders_of_another_kind_are_refused(published, tmp_path):
    stack = Stack(1, 8, 2, presets.config("whisper"))
    for other in (
        TextDecoder(stack, 11, 6, untied=True),
        TextDecoder(stack, 11, 6, first_norm=True),
    ):
        with pytest.raises(WeightsError, match="a decoder like Whisper's: learned positions"):
            decoder_parameters(other, {})
    with pytest.raises(WeightsError, match="not of a TextDecoder"):
        write_decoder(published.model.decoder, tmp_path)


def test_the_command_writes_what_a_run_reads(published, folder, tmp_path, capsys):
    about, _, state = peer()
    source = tmp_path / "whisper"
    source.mkdir()
    write_folder(source, about, state)
    command.main([str(source), str(tmp_path / "out")])
    assert "start runs with them by --initial" in capsys.readouterr().out
    with np.load(folder / FILE) as one, np.load(tmp_path / "out" / FILE) as other:
        assert set(one.files) == set(other.files)
        assert all((one[name] == other[name]).all() for name in one.files)
    with pytest.raises(SystemExit) as stopped:
        command.main(["whisper-tiny", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "there is no folder whisper-tiny" in capsys.readouterr().err


@pytest.mark.slow
def test_the_published_decoder_of_the_package_to_the_bit(tmp_path):
    """Whisper tiny.en: logits of words that it has itself are those of its own decoder."""
    try:
        whisper = load_model("whisper-tiny.en")
    except WeightsError as error:
        pytest.skip(str(error))
    write_decoder(whisper, tmp_path)
    said = whisper.tokenizer.encode("is there a red apple in the upper right?").tokens
    words = ("<pad>", "<bos>", "<eos>", *dict.fromkeys(said[1:]))
    known = {"<bos>": whisper.special.start, "<eos>": whisper.special.end}
    known["<pad>"] = whisper.special.end
    ids = np.array([known.get(word, whisper.tokenizer.token_to_id(word)) for word in words])
    sizes = {"model.width": 384, "model.heads": 6, "model.layers": 4}
    base = Run(model=Model(preset="flamingo", text_preset="whisper"), initial=str(tmp_path))
    run = replace(base, sizes)
    tokens = jnp.arange(len(words))[None] % len(words)
    own, params = whisper.model.decoder, dict(whisper.params["params"]["decoder"])
    params["words"] = {"embedding": params["words"]["embedding"][ids]}
    own = own.clone(vocab_size=len(words))
    wanted, _ = jax.jit(own.apply)({"params": params}, tokens, jnp.zeros((1, 0, 384)))
    programs = TrainPrograms(run, words)
    inputs = {"images": jnp.ones((1, 64, 15)), "visible": jnp.ones((1, 64), bool)}
    inputs |= {"truth": jnp.ones((*tokens.shape, 64), bool), "prompt": tokens > 0}
    drawn = jax.jit(programs.model.init)(jax.random.key(0), tokens, **inputs)
    params = put_in(drawn, initial_parameters(run, words))
    logits, _ = jax.jit(programs.model.apply)(params, tokens, **inputs)
    np.testing.assert_array_equal(logits, wanted)


@pytest.mark.slow
def test_the_suite_runs_to_its_report(folder, tmp_path):
    """With a tiny decoder in the place of Whisper's."""
    options = {"initial": folder, "data.images": 200, "data.evaluation-images": 100}
    options |= SIZES | {"steps": 2, "checkpoint-every": 2, "batch-size": 8, "seeds": 1}
    spelt = [part for name, to in options.items() for part in (f"--{name}", str(to))]
    rows = ["--variants", "random-decoder", "trained-decoder"]
    ablate.main(["gated_whisper", "--quick", *spelt, *rows, "--out", str(tmp_path / "out")])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {one["variant"] for one in results["runs"]} == {"gated", *rows[1:]}
