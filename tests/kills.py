"""Kill a suite again and again, go on, and compare with a suite that nobody killed.

python -m tests.kills --chains 6 --kills 26

Each chain is one results folder, killed at moments that a fixed seed spreads over its work, by
SIGKILL, SIGTERM or SIGINT, and then left to finish; where it was too fast, the next folder begins.
All that a results folder says but times of day and durations must be equal to the last bit. Takes
about ten minutes on two cores.
"""

import argparse
import collections
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
from tests.support import same  # noqa: E402

# Checkpoints of steps that are no multiple of the ten steps of a line of the log.
SUITE = ("--seeds", "2", "--steps", "37", "--checkpoint-every", "7")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Seconds that one command may take.
PATIENCE = 600


class Command:
    """The command in a process of its own."""

    def __init__(self, out: Path, cache: Path):
        self.out, self.said = out, out.parent / f"{out.name}.txt"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }
        line = [sys.executable, "tests/support/driver.py", "0", *SUITE, "--out", str(out)]
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                line, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT
            )

    def working(self) -> float:
        """Wait until it holds the folder; returns when that was."""
        lock, mine = self.out / ".lock", f'"process": {self.process.pid},'
        while self.process.poll() is None and not (lock.exists() and mine in lock.read_text()):
            time.sleep(0.01)
        return time.monotonic()

    def training(self) -> float:
        """Wait until it has begun to train a run, or to go on with one; returns when that was."""
        begun = time.time()
        logs = lambda: self.out.glob("runs/*/*/log.jsonl")
        while self.process.poll() is None and all(log.stat().st_mtime < begun for log in logs()):
            time.sleep(0.01)
        return time.monotonic()

    def end(self) -> int:
        """Its exit code; what it said must be without a traceback."""
        try:
            code = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
        assert "Traceback" not in self.said.read_text(), self.said.read_text()
        return code


def content(out: Path) -> dict[str, object]:
    """All that a results folder says but times of day and durations."""
    said: dict[str, object] = {}
    results = json.loads((out / "results.json").read_text())
    for name in ("date", "timings"):
        del results["environment"][name]
    said["results.json"] = json.dumps(results)
    for path in sorted(out.glob("runs/*/*/*")):
        name = str(path.relative_to(out))
        if path.name == "metrics.json":
            metrics = json.loads(path.read_text())
            del metrics["step_seconds"]
            said[name] = json.dumps(metrics)
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                said[name] = {key: (a.shape, a.dtype, a.tobytes()) for key, a in arrays.items()}
        if path.name == "log.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            curve = [line for line in lines if "event" not in line]
            blank = dict.fromkeys(("time", "teraflops", "mfu"))
            # The first line after a resumption has no rate: order of fields says nothing.
            said[name] = json.dumps([line | blank for line in curve], sort_keys=True)
    report = (out / "report.md").read_text()
    for pattern, placeholder in same.OWN:
        report = re.sub(pattern, placeholder, report)
    said["report.md"] = report
    return said


def chain(place: Path, cache: Path, kills: int, work: float, chance: random.Random, count):
    """Kill the command so often; yields the folders that it finished.

    Where it finishes before it is killed, the next folder begins.
    """
    done = attempts = 0
    out = place / "0"
    while done < kills and attempts < 4 * kills:
        attempts += 1
        command = Command(out, cache)
        # Every fourth while it reads and compiles, the others while it trains and measures.
        early = chance.random() < 0.25
        begun = command.working() if early else command.training()
        wanted = begun + chance.uniform(0, work / 2)
        while time.monotonic() < wanted and command.process.poll() is None:
            time.sleep(0.01)
        kind = chance.choice(SIGNALS)
        command.process.send_signal(kind)
        code = command.end()
        if code == 0:
            yield out
            out = place / str(attempts)
        else:
            done += 1
            count[f"{kind.name}: exit code {code}"] += 1
    assert Command(out, cache).end() == 0
    yield out


def main() -> int:
    """Print counts; the exit code is the number of folders that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=6)
    parser.add_argument("--kills", type=int, default=26)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, count, differing = random.Random(options.seed), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        Command(place / "first", place / "cache").end()  # compiles
        whole = Command(place / "whole", place / "cache")
        begun = whole.training()
        assert whole.end() == 0, whole.said.read_text()
        work, wanted = time.monotonic() - begun, content(place / "whole")
        for number in range(options.chains):
            kills = len(range(number, options.kills, options.chains))
            parts = place / f"chain{number}"
            parts.mkdir()
            for out in chain(parts, place / "cache", kills, work, chance, count):
                found = content(out)
                others = [name for name in wanted if found.get(name) != wanted[name]]
                count["folders that are equal" if not others else "FOLDERS THAT DIFFER"] += 1
                differing += bool(others)
                for log in out.glob("runs/*/*/log.jsonl"):
                    events = [json.loads(line).get("event") for line in log.open()]
                    count["times resumed from a checkpoint"] += events.count("resume")
                print(f"chain {number}: {out.name} differs in {others or 'nothing'}", flush=True)
    for what, times in sorted(count.items()):
        print(f"{times:4d} {what}")
    print(f"{len(wanted)} files compared in each folder")
    return differing


if __name__ == "__main__":
    sys.exit(main())
