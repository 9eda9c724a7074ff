"""Damaged and strange folders of pictures, read through the library: counts of what came of them.

    python -m tests.fuzz.folder_files [CASES [SEED]]

Each case damages the file of texts of a small folder, one value of it, or a picture, reads the data
as a run does, and is judged as `tests.fuzz.data_files` does: what is read has the form that a run
expects, whole PNG pictures are those that were drawn, none comes from outside of the folder, an
error is a ValueError of one line, nothing takes longer than a minute, starts a program or writes a
file. Exits with 1 where a case fails, after its reason and the seed that makes it.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from crossattn.train import source
from crossattn.train.run import Data, Model, Run
from tests.fuzz.data_files import damaged, estranged
from tests.fuzz.judging import attempt, contents, counted
from tests.support.picture_folders import lines_of, write_csv, write_folder

COUNT = 12
# What was damaged, and how often it is.
TARGETS = {"values": 8, "jsonl": 4, "json": 2, "csv": 4, "PNG": 3}
FOREIGN_PATHS = ("../secret.png", "/etc/passwd", "../../x", "\0", ".", "", "x" * 5000, "\ud800")


def prepare(path: Path, target: str) -> Path:
    """A whole folder with a file of a kind; returns the file."""
    name = {"json": "a.json", "csv": "a.csv"}.get(target, "a.jsonl")
    lines = lines_of(COUNT)
    write_folder(path, COUNT, json.dumps(lines) if target == "json" else lines, name=name)
    if target == "csv":
        write_csv(path, lines, name)
    return path / name


def damage(path: Path, target: str, chance: random.Random) -> None:
    """A folder of which one thing is damaged."""
    file = prepare(path, target)
    if target == "values":
        lines = lines_of(COUNT)
        if chance.random() < 0.3:
            chance.choice(lines)["image"] = chance.choice(FOREIGN_PATHS)
        else:
            estranged(lines, chance)
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return
    victim = path / f"{chance.randrange(COUNT)}.png" if target == "PNG" else file
    victim.write_bytes(damaged(victim.read_bytes(), chance))


def read(path: Path) -> tuple[dict[str, bytes], set[bytes]]:
    """All that a run reads, and its pictures."""
    data = Data("folder", directory=str(path), image_size=8, texts_per_image=1)
    run = Run(data=data, model=Model(image_encoder="patch"), batch_size=2)
    loaded = source.load_dataset(run)
    found, images = {}, set()
    for name, part in {"train": loaded.train, **loaded.splits}.items():
        for field in ("images", "tokens", "target", "grounded", "coverage", "group", "answer"):
            found[f"{name}/{field}"] = getattr(part, field).tobytes()
        images |= {image.tobytes() for image in part.images}
    found["words"] = "\n".join(loaded.vocabulary).encode()
    assert all(said.isprintable() for said in (loaded.about, *loaded.notes))
    return found, images


def judge(path: Path, right: tuple[dict[str, bytes], set[bytes]]) -> str:
    """What came of a folder; what begins with FAILED is wrong."""
    data, verdict = attempt(read, path)
    if data is None:
        return verdict
    found, images = data
    if images - right[1]:
        return "FAILED: pictures that the folder has not"
    return "the same data" if found == right[0] else "other data, which nothing tells from right"


def case(seed: tuple[int, int], root: Path, right: tuple) -> tuple[str, str]:
    """Make, read and judge one folder."""
    chance = random.Random(f"{seed}")
    target = chance.choices(list(TARGETS), TARGETS.values())[0]
    path = root / "here" / f"case{seed[1]}"
    damage(path, target, chance)
    before = contents(root / "here")
    verdict = judge(path, right)
    if contents(root / "here") != before or (root / "it ran").exists():
        verdict = "FAILED: files were written, or a program began"
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    return target, verdict


def main() -> int:
    """Run the cases and print the counts."""
    cases, seed = (int(word) for word in (*sys.argv[1:], "300", "0")[:2] if word.isdigit())
    root = Path(tempfile.mkdtemp())
    (root / "here").mkdir()
    write_folder(root / "right", COUNT)
    write_folder(root / "here", 1)
    (root / "here" / "0.png").rename(root / "here" / "secret.png")
    right = read(root / "right")
    os.chdir(root / "here")
    subprocess.Popen = lambda *_, **__: (root / "it ran").touch()
    return counted(seed, (case((seed, number), root, right) for number in range(cases)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
