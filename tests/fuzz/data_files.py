"""Damaged and strange TFDS directories, read through the library: counts of what came of them.

    python -m tests.fuzz.data_files [CASES [SEED]]

Each case damages one file of a small directory, or one picture or record within it, reads all of
its data as a run does, and is judged:

* damage to a shard is noticed, or the data read are those that were written;
* a PNG file that was damaged before it was packed into a record is noticed or shows its pixels;
* other pictures, records and JSON files have no checksum: what is read may differ, but has the form
  that a run expects, and its pictures (where those were left alone) are pictures of the set;
* an error is a ValueError of one line;
* nothing takes longer than a minute, starts a program, imports a module that data name, or writes a
  file.

Exits with 1 where a case fails, after its reason and the seed that makes it.
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
from tests.fuzz.judging import attempt, contents, counted
from tests.support import tfds_directories as made

STRANGER = "fuzz_stranger.payload.Image"
SHARDS = ("tfrecord", "array_record")
# Parts of a case's name that say what was damaged; the weights say how often.
TARGETS = {
    "tfrecord": 6,
    "array_record": 4,
    "features": 6,
    "info": 4,
    "labels": 1,
    "PNG": 4,
    "JPEG": 2,
    "picture": 3,
    "record": 3,
}
FOREIGN = (
    *(None, True, -1, 0, 1e308, 10**18, "", "x", "../../x", "/etc/passwd", "\x1b[2J\n", "\udcff"),
    *([], {}, [[]], {"a": []}, STRANGER, {"pythonClassName": STRANGER}, ["9" * 30]),
    {"type": STRANGER, "content": {}},
    {"jsonFeature": {"json": json.dumps({"pythonClassName": STRANGER})}},
)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One mutation of some bytes."""
    size = max(len(data), 1)
    start, stop = sorted((chance.randrange(size), chance.randrange(size)))
    other = chance.randrange(size)
    some = list(data)
    return {
        "flip": lambda: _with(some, start, (some or [0])[start] ^ 1 << chance.randrange(8)),
        "set": lambda: _with(some, start, chance.randrange(256)),
        "cut": lambda: data[:start],
        "drop": lambda: data[:start] + data[stop:],
        "insert": lambda: data[:start] + chance.randbytes(chance.randrange(1, 20)) + data[start:],
        "repeat": lambda: data[:stop] + data[start:],
        "zero": lambda: data[:start] + bytes(stop - start) + data[stop:],
        "swap": lambda: data[stop:] + data[start:stop] + data[:start],
        "copy": lambda: data[:start] + data[other : other + stop - start] + data[stop:],
        "random": lambda: chance.randbytes(stop),
    }[chance.choice(("flip", "flip", "flip", "set", "cut", "drop", "insert", "repeat", "zero",
                     "swap", "copy", "random"))]()  # fmt: skip


def _with(values: list[int], place: int, value: int) -> bytes:
    values[place : place + 1] = [value]
    return bytes(values)


def estranged(value, chance: random.Random):
    """One mutation of a node of a JSON value: another type, another name, gone, or twice."""
    nodes = list(_nodes(value))
    holder, key = chance.choice(nodes)
    kind = chance.choice(("type", "type", "type", "gone", "name", "text", "class"))
    if kind == "type":
        holder[key] = json.loads(json.dumps(chance.choice(FOREIGN)))
    elif kind == "gone" or isinstance(holder, list):
        del holder[key]
    elif kind == "name":
        holder[chance.choice(("type", "content", "a/b", "..", *(str(k) for k in holder)))] = (
            holder.pop(key)
        )
    elif kind == "text":
        holder[key] = json.dumps(holder[key])
    else:
        holder["pythonClassName"] = STRANGER
    return value


def _nodes(value):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _nodes(inner)


