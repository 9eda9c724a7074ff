"""Runs refuse bad values; suites name what they compare; every shipped suite is sound."""

import dataclasses
import importlib
import pkgutil

import numpy as np
import pytest

import configs
from crossattn.launch.meanings import setting_meanings
from crossattn.train import run as run_module
from crossattn.train.folder import Folder, FolderError
from crossattn.train.run import Data, Model, Optimizer, Run, replace
from crossattn.train.suite import Suite, grid

SUITES = [module.name for module in pkgutil.iter_modules(configs.__path__)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Run(steps=0), "steps must be positive, got 0"),
        (lambda: Run(batch_size=63), "batch_size 63 is not a multiple of data.texts_per_image 2"),
        (lambda: Model(width=10, heads=4), "width 10 is not a multiple of heads 4"),
        (lambda: Optimizer(warmup=1.5), "warmup is a share"),
        (lambda: Optimizer(learning_rate=-1.0), "learning_rate must be positive"),
        (lambda: Data(images=-100), "cannot be negative"),
        (lambda: replace(Run(), {"model.depth": 3}), "VisionLanguageConfig has no field 'depth'"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("build", [lambda: Model(heads=4.5), lambda: Data(tasks="caption")])
def test_fields_of_another_type_are_refused(build):
    # In tests the checker of annotations may be the first to notice.
    with pytest.raises((ValueError, TypeError), match=r"heads|tasks"):
        build()


@pytest.mark.parametrize(
    ("source", "field", "value", "message"),
    [
        (
            "scenes",
            "directory",
            "here",
            "data.directory is for source tfds and folder and recordings and published sets, not",
        ),
        (
            "scenes",
            "image_size",
            32,
            "data.image_size is for source tfds and folder and published sets, not",
        ),
        ("scenes", "caption_feature", "x", "data.caption_feature is for source tfds"),
        (
            "scenes",
            "flip",
            True,
            "data.flip is for source easy_vqa and tfds and folder and published sets, not",
        ),
        ("easy_vqa", "noise", 0.2, "data.noise is for source scenes, not for easy_vqa"),
        ("easy_vqa", "seed", 3, "data.seed is for source scenes, not for easy_vqa"),
        ("easy_vqa", "tasks", ("caption",), "easy_vqa has questions only"),
        ("easy_vqa", "question_feature", "q", "data.question_feature is for source tfds"),
        ("tfds", "features", "here", "data.features is for source scenes and easy_vqa and folder"),
        ("tfds", "seed", 1, "data.seed is for source scenes, not for tfds"),
        ("tfds", "tasks", ("refer",), "data.tasks refer is for source scenes"),
    ],
)
def test_what_a_source_does_not_take_is_refused(source, field, value, message):
    with pytest.raises(ValueError, match=message):
        Data(source=source, **{field: value})
    with pytest.raises(ValueError, match=f"variant v: {message}|variant v: .*{message}"):
        made(base=Run(data=Data(source=source)), variants={"a": {}, "v": {f"data.{field}": value}})


def test_replace_changes_fields_at_once():
    run = replace(Run(), {"model.context_view": "none"})
    assert run.model.context_view == "none"
    assert replace(run, {"model.context_view": "tokens"}) == Run()
    # Six heads do not divide the width of the base.
    changes = {"model.heads": np.int64(6), "data.tasks": ["caption"], "model.width": 96}
    wide = replace(Run(), changes)
    assert (wide.model.heads, wide.model.width, wide.data.tasks) == (6, 96, ("caption",))
    assert wide == replace(Run(), dict(reversed(changes.items())))
    assert type(wide.model.heads) is int


@pytest.mark.parametrize(
    "build",
    [
        lambda: replace(Run(), {"optimiser.clip": 0.5}),
        lambda: replace(Run(), {"optimiser": Optimizer(clip=0.5)}),
        lambda: Run(optimiser=Optimizer(clip=0.5)),
        lambda: Run(optimizer=run_module.Optimiser(clip=0.5)),
        lambda: made(variants={"a": {"optimiser.clip": 0.5}}).run("a"),
        lambda: replace(Run(), made(quick={"optimiser.clip": 0.5}).quick),
    ],
)
def test_the_former_name_of_the_optimizer_works_and_warns(build):
    with pytest.warns(DeprecationWarning, match=r"[Oo]ptimi[sz]er.* is now .*[Oo]ptimizer"):
        run = build()
    assert run == Run(optimizer=Optimizer(clip=0.5))


def test_the_former_and_the_present_name_at_once_are_refused():
    with pytest.raises(ValueError, match=r"optimiser\.clip is now optimizer\.clip: give one"):
        replace(Run(), {"optimiser.clip": 0.5, "optimizer.clip": 0.5})


def made(**fields):
    plain = {"name": "s", "title": "t", "base": Run(), "variants": {"a": {}}, "baseline": "a"}
    return Suite(**{**plain, "primary": "iid/accuracy", **fields})


def test_claims_and_quick_have_defaults():
    assert (made().claims, made().quick) == ((), {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.context_view": "all"}, "model.context_view takes one of tokens, .*, got 'all'"),
        ({"model.preset": "flamengo"}, "unknown preset 'flamengo', did you mean 'flamingo'"),
        ({"model.heads": 4.5}, "model.heads takes a whole number, got 4.5"),
        ({"model.heads": True}, "model.heads takes a whole number, got True"),
        ({"steps": "800"}, "steps takes a whole number, got '800'"),
        ({"model.width": 0}, "model.width must be positive, got 0"),
        ({"model.heads": 5}, "model.width 64 is not a multiple of heads 5"),
        ({"optimizer.learning_rate": float("nan")}, "learning_rate takes a finite number, got nan"),
        ({"data.tasks": "caption"}, "data.tasks takes a tuple of which each is one of question"),
        ({"data.texts_per_image": True}, "data.texts_per_image takes a whole number, got True"),
        ({"model.depth": 3}, "VisionLanguageConfig has no field 'depth'; it has preset, "),
        (
            {"model.block.cross_attention.heads": 2},
            r"AttentionConfig has no field 'heads': did you mean model\.heads\?$",
        ),
        ({"model.qk_norm": "rms"}, r"; within these .*model\.block\.cross_attention\.logits\.norm"),
        ({"steps.x": 3}, "steps is a value and has no field 'x'"),
        ({"model": 3}, "model takes a VisionLanguageConfig, got 3"),
        ({"model": Model(heads=2), "model.width": 8}, "model is changed as a whole and in part"),
        ({3: 1}, "a field is named by a text"),
        (None, "takes a dict of changes by field, got None"),
        (["steps"], "takes a dict of changes by field"),
        ({"data.noise": 0.5}, "changes data.noise, but all variants learn from the data"),
        ({"data.images": 200}, "changes data.images, but all variants learn from the data"),
        ({"model.image_encoder": "patch"}, "changes model.image_encoder, but all variants learn"),
        ({"model.contexts": ("image", "boxes")}, "changes model.contexts, but all variants"),
    ],
)
def test_a_variant_that_cannot_run_is_refused_when_the_suite_is_made(changes, message):
    with pytest.raises(ValueError, match=f"^suite s, variant v: .*{message}") as caught:
        made(variants={"a": {}, "v": changes})
    assert "\n" not in str(caught.value)


def test_a_variant_may_leave_out_what_the_data_have():
    both = Run(model=Model(contexts=("image", "boxes")))
    assert made(base=both, variants={"a": {}, "v": {"model.contexts": ("image",)}})


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "a\\b",
        "..",
        ".a",
        "-a",
        "a\nb",
        "a\x1b[1m",
        "",
        " ",
        "a ",
        "x" * 101,
        "क" * 80,
        3,
        "A",
    ],
)
def test_names_that_are_no_folder_are_refused(name):
    with pytest.raises(ValueError, match=r"^suite s: .*(name|upper and lower case)") as caught:
        made(variants={"a": {}, name: {}})
    assert "\n" not in str(caught.value)


