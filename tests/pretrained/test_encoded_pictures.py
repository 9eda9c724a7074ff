"""What a tower makes of pictures becomes the context of runs: small random towers."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from crossattn.data.encoded import seen_coverage
from crossattn.data.errors import DataError
from crossattn.data.sources import Data, load_source
from crossattn.pretrained import load_model
from crossattn.pretrained.encoded_features import encode_parts, of_pictures
from crossattn.pretrained.image_processor import ImageProcessor
from crossattn.train import step as steps
from crossattn.train.run import Model, Run
from crossattn.train.source import batches_of, load_dataset
from experiments import encode
from tests.support.pretrained import PICTURES, fixture, write

SIDE, COUNT = 24, 20
# Of a picture of 24 x 36 pixels: 12 x 18, of which the middle 12 x 12 are kept.
CROPPED = {key: value for key, value in PICTURES.items() if key != "size"}
CROPPED |= {"size": {"shortest_edge": 12}, "do_center_crop": True, "image_processor_type": "CLIP",
            "crop_size": {"height": 12, "width": 12}}  # fmt: skip


def write_set(folder, count=COUNT):
    """Pictures of 24 x 36 pixels with a mark in the left, middle or right third, and its mask."""
    (folder / "masks").mkdir(parents=True)
    rng, lines = np.random.default_rng(3), []
    for number in range(count):
        pixels = rng.integers(256, size=(SIDE, 36, 3), dtype=np.uint8)
        mask = np.zeros((SIDE, 36), np.uint8)
        mask[8:16, 12 * (number % 3) : 12 * (number % 3) + 12] = 1
        pixels[mask > 0] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"masks/{number}.png")
        place = ("left", "middle", "right")[number % 3]
        line = {"image": f"{number}.png", "question": "where is the mark?", "answer": place}
        split = "validation" if number < 3 else "test" if number < 6 else "train"
        lines.append(line | {"masks": {"mark": f"masks/{number}.png"}, "split": split})
    (folder / "texts.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "pictures")


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    _, state, config = fixture("vit")
    return write(tmp_path_factory.mktemp("towers") / "vit", state, config, preprocessing=CROPPED)


@pytest.fixture(scope="module")
def encoded(pictures, tower, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "vit"
    encode.main([str(tower), str(pictures), str(out)])
    return out


def run_of(pictures, out, **settings):
    data = Data("folder", directory=str(pictures), features=str(out), image_size=72, **settings)
    model = Model(width=8, layers=1, heads=2, image_encoder="features")
    return Run(data=data, model=model, batch_size=8)


def numbers(dataset, part, pictures):
    """Which picture of the folder each image of a part is."""
    keys = {}
    data = Data("folder", directory=str(pictures), image_size=72)
    for own in load_source(data, "patch").originals.values():
        keys |= {int(key): own.read(at) for at, key in enumerate(own.keys)}
    return [keys[int(key)] for key in dataset.original(part).keys]


def test_each_image_has_the_features_of_its_picture(pictures, tower, encoded):
    dataset, model = load_dataset(run_of(pictures, encoded)), load_model(tower)
    assert dataset.trained == COUNT - 6
    for name, part in dataset.held.items():
        own = numbers(dataset, name, pictures)
        wanted = model.patches(own).reshape(len(own), 9, -1)
        np.testing.assert_allclose(part.images, wanted, atol=1e-5)
        assert part.grid == (3, 3)
        assert dataset.pictures(np.arange(1), name).shape == (1, 24, 24, 3)


def test_a_row_behind_files_is_the_row_that_computes_them(pictures, tower, encoded):
    """Loss and gradient, with the tower within the program."""
    run, tower = run_of(pictures, encoded), load_model(tower)
    dataset = load_dataset(run)
    batch = jax.tree.map(jnp.asarray, batches_of(run, dataset.train, 0).batch(0))
    rows = batches_of(run, dataset.train, 0).picked(0).rows[:: run.data.texts_per_image]
    own = numbers(dataset, "train", pictures)
    pixels = tower.pixels([own[at] for at in dataset.train.image[rows]])
    model = steps.model_of(run, len(dataset.vocabulary))
    params = jax.jit(lambda: steps.initial_state(model, _Nothing(), 0, batch).params)()

    def loss(params, pixels):
        tokens = tower.module.apply(tower.params, pixels)[:, 1:]
        seen = jax.lax.stop_gradient(tokens)
        return steps.objective(model, params, batch._replace(images=seen))[0]

    plain = lambda params: steps.objective(model, params, batch)[0]
    one = jax.jit(jax.value_and_grad(loss))(params, jnp.asarray(pixels))
    other = jax.jit(jax.value_and_grad(plain))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, other)


class _Nothing:
    init = staticmethod(lambda params: ())


def test_regions_follow_the_crop(pictures, encoded):
    """Of 36 columns the middle 24 are seen, by 3 patches of 8: those of the mark hold it alone."""
    dataset = load_dataset(run_of(pictures, encoded))
    thirds = {"left": [0.75, 0, 0], "middle": [0.25, 1, 0.25], "right": [0, 0, 0.75]}
    seen = 0
    for name, part in dataset.held.items():
        for row in range(len(part)):
            answer = part.vocabulary[part.tokens[row, part.answer[row]]]
            mark = part.words(row).split().index("mark")
            where = part.regions([row])[0, mark].reshape(3, 3)
            wanted = np.zeros((3, 3))
            wanted[1] = thirds[answer]
            np.testing.assert_allclose(where, wanted, atol=1e-6)
            mask = dataset.masks(part.image[[row]], name)[0]
            np.testing.assert_allclose(
                (mask > 0).reshape(3, 8, 3, 8).mean((1, 3)), wanted, atol=1e-6
            )
            seen += 1
    assert seen == COUNT


def test_what_is_cropped_off_has_no_region(tmp_path, tower):
    """A mark at the very border, which no token sees: its word has none, and the others theirs."""
    folder = write_set(tmp_path / "set")
    for number in range(COUNT):
        mask = np.zeros((SIDE, 36), np.uint8)
        mask[:, :6] = 1
        Image.fromarray(mask).save(folder / f"masks/{number}.png")
    encode.main([str(tower), str(folder), str(tmp_path / "out")])
    dataset = load_dataset(run_of(folder, tmp_path / "out"))
    for part in dataset.held.values():
        assert not part.coverage.any()
        assert not part.grounded.any()


def test_any_window_shares_its_tokens_exactly():
    """Against a picture that is blown up so far that all edges are pixels' edges."""
    rng = np.random.default_rng(0)
    areas = rng.random((2, 6, 8)) < 0.5
    seen, grid = (-1 / 6, 0.125, 5 / 6, 1.25), (3, 3)
    large = areas.repeat(6, 1).repeat(6, 2)
    padded = np.zeros((2, 48, 66), bool)
    padded[:, 6:42, :48] = large
    kept = padded[:, 0:36, 6:60]
    wanted = kept.reshape(2, 3, 12, 3, 18).mean((2, 4)).reshape(2, -1)
    np.testing.assert_allclose(seen_coverage(areas, seen, grid), wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (7, 9), (64, 64)])
