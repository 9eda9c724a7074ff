"""The command that shows what of a checkpoint fits."""

import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from crossattn.interop import huggingface
from crossattn.interop.module_code import TEXTS
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import BlockConfig, QFormer, Stack, presets
from crossattn.nn.families.latents import Latents
from experiments import import_weights
from tests.support.fixtures import read
from tests.support.stream_fixtures import CASES

MAPS = [("q", (6, 4)), ("k", (6, 5)), ("v", (6, 5)), ("o", (4, 6))]


@pytest.fixture
def checkpoint(tmp_path):
    """Two layers of T5's cross-attention in a model with other tensors."""
    tensors = {"shared.weight": np.ones((11, 4), np.float32)}
    for layer in range(2):
        under = f"decoder.block.{layer}.layer.1."
        for name, shape in MAPS:
            tensors[f"{under}EncDecAttention.{name}.weight"] = np.ones(shape, np.float16)
        tensors[f"{under}layer_norm.weight"] = np.ones(4, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path, tensors


def test_what_fits(checkpoint, capsys):
    folder, tensors = checkpoint
    import_weights.main([str(folder), "--preset", "t5", "--prefix", "decoder.block.{i}.layer.1."])
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if ".k.weight" in line)
    assert line.split() == [
        "decoder.block.{i}.layer.1.EncDecAttention.k.weight",
        *("2", "x", "6x5", "F16", "cross_attention/key/kernel"),
    ]
    parameters = sum(tensor.size for name, tensor in tensors.items() if name != "shared.weight")
    assert f"10 tensors with {parameters} parameters fit" in said
    assert "0 unknown, 0 missing, 0 misshaped; 1 of the 11 tensors belong to" in said
    program = said.splitlines()[-1]
    found = {}
    exec(program, found)
    assert found["params"]["params"]["cross_attention"]["key"]["kernel"].shape == (2, 5, 6)


def test_what_does_not_fit(checkpoint, capsys):
    folder, tensors = checkpoint
    under = "decoder.block.1.layer.1."
    del tensors[f"{under}layer_norm.weight"]
    tensors[f"{under}lora"] = np.ones(3, np.float32)
    tensors[f"{under}EncDecAttention.o.weight"] = np.ones((4, 7), np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SystemExit) as end:
        import_weights.main(
            [str(folder), "--preset", "t5", "--prefix", "decoder.block.{i}.layer.1."]
        )
    assert end.value.code == 1
    said = capsys.readouterr().out
    for row in (f"unknown    {under}lora", f"missing    {under}layer", f"misshaped  {under}Enc"):
        assert row in said
    assert "8 tensors" in said
    assert "1 unknown, 1 missing, 1 misshaped; 1 of the 11" in said
    assert "huggingface.load" not in said


def test_where_to_look(checkpoint, capsys):
    folder, _ = checkpoint
    with pytest.raises(SystemExit) as end:
        import_weights.main([str(folder), "--preset", "t5"])
    assert end.value.code == 1
    hint, command = capsys.readouterr().out.splitlines()[-2:]
    assert "under the prefix" in hint
    program, *arguments = command.split(" ", 3)[2:]
    assert program == "experiments.import_weights"
    import_weights.main(shlex.split(arguments[0]))
    assert "10 tensors" in capsys.readouterr().out


FILES = {of.names: name for name, of in CASES.items() if of.names is not None}
# Whose files are other layouts of these names, and "perceiver" has no module of its own.
FILES |= {name: name for name in ("t5gemma_layer", "idefics_cross", "flamingo", "mllama_cross")}
OURS = (
    {
        of.names
        for of in CASES.values()
        if of.names in presets.names() and presets.get(of.names).family == "block"
    }
    | {"qformer"}
    | {*TEXTS}
)


@pytest.mark.parametrize("name", sorted({*FILES.values()}))
def test_the_module_that_it_prints_takes_the_parameters(name, tmp_path, capsys):
    peer, of = read(name), CASES[name]
    save_file(dict(peer.state), tmp_path / "model.safetensors")
    import_weights.main([str(tmp_path), "--preset", of.names, *prefixed(peer)])
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if line.startswith(("from ", "design = ", "module = "))]
    found = {"heads": peer.settings.get("heads"), "queries": peer.settings.get("queries")}
    exec("\n".join(lines), found)
    assert ("module" in found) == (of.names in OURS)
    if "module" not in found:
        return
    params = found["params"]["params"]
    if isinstance(found["module"], Stack):
        params = {"blocks": params}
    inputs, where = jax.tree.map(jnp.asarray, given(peer, found["module"])), {}
    design = getattr(found["module"], "config", BlockConfig())
    own, cross = design.self_attention.positions, design.cross_attention.positions
    placed = {"query_positions": own or cross, "key_positions": cross}
    for (name, used), x in zip(placed.items(), inputs, strict=False):
        if used:
            where[name] = jnp.ones((1, x.shape[1], 1))
    run = lambda: found["module"].init(jax.random.key(0), *inputs, **where)
    needed = dict(jax.eval_shape(run)["params"])
    if isinstance(found["module"], QFormer):
        needed.pop("queries")
    assert shapes(params) == shapes(needed)


def prefixed(peer):
    return ["--prefix", peer.settings["prefix"]] if "prefix" in peer.settings else []


