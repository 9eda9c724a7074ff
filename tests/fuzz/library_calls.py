"""1,000 calls of the library with arguments that fit or do not, and what becomes of each.

python -m tests.fuzz.library_calls            (1,000 calls, seed 14, some minutes)
python -m tests.fuzz.library_calls 200 3      (so many, of another seed)

A call is fine when it returns what a few lines of NumPy in float64 return, or raises a ValueError
or TypeError of one line; any other error, a wrong number, and a call of more than 60 seconds are
not. Nobody checks annotations here, as with users. Not collected by pytest; the exit code is 1 when
a call was not fine.
"""

import collections
import os
import random
import signal
import sys
import time
import traceback

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}

from tests.fuzz import calls

LIMIT = 60


class TooLongError(BaseException):
    pass


def too_long(*_: object) -> None:
    raise TooLongError(f"longer than {LIMIT} seconds")


def judged(call: calls.Call) -> tuple[str, str]:
    """How a call ended, and what was wrong with that; "" for nothing."""
    signal.alarm(LIMIT)
    try:
        found = call.function()
    except (ValueError, TypeError) as error:
        said = str(error)
        if not said.strip() or "\n" in said:
            return "refused", f"no line: {type(error).__name__}: {said[:400]!r}"
        return "refused", "a call that fits was refused: " + said[:300] if call.fits else ""
    except BaseException as error:
        last = [line for line in traceback.format_exc().splitlines() if 'File "' in line][-1]
        return "error", f"{type(error).__name__}: {str(error)[:200]} at {last.strip()[-110:]}"
    finally:
        signal.alarm(0)
    if call.wanted is None:
        return "taken", ""
    try:
        wanted = call.wanted()
    except Exception as error:
        return "taken", f"taken, though it has no meaning ({type(error).__name__}: {error})"
    return "taken", calls.different(found, wanted, call.tolerance)


def main(count: int, seed: int) -> int:
    """Make them all, and print what became of them."""
    signal.signal(signal.SIGALRM, too_long)
    pick = random.Random(seed)
    counts: collections.Counter[str] = collections.Counter()
    bad: dict[str, list[str]] = {}
    begun = time.monotonic()
    for number in range(count):
        call = calls.one(pick)
        ended, wrong = judged(call)
        counts[f"{call.area}: {ended}"] += 1
        if wrong:
            counts[f"{call.area}: not fine"] += 1
            bad.setdefault(f"{call.area}: {wrong}", []).append(f"{number}: {call.said}")
    for wrong, some in bad.items():
        print(f"BAD {len(some)} x {ascii(wrong)[:420]}\n    {ascii(some[0])[:330]}\n")
    for name, times in sorted(counts.items()):
        print(f"{times:5d}  {name}")
    wrong_calls = sum(map(len, bad.values()))
    spent = time.monotonic() - begun
    print(f"{count} calls with seed {seed} in {spent:.0f} s, {wrong_calls} of them not fine")
    return int(wrong_calls > 0)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(given + [1000, 14][len(given) :])))