@pytest.mark.parametrize("crop", [None, (8, 8), (11, 14)])
@pytest.mark.parametrize("size", [{"shortest": 10}, {"size": (12, 9)}, {}])
def test_the_window_of_a_processor_is_what_it_keeps(shape, crop, size):
    """A picture whose columns and rows say where they are, resized and cropped."""
    processor = ImageProcessor(crop=crop, resample=2, **size)
    h, w = shape
    where = np.zeros((h, w, 3), np.uint8)
    where[..., 0] = 50 + 200 * (np.arange(h)[:, None] + 0.5) / h
    where[..., 1] = 50 + 200 * (np.arange(w) + 0.5) / w
    kept = processor.fitted(where).astype(float)
    rows, columns = kept.shape[:2]
    top, left, bottom, right = processor.window((h, w), (rows, columns))
    for axis, count, low, high in ((0, rows, top, bottom), (1, columns, left, right)):
        found = (kept[..., axis].max(1 - axis) - 50) / 200
        wanted = low + (high - low) * (np.arange(count) + 0.5) / count
        inner = (wanted > 0.2) & (wanted < 0.8)
        assert inner.any()
        np.testing.assert_allclose(found[inner], wanted[inner], atol=0.06)
        assert (found[(wanted < 0) | (wanted > 1)] < 0).all()


