"""The command that writes what is on a picture."""

import numpy as np
import pytest
from PIL import Image

from experiments import caption
from tests.support.pretrained import fixture, folder_of, write


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A picture, a model that captions and one that answers."""
    folder = tmp_path_factory.mktemp("there")
    pixels = np.random.default_rng(0).integers(256, size=(12, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    for name in ("blip_caption", "blip_vqa", "clip"):
        folder_of(name, folder)
    _, state, config = fixture("blip_caption")
    del state["vision_model.post_layernorm.bias"]
    write(folder / "torn", state, config)
    (folder / "no.png").write_text("no picture")
    return folder


def run(there, monkeypatch, *arguments):
    monkeypatch.chdir(there)
    caption.main([*arguments, "--length", "4"])


def test_a_caption_and_its_page(there, monkeypatch, capsys):
    run(
        there,
        monkeypatch,
        "photo.png",
        "--model",
        "blip_caption",
        "--prompt",
        "w5 w7s",
        "--explore",
        "pages/words.html",
    )
    said = capsys.readouterr()
    assert said.out.startswith("w5 w7s")
    assert len(said.out.splitlines()) == 1
    assert said.err == "page: pages/words.html\n"
    page = (there / "pages" / "words.html").read_text()
    assert "<title>photo.png: w5 w7s" in page


@pytest.mark.slow
def test_an_answer(there, monkeypatch, capsys):
    given = "photo.png", "--model", "blip_vqa", "--question", "w9 ?", "--explore", "answer.html"
    run(there, monkeypatch, *given)
    said = capsys.readouterr()
    assert said.out.strip()
    assert "w9" not in said.out.split()
    assert "<title>photo.png: w9 ? " in (there / "answer.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png"], "no --model given: the folder of a published BLIP; BlipForCond"),
        (["photo.png", "--model", "nowhere"], "there is no folder nowhere, and the names are"),
        (["gone.png", "--model", "clip"], "gone.png cannot be read: No such file"),
        (["no.png", "--model", "clip"], "no.png holds a picture that cannot be decoded"),
        (["photo.png", "--model", "clip"], "clip is a DualEncoder, which writes no text: Blip"),
        (["photo.png", "--model", "blip_caption", "--question", "w5"], "takes no question"),
        (["photo.png", "--model", "blip_vqa"], "blip_vqa answers questions: ask one"),
        (["photo.png", "--model", "clip", "--beams", "0"], "--beams must be at least 1, got 0"),
        (["photo.png", "--model", "clip", "--prompt", "a", "--question", "b"], "leave it out wi"),
        (["photo.png", "--model", "clip", "--explore", "."], "--explore . is a folder: name a"),
        (["photo.png", "--model", "clip", "--explore", "photo.png"], "is the file that is read"),
    ],
)
def test_one_line(arguments, message, there, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(there, monkeypatch, *arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert message in said
    assert said.startswith("caption: ")
    assert len(said.splitlines()) == 1


def test_tensors_that_are_missing_are_a_table(there, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(there, monkeypatch, "photo.png", "--model", "torn")
    title, header, row = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert title == "caption: 1 tensor does not fit blip_vision"
    assert header.split() == ["problem", "tensor", "found", "needed"]
    assert row.split()[:2] == ["missing", "vision_model.post_layernorm.bias"]