def test_names_in_any_writing_are_taken():
    assert made(variants={"a": {}, "कख": {}, "lr=1e-3": {}, "with blanks": {}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"baseline": "b"}, "suite s: no variant b; there are a"),
        ({"claims": (("a", "b"),)}, "suite s: no variant b"),
        ({"claims": (("a", "a"),)}, "a claim compares a with itself"),
        ({"claims": ("a", "b")}, "claims takes a tuple of which each is a tuple of 2"),
        ({"variants": {}}, "variants is empty"),
        ({"variants": ["a"]}, "variants takes a dict"),
        ({"primary": "accuracy"}, "primary takes a metric of a split, like pairs/accuracy"),
        ({"primary": "iid/ accuracy"}, "primary takes a metric"),
        ({"primary": 3}, "primary takes a text, got 3"),
        ({"base": {}}, "base takes a Run"),
        ({"name": "a/b"}, "suite: name takes a name without slashes"),
        ({"title": "two\nlines"}, "title takes one line"),
        ({"notes": "one"}, "notes takes a tuple of which each is a text, got 'one'"),
        ({"learning_rates": ()}, "learning_rates takes different numbers over 0"),
        ({"quick": {"stps": 3}}, "suite s, quick: Run has no field 'stps'"),
        ({"quick": {"model.width": 6}}, "suite s, quick: .*multiple of heads"),
    ],
)
def test_a_suite_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        made(**fields)


def test_a_sweep_does_not_choose_what_a_variant_sets():
    with pytest.raises(ValueError, match=r"variant v: changes .*, which the s"):
        made(variants={"a": {}, "v": {"optimizer.learning_rate": 0.1}}, sweep=True)