def test_it_goes_on_where_it_was_killed(pictures, tower, encoded, tmp_path, monkeypatch):
    model = load_model(tower)
    dataset = load_source(Data("folder", directory=str(pictures)), "patch")
    read, originals = [], {}
    for name, own in dataset.originals.items():
        whole = lambda at, own=own: read.append(at) or own.read(at)
        originals[name] = own._replace(read=whole)
    frozen = of_pictures(model, "vit")
    calls = []

    def killed(pictures):
        calls.append(len(pictures))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return frozen.encode(pictures)

    with pytest.raises(KeyboardInterrupt):
        encode_parts(frozen._replace(encode=killed), originals, tmp_path / "out")
    partial = tmp_path / "out/train.npy.partial"
    assert partial.exists()
    with partial.open("ab") as file:
        file.write(b"half of a row")
    first = len(read)
    assert encode_parts(frozen, originals, tmp_path / "out") == COUNT
    assert len(read) == COUNT + 4  # those of the group that was lost are read twice
    assert first == 12
    assert not partial.exists()
    for name in originals:
        one, other = (np.load(place / f"{name}.npy") for place in (tmp_path / "out", encoded))
        assert one.tobytes() == other.tobytes()
    assert encode_parts(frozen, originals, tmp_path / "out") == COUNT
    assert len(read) == COUNT + 4


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        encode.main([*map(str, arguments)])
    assert end.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def test_features_of_another_tower_or_set_are_refused(pictures, tower, encoded, tmp_path, capsys):
    _, state, config = fixture("vit")
    changed = {name: tensor + 0.1 for name, tensor in state.items()}
    other = write(tmp_path / "other", changed, config, preprocessing=CROPPED)
    capsys.readouterr()
    said = refused(capsys, other, pictures, encoded)
    assert "holds features of another encoder, vit (" in said
    assert said.endswith("name another folder")
    stranger = write_set(tmp_path / "stranger", count=17)
    pixels = np.zeros((SIDE, 36, 3), np.uint8)
    Image.fromarray(pixels).save(stranger / "12.png")
    assert "train.npy is of another set" in refused(capsys, tower, stranger, encoded)
    with pytest.raises(DataError, match=r"train\.npy lacks 1 of the 11 images"):
        load_dataset(run_of(stranger, encoded))
    damaged = shutil.copytree(encoded, tmp_path / "damaged") / "train.npy"
    damaged.write_bytes(damaged.read_bytes()[:50])
    assert f"{damaged} is damaged: remove it" in refused(capsys, tower, pictures, damaged.parent)
    # A run knows whose features it learnt from.
    marked = load_dataset(run_of(pictures, encoded)).fingerprint
    encode.main([str(other), str(pictures), str(tmp_path / "out")])
    with pytest.raises(DataError, match=f"not {marked}"):
        load_dataset(run_of(pictures, tmp_path / "out", fingerprint=marked))


def test_fewer_pictures_and_another_order_find_theirs(pictures, encoded):
    whole = load_dataset(run_of(pictures, encoded))
    few = load_dataset(run_of(pictures, encoded, images=5))
    np.testing.assert_array_equal(few.train.images, whole.train.images[:5])
    assert isinstance(few.train.images.base, np.memmap)


def test_models_and_sources_that_cannot_be_are_refused(pictures, tower, tmp_path, capsys):
    for data, said in (
        (tmp_path / "none", "there is no folder"),
        (tmp_path, "has no file of texts"),
    ):
        assert said in refused(capsys, tower, data, tmp_path / "out")
    options = ["--data.source", "tfds"]
    said = refused(capsys, tower, pictures, tmp_path / "out", *options)
    assert "data.source tfds: choose one of scenes, " in said
    options = ["--data.source", "recordings"]
    said = refused(capsys, tower, pictures, tmp_path / "out", *options)
    assert "is no model of speech" in said
    assert not os.path.exists(tmp_path / "out")


def test_what_is_no_fault_of_the_user_is_not_hidden(pictures, tower, tmp_path, monkeypatch):
    def broken(*given):
        raise ValueError("a fault of this program")

    monkeypatch.setattr(encode, "encode_parts", broken)
    with pytest.raises(ValueError, match="a fault of this program"):
        encode.main([str(tower), str(pictures), str(tmp_path / "out")])


def test_models_and_sources_that_are_broken_are_refused(pictures, tower, tmp_path, capsys):
    options = ["--data.source", "emojis"]
    assert "data.source has no 'emojis'" in refused(capsys, tower, pictures, tmp_path, *options)
    _, state, config = fixture("vit")
    del state["layernorm.bias"]
    torn = write(tmp_path / "torn", state, config)
    with pytest.raises(SystemExit) as end:
        encode.main([str(torn), str(pictures), str(tmp_path / "out")])
    assert end.value.code == 2
    title, _, row = capsys.readouterr().err.splitlines()
    assert title == "encode: 1 tensor does not fit vit"
    assert row.split()[:2] == ["missing", "layernorm.bias"]


@pytest.mark.slow
def test_scenes_are_pictures_too(tower, tmp_path):
    out = tmp_path / "out"
    settings = {"images": 100, "evaluation_images": 100}
    options = [f"--data.{name.replace('_', '-')}={value}" for name, value in settings.items()]
    encode.main([str(tower), "scenes", str(out), *options])
    data = Data("scenes", **settings, features=str(out))
    dataset = load_dataset(Run(data=data, model=Model(image_encoder="features")))
    whole = load_source(Data("scenes", **settings), "patch").original("iid").read(7)
    wanted = load_model(tower).patches([whole]).reshape(9, -1)
    np.testing.assert_allclose(dataset.splits["iid"].images[7], wanted, atol=1e-5)
    assert dataset.train.grid == (3, 3)
    assert dataset.pictures(np.arange(2)).shape == (2, 24, 24, 3)