def given(peer, module):
    arrays = peer.cases[""]
    if isinstance(module, Latents):
        return (arrays["in/context"],)
    if isinstance(module, QFormer):
        queries = peer.settings["queries"]
        words = arrays["in/x"][:, queries:]
        return arrays["in/context"], words if words.shape[1] else None
    if isinstance(module, TextDecoder):
        return jnp.asarray(arrays["in/tokens"], jnp.int32), arrays["in/context"]
    if "in/x" in arrays:
        return arrays["in/x"], arrays["in/context"]
    return tuple(jnp.ones((1, 2, module.width)) for _ in range(2))


def shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["NOWHERE", "--preset", "t5"], "there is no file or folder"),
        (["EMPTY", "--preset", "t5"], "holds no safetensors file"),
        (["EMPTY", "--preset", "mlama"], "no preset 'mlama' to import: did you mean mllama?"),
        (["EMPTY", "--preset", "flamingo"], "models of its kind are idefics and mllama"),
        (["EMPTY"], "no --preset given: choose one of encoder_decoder_pre, cappa"),
        (["EMPTY", "--preset", "t5", "--prefx", "a."], "--prefx"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, arguments, said):
    (tmp_path / "empty").mkdir()
    places = {"NOWHERE": str(tmp_path / "nowhere"), "EMPTY": str(tmp_path / "empty")}
    with pytest.raises(SystemExit) as end:
        import_weights.main([places.get(word, word) for word in arguments])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("import_weights: ")
    assert said in line


def test_help_names_the_presets(capsys):
    with pytest.raises(SystemExit) as end:
        import_weights.main(["--help"])
    assert end.value.code in (0, None)
    said = capsys.readouterr().out
    assert all(name in said for name in huggingface.importable())
    assert "{i}" in said


def test_names_in_errors_are_escaped(tmp_path, capsys):
    folder = tmp_path / "a\x1b[31m\n\u202egpj"
    with pytest.raises(SystemExit):
        import_weights.main([str(folder), "--preset", "t5"])
    said = capsys.readouterr().err
    assert said.endswith("a\\x1b[31m\\n\\u202egpj\n")
    assert said.count("\n") == 1


def test_only_some_parts(checkpoint, capsys):
    folder, tensors = checkpoint
    for name in [name for name in tensors if "layer_norm" in name]:
        del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    prefix = ["--prefix", "decoder.block.{i}.layer.1."]
    call = [str(folder), "--preset", "t5", *prefix, "--parts"]
    import_weights.main([*call, "cross_attention/query", "cross_attention/key"])
    said, found = capsys.readouterr().out, {}
    assert "4 tensors with" in said
    assert "0 missing" in said
    exec(said.splitlines()[-1], found)
    assert found["params"]["params"]["cross_attention"].keys() == {"query", "key"}
    with pytest.raises(SystemExit) as end:
        import_weights.main([*call, "crossattention"])
    assert end.value.code == 2
    assert "t5 has no part 'crossattention': there are cross_attention" in capsys.readouterr().err


def test_bad_input_is_a_line_and_a_fault_of_the_program_is_not(checkpoint, capsys, monkeypatch):
    folder, _ = checkpoint
    whole, config = (folder / "model.safetensors").read_bytes(), folder / "config.json"
    call = [str(folder), "--preset", "t5", "--prefix", "decoder.block.{i}.layer.1."]
    numbered = [*call[:-1], "a{i}b{i}"]

    def refused(arguments):
        with pytest.raises(SystemExit) as end:
            import_weights.main(arguments)
        said = capsys.readouterr()
        assert (end.value.code, said.out, said.err.count("\n")) == (2, "", 1)
        return said.err

    assert "there is no file or folder" in refused([str(folder / "none"), *call[1:]])
    assert "prefix 'a{i}b{i}' numbers layers" in refused(numbered)
    for content in ('{"num_heads": ', "[1]", "[" * 100_000):
        config.write_text(content)
        assert "config.json is damaged" in refused(call)
    config.unlink()
    for size in (300, 5, 0):
        (folder / "model.safetensors").write_bytes(whole[:size])
        assert "is cut short" in refused(call)

    def broken(*given, **named):
        raise ValueError("a fault of this program")

    monkeypatch.setattr(huggingface, "look", broken)
    (folder / "model.safetensors").write_bytes(whole)
    with pytest.raises(ValueError, match="a fault of this program"):
        import_weights.main(call)


def test_names_of_tensors_are_escaped_and_what_is_ignored_is_listed(checkpoint, capsys):
    folder, tensors = checkpoint
    under = "decoder.block.0.layer.1."
    tensors[f"{under}EncDecAttention.relative_attention_bias.weight"] = np.ones((3, 4), np.float32)
    call = [str(folder), "--preset", "t5", "--prefix", "decoder.block.{i}.layer.1."]
    save_file(tensors, folder / "model.safetensors")
    import_weights.main(call)
    said = capsys.readouterr().out
    assert f"1 ignored, as the class itself does: {under}EncDecAttention.relative" in said
    save_file(tensors | {f"{under}\x1b[2J\nfits\u202e": np.ones(2)}, folder / "model.safetensors")
    with pytest.raises(SystemExit) as end:
        import_weights.main(call)
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert f"unknown  {under}\\x1b[2J\\nfits\\u202e  (2)" in said
    assert all(line.isprintable() for line in said.splitlines())
