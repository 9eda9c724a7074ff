"""Commands end with their exit code and one line, whatever their libraries are busy with."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Seconds between a command's line and the end of its process.
AT_MOST = 5.0


def process(script, *words, under=()):
    """What a process said, its exit code, and how long it lived on after its last line."""
    with subprocess.Popen(
        [*under, sys.executable, *script, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as started:
        said, at = [], time.monotonic()
        for line in started.stderr:
            said.append(line)
            at = time.monotonic()
    return said, started.returncode, time.monotonic() - at


ENDLESS = """
import sys, threading, time
from experiments.entry import start
def command(arguments):
    threading.Thread(target=time.sleep, args=(3600,)).start()
    print("tables")
    print("ablate: broken", file=sys.stderr)
    {end}
start(command)
"""


@pytest.mark.parametrize(
    ("end", "code", "last"),
    [
        pytest.param("raise SystemExit(2)", 2, "ablate: broken\n", marks=pytest.mark.slow),
        ("raise KeyboardInterrupt", 130, "ablate: broken\n"),
        pytest.param(
            "raise ValueError('a defect')", 1, "ValueError: a defect\n", marks=pytest.mark.slow
        ),
    ],
)
def test_a_thread_that_never_ends_keeps_no_failed_command(end, code, last):
    said, found, _ = process(["-c", ENDLESS.format(end=end)])
    assert (found, said[-1]) == (code, last)


def limited(limit):
    """A shell that limits itself and becomes the command."""
    return ["bash", "-c", f'ulimit {limit} && exec "$@"', "limited"]


def few_files(out):
    return limited("-n 16")


def small_files(out):
    return limited("-f 200")


def few_inodes(out):
    out.parent.mkdir(exist_ok=True)
    options = ["-o", "nr_inodes=45,size=50m"]
    mount = ["mount", "-t", "tmpfs", *options, "none", str(out.parent)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a file system with few inodes")
    return ()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [few_files, small_files, few_inodes])
def test_what_the_disk_refuses_is_one_line_and_the_end(tmp_path, limit):
    out = tmp_path / "place" / "out"
    options = ("--seeds", "1", "--model.width", "64", "--out", str(out))
    under = limit(out)
    try:
        said, code, later = process(["tests/support/driver.py", "0"], *options, under=under)
        assert code == 2, said
        bar = re.compile(r"(compiling|blind|cross-attention)\b|\s*$")
        ours = [line for line in said if not bar.match(line)]
        assert [line.split(":")[0] for line in ours] == ["ablate"]
        assert "the same command goes on" in said[-1]
        assert later < AT_MOST
    finally:
        if limit is few_inodes:
            subprocess.run(["umount", str(out.parent)], check=True)
