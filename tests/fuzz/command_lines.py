"""300 command lines that nobody would type, and what becomes of each.

python -m tests.fuzz.command_lines            (300 lines, seed 14, some minutes)
python -m tests.fuzz.command_lines 1000 3     (so many, of another seed)

All are called in this process, in an empty folder and with an empty home. A line is fine when it
ends with code 0, 2, or 1 where that is documented, says in one line what is wrong, prints neither a
traceback nor a control character, takes at most 60 seconds of one processor (three minutes where
others work as well), and writes nothing but results where it was told to. Not collected by pytest;
the exit code is 1 when a line was not fine.
"""

import collections
import contextlib
import faulthandler
import io
import itertools
import os
import random
import re
import shlex
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(tempfile.mkdtemp(prefix="crossattn-fuzz-"))
HOME, WORK, CACHE = HERE / "home", HERE / "work", HERE / "cache"
os.environ |= {"HOME": str(HOME), "JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg"}
os.environ |= {"JAX_COMPILATION_CACHE_DIR": str(CACHE), "MPLCONFIGDIR": str(CACHE / "matplotlib")}
os.environ |= {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
for folder in (HOME, WORK, CACHE):
    folder.mkdir()
os.chdir(WORK)

from crossattn.bench.process import WorkerError  # noqa: E402
from crossattn.plan.process import CompilerError  # noqa: E402
from experiments import __main__ as front_door  # noqa: E402
from experiments import ablate, bench, evaluate, import_weights, plan  # noqa: E402
from tests.fuzz import words as odd  # noqa: E402
from tests.support import driver  # noqa: E402

LIMIT = 60
BAR = r".*(\d+%\||\d+step \[).*"
PROGRESS = re.compile(rf"timing \d+ steps \.\.\.|plan: .* \.\.\.|{BAR}|\d+ runs are finished.*|")


def prepare() -> None:
    """Files and folders that are not what a command expects."""
    contents = {
        "file": b"precious",
        "void": b"",
        "foreign/thesis.tex": b"precious",
        "damaged/suite.json": b'{"suite": ',
        "damaged/run.json": b"\xff\xfe",
        "null/run.json": b"null",
        "null/suite.json": b"null",
        "list/run.json": b"[[1]]",
        "deep/run.json": b"[" * 100_000,
        "settings/run.json": b'{"format": 2, "suite": 3, "settings": {"model": 7}, "versions": {}}',
        "more/run.json": b'{"format": 99999999999999999999}',
        "run/runs/blind/seed0/run.json": b'{"format": 2, "versions": {"crossattn": "0.0.1"}}',
        "run/runs/a\x1b[2Jb/seedx/nothing": b"",
        "cut/model.safetensors": b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
        "index/model.safetensors.index.json": b'{"weight_map": {"a": "../file"}}',
        "names\x1b[2Jhere/run.json": b"{}",
    }
    for name, content in contents.items():
        (WORK / name).parent.mkdir(parents=True, exist_ok=True)
        (WORK / name).write_bytes(content)
    (WORK / "empty").mkdir()
    (WORK / "loop").symlink_to("loop")
    (WORK / "gone").symlink_to("nowhere")
    os.mkfifo(WORK / "pipe")
    with (WORK / "big.safetensors").open("wb") as big:
        big.truncate(2**36)  # holds nothing, and takes no room


def option(pick: random.Random, names: list[str]) -> list[str]:
    """An option with a value that fits, one that does not, several, or none."""
    name = pick.choice(names)
    roll = pick.random()
    if roll < 0.4 and name in odd.FITTING:
        return [name, *pick.choice(odd.FITTING[name]).split(" ")]
    if roll < 0.5:
        return [name]
    if roll < 0.55:
        return [f"{name}={pick.choice(pick.choice(odd.ODD))}"]
    if name in ("--out", "--features"):  # what is no name of a place here could be written to
        return [name, pick.choice(odd.NAMES)]
    if name in ("--data.images", "--seeds"):  # a thousand million images are no mistake
        return [name, pick.choice(["100", "nan", "-1", "1e3", "", "٣"])]
    some = odd.NUMBERS if name in odd.RUN and pick.random() < 0.7 else pick.choice(odd.ODD)
    return [name, *(pick.choice(some) for _ in range(pick.choice([1, 1, 1, 1, 2, 3])))]


def line(pick: random.Random) -> tuple[str, list[str]]:
    """A command and its arguments."""
    command = pick.choices(list(COMMANDS), [11, 5, 5, 4, 3, 2])[0]
    subjects, names, ends = COMMANDS[command]
    known = pick.random() < 0.85
    words = [pick.choice(subjects) if known else pick.choice(pick.choice(odd.ODD))]
    for _ in range(pick.choice([0, 1, 1, 1, 2, 3])):
        words += option(pick, names if pick.random() < 0.9 else odd.EVERY)
    words += ends
    if pick.random() < 0.05:
        pick.shuffle(words)
        words += ends
    return command, words


COMMANDS = {
    "ablate": (["tiny"], [*odd.RUN, *odd.JOBS], ["--dry-run"]),
    "evaluate": (odd.PLACES, odd.EVALUATE, []),
    "plan": (["tiny", *odd.PLACES], [*odd.PLAN, *odd.RUN], ["--topology", "v5e:2x4"]),
    "bench": (list(bench.BENCHMARKS), odd.BENCH, []),
    "import_weights": (odd.PLACES, odd.IMPORT, ["--preset", "t5"]),
    "crossattn": (
        ["ablate", "plan", "evaluate", "bench", "import_weights", "abalte"],
        odd.EVERY,
        [],
    ),
}
# These go all the way; the others end before something is trained or measured.
WHOLE = [
    *(("ablate", f"tiny --seeds 1 --steps 3 --variants blind --out {out}") for out in "ab"),
    ("ablate", "tiny --seeds 1 --steps 3 --variants blind --out a"),
    ("ablate", "tiny --seeds 1 --steps 4 --variants blind --out a"),
    ("ablate", "tiny --seeds 1 --steps 3 --out a\udcff\x1b[31m"),
    ("evaluate", "a --variant blind --seed 0"),
    ("evaluate", "a --variant blind --seed 0 --on pairs --out file"),
    ("evaluate", "a/runs/blind/seed0 --mesh data=2"),
    ("evaluate", "a/runs/blind/seed0/checkpoints/3 --out c\x1b[31m"),
    ("evaluate", "a/runs/blind/seed0/checkpoints/99999999999999999999"),
    (
        "bench",
        "attention --shapes 1,2,3,1,2 --pass forward --dtype float32 --repeats 1 --peers linen",
    ),
]


def called(command: str, words: list[str]) -> tuple[object, str, str]:
    """Exit code, or the error that came out; and what was printed."""
    streams = [
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="")
        for _ in range(2)
    ]
    main = {"ablate": ablate.main, "evaluate": evaluate.main, "plan": plan.main}
    main |= {"bench": bench.main, "import_weights": import_weights.main}
    signal.alarm(3 * LIMIT)
    begun = time.process_time()
    faulthandler.dump_traceback_later(5 * LIMIT, exit=True)  # native code does not hear the alarm
    code: object = 0
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            main.get(command, front_door.main)(words)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        code = traceback.format_exc()
    signal.alarm(0)
    if time.process_time() - begun > LIMIT:
        code = f"longer than {LIMIT} seconds"
    faulthandler.cancel_dump_traceback_later()
    said = []
    for stream in streams:
        stream.flush()
        said.append(stream.buffer.getvalue().decode())
    return code, said[0], said[1]


