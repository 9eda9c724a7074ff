"""Sets are built from packages: whole or not at all, and refused in one line."""

import dataclasses
import json

import pytest

from crossattn.data.builders import builder as builders
from crossattn.data.builders.builder import Builder, BuildSettings, Package, build_set
from crossattn.data.errors import DataError
from experiments import __main__ as front_door
from experiments import build_data


@dataclasses.dataclass(frozen=True)
class WordSettings(BuildSettings):
    words: int = 3


def write(package, directory, settings):
    (directory / "texts.txt").write_text((package / "word.txt").read_text() * settings.words)
    return f"{settings.words} words"


def builder(installed=None, **other):
    package = Package("words", "pip install words", "usr/words", "*.txt", lambda: installed)
    return Builder("words", "-", package, write, lambda _: "free", WordSettings, **other)


@pytest.fixture
def package(tmp_path):
    inside = tmp_path / "unpacked/usr/words"
    inside.mkdir(parents=True)
    (inside / "word.txt").write_text("word ")
    return tmp_path / "unpacked"


def held(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_is_built_once(package, tmp_path):
    out = tmp_path / "sets/words"
    assert build_set(builder(), out, WordSettings(), package) == f"{out}: 3 words"
    there = held(out)
    assert there["texts.txt"] == b"word word word "
    assert there["LICENCES.txt"] == b"free"
    # Where it is installed, or deeper in what was unpacked: the same.
    assert build_set(builder(), out, WordSettings()).endswith("holds this set already")
    inside = package / "usr/words"
    build_set(builder(inside), tmp_path / "same", WordSettings())
    assert held(tmp_path / "same") == held(out) == there
    with pytest.raises(DataError, match=r"another set, words is 3 there and 4 here: give another"):
        build_set(builder(), out, WordSettings(words=4), package)
    with pytest.raises(DataError, match=r"another set, edition is 1 there and 2 here: give anothe"):
        build_set(builder(edition=2), out, WordSettings(), package)
    assert held(out) == there


def test_a_set_from_before_editions_is_of_the_first(package, tmp_path):
    build_set(builder(), tmp_path / "out", WordSettings(), package)
    made = tmp_path / "out/set.toml"
    assert "edition = 1\n" in made.read_text()
    made.write_text(made.read_text().replace("edition = 1\n", ""))
    assert build_set(builder(), tmp_path / "out", WordSettings()).endswith("this set already")
    with pytest.raises(DataError, match="edition is 1 there and 2 here"):
        build_set(builder(edition=2), tmp_path / "out", WordSettings(), package)


def test_what_is_in_the_way_stays(package, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/it.tex").write_text("precious")
    (tmp_path / "new.part").mkdir()
    (tmp_path / "new.part/it.tex").write_text("precious")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/set.toml").write_text("set = ")
    for name, said in [
        ("thesis", "is not empty and holds no set"),
        ("thesis/it.tex", "is a file"),
        ("new", "is in the way"),
        ("damaged", "is damaged"),
    ]:
        with pytest.raises(DataError, match=said):
            build_set(builder(), tmp_path / name, WordSettings(), package)
    assert (tmp_path / "thesis/it.tex").read_text() == "precious"
    assert (tmp_path / "new.part/it.tex").read_text() == "precious"


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("damaged"), OSError(28, "full")])
def test_half_a_set_is_none(package, tmp_path, error):
    def stop(package, directory, settings):
        write(package, directory, settings)
        raise error

    broken = dataclasses.replace(builder(), write=stop)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(error if isinstance(error, type) else type(error)):
        build_set(broken, out, WordSettings(), package)
    assert not any(out.iterdir())
    assert not out.with_name("out.part").exists()
    # What a killed process leaves is taken away.
    out.with_name("out.part").mkdir()
    (out.with_name("out.part") / "LICENCES.txt").write_text("")
    build_set(builder(), out, WordSettings(), package)
    assert sorted(held(out)) == ["LICENCES.txt", "set.toml", "texts.txt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stmps", "OUT"], "there is no set 'stmps' to build: did you mean stamps?"),
        (["stamps", "--seed", "1"], "DIR"),
        (["stamps", "OUT", "--images", "0", "--from", "HERE"], "images must be positive, got 0"),
        (["stamps", "OUT", "--seed", "-1"], "seed cannot be negative"),
        (["stamps", "OUT", "--from", "HERE"], "has no usr/share/tuxpaint/stamps/animals/birds/"),
        (["stamps", "OUT", "--image-size", "40"], "image_size is a multiple of 16, got 40"),
        (["stamps", "OUT", "--language", "xx"], "language takes en, de, fr"),
        (["stamps", "FILE", "--from", "HERE"], "is a file: give another folder"),
        (["words", "OUT"], "built from words, which is not installed: type pip install words, or"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(builders.BUILDERS, "words", f"{__name__}:NOT_INSTALLED")
    (tmp_path / "file").write_text("")
    places = {"OUT": tmp_path / "out", "HERE": tmp_path, "FILE": tmp_path / "file"}
    with pytest.raises(SystemExit) as end:
        build_data.main([str(places.get(word, word)) for word in arguments])
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert said in shown.err
    assert shown.err.startswith("build_data: ")
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


NOT_INSTALLED = builder()


def test_the_command_builds_and_tells(package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(builders.BUILDERS, "words", f"{__name__}:NOT_INSTALLED")
    out = tmp_path / "out"
    front_door.main(["build_data", "words", str(out), "--from", str(package), "--words", "2"])
    assert capsys.readouterr().out == f"{out}: 2 words\n"
    build_data.main(["--help"])
    assert "  stamps     scenes of real cut-out photographs" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        build_data.main(["words", "--help"])
    shown = capsys.readouterr().out
    assert not end.value.code
    assert all(word in shown for word in ("--from PACKAGE_DIR", "--images", "--words", "--seed"))


def test_every_builder_is_what_the_table_says():
    for name in builders.BUILDERS:
        found = builders.find_builder(name)
        assert found.name == name
        assert json.dumps(dataclasses.asdict(found.settings()))
