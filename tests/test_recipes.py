"""What CONTRIBUTING.md says that an addition costs: each recipe is followed on a copy."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"^```(\w+)(?: new=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ("crossattn", "configs", "experiments", "tests")


class Recipe(NamedTuple):
    """New files by path, changes of files as diffs, and commands that show that it works."""

    new: dict[str, str]
    diffs: list[str]
    commands: list[str]

    def cost(self) -> tuple[int, int, int]:
        """Files of the house that are touched, new files, lines of code in all."""
        touched = [line for diff in self.diffs for line in diff.splitlines()]
        lines = [line for text in self.new.values() for line in text.splitlines()]
        lines += [line[1:] for line in touched if line[0] == "+" and line[:3] != "+++"]
        files = sum(line.startswith("+++ ") for line in touched)
        return files, len(self.new), sum(bool(line.strip()) for line in lines)


def recipes():
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if title.startswith("Add "):
            recipe = Recipe({}, [], [])
            for language, new, text in BLOCK.findall(body):
                if new:
                    recipe.new[new] = text
                elif language == "diff":
                    recipe.diffs.append(text)
                elif language == "sh":
                    recipe.commands.extend(line for line in text.splitlines() if line)
            yield title.removeprefix("Add "), recipe


RECIPES = dict(recipes())


def apply(diff, folder, *options):
    """Changes that a reader would make by hand; lines may have moved."""
    command = ["git", "apply", *options, "-"]
    done = subprocess.run(command, input=diff, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_says_what_each_recipe_costs():
    rows = re.findall(r"^\| \[([^]]+)\]\(\S+\) \| (\d+) \| (\d+) \| (\d+) \|", TEXT, re.MULTILINE)
    assert {name: tuple(map(int, cost)) for name, *cost in rows} == {
        name: recipe.cost() for name, recipe in RECIPES.items()
    }


def test_a_variant_of_a_slot_touches_no_file():
    touched, new, _ = RECIPES["a variant of a slot"].cost()
    assert (touched, new) == (0, 0)
    assert max(recipe.cost()[0] for recipe in RECIPES.values()) == 1


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].diffs])
def test_the_changes_of_a_recipe_fit_the_files(name):
    for diff in RECIPES[name].diffs:
        apply(diff, ROOT, "--check")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_works_on_a_copy(name, tmp_path):
    for part in COPIED:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    recipe = RECIPES[name]
    for path, text in recipe.new.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(text)
    for diff in recipe.diffs:
        apply(diff, tmp_path)
    assert recipe.commands
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    for command in recipe.commands:
        words = [sys.executable, *shlex.split(command.removeprefix("python "))]
        ran = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