def judged(command: str, words: list[str], code: object, out: str, err: str) -> str:
    """What was wrong with how a line ended; "" for nothing."""
    if isinstance(code, str):
        return "Traceback: " + code.strip().splitlines()[-1][:300] + "\n" + code[-1500:]
    if "Traceback" in out + err:
        return "a traceback was printed:\n" + (out + err)[-1500:]
    fine = {0, 2} | ({1} if command in ("plan", "import_weights", "crossattn") else set())
    if code not in fine:
        return f"exit code {code}"
    raw = {c for c in out + err if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    if raw := raw - {"\n"} - ({"\r"} if re.search(BAR, err) else set()):
        return f"control characters {sorted(raw)!r} were printed"
    lines = [x for x in re.split(r"[\r\n]", err) if not PROGRESS.fullmatch(x)]
    if code == 2 and len(lines) != 1:
        return f"{len(lines)} lines of error:\n" + err[-800:]
    return ""


def snapshot() -> dict[str, tuple[int, int]]:
    """Size and time of every file here and at home, but for results."""
    found = {}
    for top in (WORK, HOME):
        for folder, folders, files in os.walk(top):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                about = os.lstat(path)
                found[path] = (about.st_size, about.st_mtime_ns)
    return found


def written(before: dict[str, tuple[int, int]], words: list[str]) -> list[str]:
    """What changed outside of where this line writes to; without --out that is results/."""
    places = [w for flag, w in itertools.pairwise(words) if flag in ("--out", "--features")]
    places += [w.partition("=")[2] for w in words if w.startswith(("--out=", "--features="))]
    places += ["results", *(w for w in words if "/seed0" in w or w in ("a", "b"))]
    allowed = [os.path.join(WORK, place) for place in places if place.strip("./")]
    now = snapshot()
    changed = [path for path in now.keys() | before.keys() if now.get(path) != before.get(path)]
    # A folder changes with what is made in it.
    parents = {str(parent) for place in allowed for parent in Path(place).parents}
    within = lambda path: any(path == p or path.startswith(p + "/") for p in allowed)
    return sorted(path for path in changed if path not in parents and not within(path))


class Stubbed:
    """A process that measures, which is not started."""

    def __init__(self, *_: object):
        pass

    def __enter__(self):
        raise WorkerError("nothing is measured here")

    def __exit__(self, *_: object):
        pass


def refuse(*_: object) -> None:
    raise CompilerError("nothing is compiled here")


class TooLongError(BaseException):
    pass


def too_long(*_: object) -> None:
    raise TooLongError(f"longer than {3 * LIMIT} seconds")


def main(count: int, seed: int) -> int:
    """Call them all, and print what became of them."""
    driver.install()
    prepare()
    signal.signal(signal.SIGALRM, too_long)
    pick = random.Random(seed)
    worker = bench.Worker
    plan.check_compiler, plan.compile_all = lambda: None, refuse
    cases = [(command, words.split(" "), True) for command, words in WHOLE]
    cases += [(*line(pick), False) for _ in range(count - len(cases))]
    counts: collections.Counter[str] = collections.Counter()
    slowest, bad = (0.0, ""), 0
    for command, words, whole in cases:
        bench.Worker = worker if whole else Stubbed
        before, begun = snapshot(), time.monotonic()
        code, out, err = called(command, words)
        spent = time.monotonic() - begun
        typed = f"{command} {shlex.join(words)}"
        slowest = max(slowest, (spent, typed))
        wrong = judged(command, words, code, out, err)
        if not wrong and (elsewhere := written(before, words)):
            wrong = f"wrote {elsewhere[:5]}"
        counts[f"{command}: code {code}" if isinstance(code, int) else f"{command}: error"] += 1
        if wrong:
            bad += 1
            print(f"BAD {ascii(typed)[:400]}\n    {wrong}\n", flush=True)
    for name, number in sorted(counts.items()):
        print(f"{number:5d}  {name}")
    print(f"slowest: {slowest[0]:.1f} s, {ascii(slowest[1])[:200]}")
    print(f"{len(cases)} command lines with seed {seed}, {bad} of them not fine; files in {HERE}")
    return int(bad > 0)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.stdout.flush()
    result = main(*(given + [300, 14][len(given) :]))
    sys.stdout.flush()
    os._exit(result)
