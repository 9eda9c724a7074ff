"""How the results of two runs of one suite differ, in all but their times, machine and command.

They are the same to the last digit on one kind of processor with the same software; on another kind
sums are rounded in another order, and the trained numbers move (0.890 to 0.902 of suite fusion's
headline, once).

python tests/support/same.py FOLDER FOLDER
"""

import difflib
import json
import re
import sys
from pathlib import Path

# What the report says of times, machine and command.
OWN = (
    (r"(?<=training step took ).*?(?=\. Software)", "TIME"),
    (r"\d[\d.,]* m?s\b", "TIME"),
    (r"(?m)^(\| \S+ \| [\d,]+ \|)( [\d,.e-]+ \|)+$", r"\1 TIME |"),
    (r"(?<=All runs used ).*?(?= on )", "DEVICE"),
    (r"(?m)^(python -m experiments.ablate) .*$", r"\1"),
)


def differences(first: Path, second: Path) -> list[str]:
    """Lines of results.json and report.md that only one of two folders has."""
    there, here = _lines(first), _lines(second)
    return list(difflib.unified_diff(there, here, lineterm="", n=0))


def _lines(folder: Path) -> list[str]:
    results = json.loads((folder / "results.json").read_text())
    for name in ("device", "timings"):
        del results["environment"][name]
    report = (folder / "report.md").read_text()
    for pattern, placeholder in OWN:
        report = re.sub(pattern, placeholder, report)
    return [*json.dumps(results, indent=1).splitlines(), *report.splitlines()]


if __name__ == "__main__":
    found = differences(Path(sys.argv[1]), Path(sys.argv[2]))
    print("\n".join(found[:40]) or "the numbers and the reports are the same")
    sys.exit(bool(found))