def damage(path: Path, target: str, chance: random.Random) -> None:
    """Damage one thing of a directory."""
    if target in SHARDS:
        file = chance.choice(sorted(path.glob(f"*{target}*")))
        data = file.read_bytes()
        # Most of an array_record file is padding.
        used = len(data.rstrip(b"\0")) if chance.random() < 0.5 else min(len(data), 3000)
        file.write_bytes(damaged(data[:used], chance) + data[used:])
    elif target == "labels":
        file = path / "objects-label.labels.txt"
        file.write_bytes(damaged(file.read_bytes(), chance))
    elif target in ("features", "info"):
        file = path / {"features": "features.json", "info": "dataset_info.json"}[target]
        if chance.random() < 0.25:
            file.write_bytes(damaged(file.read_bytes(), chance))
        else:
            file.write_text(json.dumps(estranged(json.loads(file.read_text()), chance)))
    else:
        examples = [made.vqa_example(number, form(target)) for number in range(COUNT)]
        victim = chance.randrange(COUNT)
        if target != "record":
            image = examples[victim]["image"]
            if target == "picture":
                image = made.picture(victim, chance.choice(("TIFF", "WEBP", "GIF", "BMP", "PPM")))
            examples[victim]["image"] = damaged(image, chance) or b"\0"
        records = made.serialised(made.vqa_features(), examples)
        if target == "record":
            records[victim] = damaged(records[victim], chance)
        for shard, part in enumerate((records[: COUNT // 2], records[COUNT // 2 :])):
            (path / f"made-train.tfrecord-0000{shard}-of-00002").write_bytes(made.tfrecord(part))


COUNT = 12


def form(target: str) -> str:
    return "JPEG" if target == "JPEG" else "PNG"


def read(path: Path) -> tuple[dict[str, bytes], set[bytes]]:
    """All that a run reads, and its pictures."""
    data = Data(source="tfds", directory=str(path), images=0, image_size=8, texts_per_image=1)
    run = Run(data=data, model=Model(image_encoder="patch"), batch_size=2)
    loaded = source.load_dataset(run)
    found, images = {}, set()
    for name, part in loaded.splits.items():
        for field in ("images", "tokens", "target", "grounded", "coverage", "group", "answer"):
            found[f"{name}/{field}"] = getattr(part, field).tobytes()
        images |= {image.tobytes() for image in part.images}
    feed = source.batches_of(run, loaded.train, 0)
    for step in range(COUNT):
        batch = feed.batch(step)
        assert batch.images.shape[1:] == (8, 8, 3)
        found[f"step {step}"] = batch.images.tobytes() + batch.tokens.tobytes()
        images |= {image.tobytes() for image in batch.images}
    found["words"] = "\n".join(loaded.vocabulary).encode()
    return found, images


def judge(path: Path, target: str, right: dict) -> str:
    """What came of a directory; what begins with FAILED is wrong."""
    base = {"array_record": "array_record", "JPEG": "JPEG"}.get(target, "tfrecord")
    data, verdict = attempt(read, path)
    if data is None:
        return verdict
    found, images = data
    if found == right[base][0]:
        return "the same data"
    if target in (*SHARDS, "PNG"):
        return "FAILED: other data, and nobody noticed"
    if target not in ("JPEG", "picture", "record") and images - right[base][1]:
        return "FAILED: pictures that the set has not"
    return "other data, which nothing tells from right ones"


def prepare(root: Path) -> dict[str, Path]:
    """The directories that cases damage."""
    features = made.vqa_features()
    examples = {name: [made.vqa_example(n, name) for n in range(COUNT)] for name in ("PNG", "JPEG")}
    with open(os.devnull, "w") as nowhere:
        out, sys.stdout = sys.stdout, nowhere
        try:
            other = made.write_array_record(root / "a", features, {"train": examples["PNG"]})
        finally:
            sys.stdout = out
    return {
        "tfrecord": made.write_tfrecord(root / "t", features, {"train": examples["PNG"]}),
        "JPEG": made.write_tfrecord(root / "j", features, {"train": examples["JPEG"]}),
        "array_record": other,
    }


def case(seed: tuple[int, int], root: Path, bases: dict[str, Path], right: dict) -> tuple[str, str]:
    """Make, read and judge one directory."""
    chance = random.Random(f"{seed}")
    target = chance.choices(list(TARGETS), TARGETS.values())[0]
    base = bases[target if target in ("array_record", "JPEG") else "tfrecord"]
    path = root / "here" / "case"
    path.mkdir()
    for name, content in contents(base).items():
        (path / Path(name).name).write_bytes(content)
    damage(path, target, chance)
    before = contents(root / "here")
    verdict = judge(path, target, right)
    if contents(root / "here") != before:
        verdict = "FAILED: files were written"
    if (root / "it ran").exists():
        verdict = "FAILED: code of the data ran"
    for name in list(before):
        Path(name).unlink()
    path.rmdir()
    return target, verdict


def main() -> int:
    """Run the cases and print the counts."""
    cases, seed = (int(word) for word in (*sys.argv[1:], "300", "0")[:2] if word.isdigit())
    root = Path(tempfile.mkdtemp())
    bases = prepare(root)
    right = {name: read(path) for name, path in bases.items()}
    # Where programs and modules would be found, and what is written without a folder falls.
    (root / "here").mkdir()
    (root / "path" / "fuzz_stranger").mkdir(parents=True)
    for name in ("__init__", "payload"):
        trap = root / "path" / "fuzz_stranger" / f"{name}.py"
        trap.write_text(f"open({str(root / 'it ran')!r}, 'w')")
    sys.path.append(str(root / "path"))
    os.chdir(root / "here")
    os.environ["HOME"] = str(root / "here")
    subprocess.Popen = lambda *_, **__: (root / "it ran").touch()
    return counted(seed, (case((seed, n), root, bases, right) for n in range(cases)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
