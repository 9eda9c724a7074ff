"""A suite is found by name, by path, in the working directory, and where it can be imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from crossattn.lab import suites
from experiments import ablate, plan

ROOT = Path(__file__).resolve().parents[2]
MINE = '''"""What I want to know."""

import dataclasses

from crossattn.train.suite import Suite
from crossattn_configs.fusion import SUITE as FUSION

SUITE: Suite = dataclasses.replace(FUSION, name="{name}", title="mine")
'''


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with suites of its own."""
    files = {
        "mine.py": MINE.format(name="mine"),
        "two.words.py": MINE.format(name="two"),
        "configs/own.py": MINE.format(name="own"),
        "configs/child.py": "from .own import SUITE",
        "configs/sibling.py": "from own import SUITE",
        "configs/fusion.py": MINE.format(name="fusion"),
        "configs/train.py": "raise SystemExit('this is no suite and must not run')",
        "far/package/deep.py": MINE.format(name="deep"),
        "broken.py": "SUITE = (\n",
        "without.py": "raise SystemExit('never run by name')",
        "empty.py": "",
        "other.py": "SUITE = {'name': 'other'}",
        "absent.py": "import nothing_of_that_name\n\nSUITE = 1",
        "ends.py": "import sys\n\nSUITE = sys.exit(3)",
        "latin.py": b"SUITE = '\xe9'",
        "wrong.py": "from mine import SUITE as MINE\nimport dataclasses\n\n"
        "SUITE = dataclasses.replace(MINE, quick={'model.heads': 4.5})",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    # Modules of this folder are not those of the next test.
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("./mine.py", "mine"),
        ("mine.py", "mine"),
        ("mine", "mine"),
        ("./two.words.py", "two"),
        ("own", "own"),
        ("configs/own.py", "own"),
        ("child", "own"),
        ("sibling", "own"),
        ("far/package/deep.py", "deep"),
        ("easy_vqa", "easy_vqa"),
    ],
)
def test_a_suite_is_found(typed, name, here):
    assert suites.find(typed).name == name
    assert suites.find(str(here / "mine.py")).title == "mine"
    assert not list(here.rglob("__pycache__"))


def test_a_suite_is_found_on_the_path(here, monkeypatch):
    monkeypatch.syspath_prepend(here / "far")
    assert suites.find("package.deep").name == "deep"
    # What makes no suite is not run to find that out.
    monkeypatch.syspath_prepend(here)
    with pytest.raises(ValueError, match="there is no suite 'without'"):
        suites.find("without")


def test_of_two_of_one_name_the_nearer_is_taken_and_said(capsys):
    assert suites.find("fusion").title == "mine"
    said = capsys.readouterr().err
    assert said == "fusion is configs/fusion.py here, not crossattn's suite of that name\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("fusoin", "there is no suite 'fusoin': did you mean fusion?, or give the path of a file"),
        ("numpy", "there is no suite 'numpy'"),
        ("./nowhere.py", "no suite nowhere.py: there is no such file"),
        ("configs/", "configs"),
        ("x" * 300 + ".py", "File name too long"),
        ("broken.py", "broken.py, line 1: '(' was never closed"),
        ("broken", "broken.py, line 1: '(' was never closed"),
        ("./empty.py", "empty.py makes no SUITE: it needs SUITE = Suite(...)"),
        ("./other.py", "other.py is no Suite but dict"),
        ("./absent.py", "absent.py, line 1: ModuleNotFoundError: No module named 'nothing_of_that"),
        ("./ends.py", "ends.py, line 3: SystemExit: 3"),
        ("./latin.py", "latin.py, line 1: "),
        (
            "./wrong.py",
            "wrong.py, line 4: suite mine, quick: model.heads takes a whole number, got",
        ),
    ],
)
@pytest.mark.parametrize("command", [ablate, plan])
def test_a_file_that_makes_no_suite_is_one_line(command, typed, said, capsys):
    with pytest.raises(SystemExit) as end:
        command.main([typed, "--out", "results"])
    shown = capsys.readouterr().err
    assert end.value.code == 2
    assert shown.startswith(f"{command.COMMAND}: ")
    assert said in shown
    assert shown.count("\n") == 1


def test_help_lists_suites_without_running_them(capsys):
    with pytest.raises(SystemExit) as end:
        ablate.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "  own            What I want to know. (configs/own.py)" in shown
    assert "  easy_vqa  " in shown
    assert "  train" not in shown


@pytest.mark.slow
def test_a_folder_of_the_same_name_does_not_hide_the_suites(here):
    (here / "configs" / "__init__.py").write_text("raise ImportError('not ours')")
    script = (
        "import sys; sys.path[:0] = ['', sys.argv[1]]; from crossattn.lab import suites; "
        "print(suites.find('easy_vqa').name, suites.find('own').name, suites.find('fusion').title)"
    )
    run = [sys.executable, "-c", script, str(ROOT)]
    done = subprocess.run(run, cwd=here, capture_output=True, text=True, timeout=100)
    assert done.stdout == "easy_vqa own mine\n", done.stderr
