"""Look after processes that train together, from a process of its own, without JAX.

python crossattn/train/heartbeat.py COMMAND MINE OTHER...

MINE and OTHER are files that processes hold locked while they live, with what is to be said of them
in it. When one lets go and had not finished, this says so and ends with the exit code 3. It must
not be a thread of the process that is looked after: JAX ends that one with a page of its own words
as soon as it misses process 0.
"""

import fcntl
import os
import sys
import time

LOST = 3
# Seconds.
LOOK_EVERY, GRACE = 0.1, 3.0
FINISHED, FAILED = "finished", "ended with an error"


def lost(path: str) -> str:
    """What the file of a process says that is there no more and had not finished; else ""."""
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
        word = file.read()
    return "" if word == FINISHED else word


def watch(command: str, mine: str, others: list[str]) -> int:
    """Wait until one is lost, or the process that is looked after has ended for good."""
    parent, alone = os.getppid(), 0.0
    with open(mine) as file:
        itself = file.read()
    while alone < GRACE:
        word = next(filter(None, map(lost, others)), "")
        if word.endswith(FAILED):
            # What ended another is about to end this one, too, which says it better.
            time.sleep(GRACE)
            word = word if os.getppid() == parent else ""
        if word == itself:
            return 0  # others have found out that it is dead
        if word:
            with open(mine, "w") as file:
                file.write(word)
            os.write(2, f"\n{command}: {word}; checkpoints are safe, go on as before\n".encode())
            return LOST
        time.sleep(LOOK_EVERY)
        alone += LOOK_EVERY if os.getppid() != parent else 0
    return 0


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1], sys.argv[2], sys.argv[3:]))
