"""README and docs/: code runs, commands are what the programs take, links lead somewhere."""

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import jax
import pytest

from crossattn.align import measures
from experiments import command_line

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/*.md"))]
}
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Pages whose code takes long: make test-all runs it.
SLOW = {"docs/laboratory.md", "docs/many_devices.md", "docs/modules.md"}


def blocks(page, *languages):
    """Code of a page in these languages; recipes of CONTRIBUTING.md are tested elsewhere."""
    return [code for language, code in FENCE.findall(PAGES[page]) if language in languages]


def pages_of_code():
    return [
        pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
        for page in PAGES
        if blocks(page, "python") and page != "CONTRIBUTING.md"
    ]


@pytest.mark.parametrize("page", pages_of_code())
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, unchecked):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measures, "MEASURES", dict(measures.MEASURES))
    names: dict[str, object] = {"__name__": "page"}
    # As JAX is for who has changed nothing.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for number, code in enumerate(blocks(page, "python"), 1):
            exec(compile(code, f"{page}, block {number}", "exec"), names)


class Parsed(BaseException):
    """A command has understood what it is to do."""


def commands():
    """Every line of a shell with the page that it stands on."""
    for page in PAGES:
        for code in blocks(page, "sh", "bash", "console"):
            for line in code.replace("\\\n", "").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words and page != "CONTRIBUTING.md":
                    yield page, words


def called():
    """Arguments of our own commands."""
    for page, words in commands():
        for i, word in enumerate(words):
            if word.startswith("experiments."):
                yield page, word.removeprefix("experiments."), words[i + 1 :]
            elif word == "crossattn" and words[i - 1] != "-m":
                yield page, words[i + 1], words[i + 2 :]


CALLED = list(dict.fromkeys((command, tuple(rest)) for _, command, rest in called()))


@pytest.mark.parametrize(("command", "arguments"), CALLED, ids=lambda x: str(x))
def test_a_command_of_a_page_is_understood(command, arguments, tmp_path, monkeypatch, capsys):
    understood = command_line.tyro.cli

    def cli(*given, **keywords):
        understood(*given, **keywords)
        raise Parsed

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line.tyro, "cli", cli)
    (tmp_path / "mine.py").write_text("from configs.fusion import SUITE\n")
    given = list(arguments)
    if "--from" in given:  # a run that is not there
        at = given.index("--from")
        del given[at : at + 2]
    module = importlib.import_module(f"experiments.{command}")
    with pytest.raises((Parsed, SystemExit)) as end:
        module.main(given)
    assert end.type is Parsed or end.value.code in (0, None), capsys.readouterr().err


def test_programs_and_targets_of_the_pages_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page, words in commands():
        if words[0] == "make":
            assert words[1] in targets, f"{page}: {' '.join(words)}"
        if words[:2] == ["python", "-m"]:
            assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").exists() or (
                ROOT / words[2].replace(".", "/")
            ).is_dir(), f"{page}: {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_stand_in_blocks_that_are_tested(page):
    rest = FENCE.sub(
        lambda block: "" if block[1] in ("sh", "bash", "console") else block[0], PAGES[page]
    )
    assert not re.findall(r"^(?: {4})?(?:\$ )?python -m experiments.*", rest, re.MULTILINE)


def anchors(text):
    """What GitHub makes of headings."""
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    for path, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)", FENCE.sub("", PAGES[page])):
        if re.match(r"[a-z]+:", path):
            continue
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), path
        if anchor:
            assert anchor in anchors(file.read_text()), f"{path}#{anchor}"


def test_every_door_has_a_page_of_the_api():
    doors = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in ROOT.glob("crossattn/**/__init__.py")
        if any(
            isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            for node in ast.parse(path.read_text()).body
        )
    }
    shown = "\n".join(path.read_text() for path in ROOT.glob("docs/api/*.rst"))
    shown = set(re.findall(r"automodule:: (\S+)", shown))
    # The door of a kernel, and one of names that `crossattn` has.
    assert doors - shown == {"crossattn.ops.kernels.cudnn", "crossattn.ops"}


def test_the_address_of_the_repository_is_said_once():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    (address,) = urls.values()
    name = address.removeprefix("https://github.com/")
    for path in [*ROOT.glob("docs/notebooks/*.ipynb"), ROOT / "CITATION.cff"]:
        text = path.read_text()
        for found in re.findall(r"github(?:\.com)?/([\w-]+/crossattn)\b", text):
            assert found == name, path
