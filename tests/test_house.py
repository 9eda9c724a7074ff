"""The wheel installs in a clean environment; imports and names of the house."""

import ast
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_wheel_installs_and_imports_in_a_clean_environment(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("crossattn-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "crossattn",
        "crossattn_configs",
        "crossattn_experiments",
        f"{wheel.name[:15]}.dist-info",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "crossattn/py.typed" in names

    # The environment sees this one's dependencies, but not this checkout.
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean"], check=True, timeout=300
    )
    site = next((tmp_path / "clean").glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(str(Path(_site_packages())) + "\n")
    script = (
        "import crossattn, crossattn.nn, crossattn.models.vision_language, crossattn.train.loop,"
        " crossattn.report.document, crossattn.viewer; print(crossattn.__file__);"
        " crossattn.viewer.explore(None, ['a'], [[1.0]])"
    )
    clean = subprocess.run(
        [tmp_path / "clean" / "bin" / "python", "-c", script],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert clean.stdout.startswith(str(site))

    # The command finds the suites that came with it, and names itself as its user types it.
    entry = "from crossattn_experiments.__main__ import run; run()"
    command = subprocess.run(
        [tmp_path / "clean" / "bin" / "python", "-c", entry, "ablate", "--help"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "crossattn = crossattn_experiments.__main__:run" in _entry_points(wheel)
    assert "\ncrossattn ablate fusion\n" in command.stdout
    assert "easy_vqa" in command.stdout
    assert "python -m" not in command.stdout


def _entry_points(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        return archive.read(name).decode()


def test_an_editable_install_knows_the_names_of_the_wheel(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    for name in ("configs", "experiments"):
        (tmp_path / f"crossattn_{name}.py").write_text(hook.link(ROOT / name))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        linked = importlib.import_module("crossattn_configs.fusion")
        assert Path(linked.__file__) == ROOT / "configs" / "fusion.py"
    finally:
        for name in [name for name in sys.modules if name.startswith("crossattn_configs")]:
            del sys.modules[name]


def _site_packages():
    import jax

    return Path(jax.__file__).parents[1]


def test_importing_the_operation_needs_no_flax():
    assert_imports_without("crossattn", {"flax", "optax", "orbax"})


def test_importing_the_laboratory_needs_only_what_every_command_needs():
    """Grain logs a warning where jaxlib is older than 0.11, and streams alone need it; the parts of
    SciPy took a fifth of the time."""
    without = {"grain", "scipy.stats", "scipy.optimize"}
    assert_imports_without("crossattn.lab, crossattn.data", without)


def assert_imports_without(modules, others):
    script = f"import {modules}, sys; assert not {others!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=300)


# What every command, every benchmark has: protocols, not names of one thing.
PROTOCOLS = {"Options", "configure", "main", "prepare"}


def test_a_public_name_means_one_thing():
    where = {}
    for path in [*ROOT.glob("crossattn/**/*.py"), *ROOT.glob("experiments/*.py")]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                where.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    clashes = {name: files for name, files in where.items() if len(files) > 1}
    assert {name: files for name, files in clashes.items() if name not in PROTOCOLS} == {}