def test_a_grid_is_every_combination_under_its_name():
    found = grid({"optimizer.name": ("adamw", "lion"), "model.heads": (1, 4)})
    assert list(found) == ["adamw, heads 1", "adamw, heads 4", "lion, heads 1", "lion, heads 4"]
    suite = made(variants=found, baseline="adamw, heads 4")
    run = suite.run("lion, heads 1")
    assert (run.optimizer.name, run.model.heads) == ("lion", 1)
    names = grid({"data.flip": (True, False), "data.tasks": (("question", "caption"),)})
    assert list(names) == ["flip, tasks question+caption", "no flip, tasks question+caption"]
    assert list(grid({"model.block.head_gate": (None, "tanh")})) == ["no head gate", "tanh"]


@pytest.mark.parametrize("values", [(), ("tanh", "tanh"), (None, False)])
def test_a_grid_of_values_that_are_named_alike_is_refused(values):
    with pytest.raises(ValueError, match=r"grid: model\.gate takes different values, got \("):
        grid({"model.heads": (1, 2), "model.gate": values})


# What a variant may change beside the model: how batches are made, and what is trained when.
TRAINED = {
    "frozen": ("optimizer.frozen", "optimizer.adapted"),
    "gating": ("optimizer.frozen", "optimizer.multiplied", "pretrain_text_steps"),
    "noise": ("data.mismatched",),
    "supervision": ("loss.attention", "loss.attention_heads"),
    "attention_losses": (
        *("loss.entropy", "loss.diversity"),
        *("loss.distillation", "loss.distillation_teacher", "optimizer.ema"),
    ),
    "gated_whisper": ("ignore_initial", "optimizer.frozen", "optimizer.adapted"),
    "retrieval": ("loss.next_word", "loss.contrastive", "loss.matching"),
    "relations": (
        *("loss.attention", "loss.attention_layers"),
        *("data.only_words", "data.curriculum_words", "data.curriculum_share"),
    ),
}


@pytest.mark.parametrize("name", SUITES)
def test_shipped_variants_change_the_model_or_what_is_trained(name):
    suite = importlib.import_module(f"configs.{name}").SUITE
    assert suite.name == name
    runs = {variant: suite.run(variant) for variant in suite.variants}
    for variant, changes in suite.variants.items():
        own = {path: to for path, to in changes.items() if path in TRAINED.get(name, ())}
        rest = dataclasses.replace(suite.base, model=runs[variant].model)
        assert runs[variant] == replace(rest, own), variant
    meanings = setting_meanings(suite)
    for path in dict.fromkeys(path for changes in suite.variants.values() for path in changes):
        assert any(f"{field}.".startswith(f"{path}.") for field in meanings), path
    every = [*runs.values()]
    assert all(every.count(run) == 1 for run in every)


def test_a_fusion_is_said_by_the_fields_that_have_replaced_it():
    fusion = importlib.import_module("configs.fusion").SUITE
    for name in fusion.variants:
        with pytest.warns(DeprecationWarning, match=r"model\.fusion is now "):
            run = replace(fusion.base, {"model.fusion": name})
        assert run == fusion.run(name)
    former = {"model.perception": "window", "model.expansion": 3, "model.contexts": ("layout",)}
    with pytest.warns(DeprecationWarning, match="is now"):
        model = replace(Run(), former).model
    assert (model.image_encoder, model.contexts) == ("window", ("boxes",))
    assert model.block.mlp.expansion == 3.0
    with pytest.raises(ValueError, match=r"model\.fusion is now model\.preset: give one"):
        replace(Run(), {"model.fusion": "co-attention", "model.preset": "meter"})


def test_what_a_save_left_in_a_removed_folder_is_nothing_foreign(tmp_path):
    suite = importlib.import_module(f"configs.{SUITES[0]}").SUITE
    left = tmp_path / "runs" / "blind" / "seed0" / "checkpoints" / "5.orbax-checkpoint-tmp"
    left.mkdir(parents=True)
    (left / "data").write_text("half")
    Folder(tmp_path).check(suite)
    (left.parent / "thesis.tex").write_text("precious")
    with pytest.raises(FolderError, match="is not empty and holds no suite"):
        Folder(tmp_path).check(suite)


def test_a_claimed_folder_that_is_gone_is_said(tmp_path):
    suite = importlib.import_module(f"configs.{SUITES[0]}").SUITE
    folder = Folder(tmp_path / "out")
    folder.path.mkdir()
    folder.claim(suite)
    folder.check_there()
    folder.path.rename(tmp_path / "other")
    with pytest.raises(FolderError, match="out was moved, removed or replaced while"):
        folder.check_there()


@pytest.mark.parametrize("encoder", ["features", "frames"])
def test_vectors_are_not_mirrored(encoder):
    """The features of a picture, turned round, are not those of the picture turned round."""
    data = Data("folder", flip=True)
    with pytest.raises(ValueError, match=f"flip mirrors pixels, and model.image_encoder {encoder}"):
        Run(data=data, model=Model(image_encoder=encoder))
    assert Run(data=data, model=Model(image_encoder="conv")).data.flip
