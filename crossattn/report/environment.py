"""Where the runs of a suite were made, in sentences."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from crossattn.report.results.settings import listed

# Parts of the environment that are said in the sentences, or have tables of their own.
SAID = ("date", "versions", "device", "processor", "threads", "seeds")
ELSEWHERE = ("timings", "settings")
SPELT = {"python": "Python", "numpy": "NumPy", "jax": "JAX", "flax": "Flax"}


def environment_paragraph(environment: Mapping[str, Any]) -> str:
    """What ran where, in plain text; what is not known is not said.

    Example:
        >>> where = {"device": "1 x cpu", "processor": "Xeon (x86_64)", "threads": [2]}
        >>> environment_paragraph(where)
        'All runs used one CPU device on a processor Xeon (x86_64) with 2 threads.'
    """
    found = []
    if device := environment.get("device"):
        found.append(device_in_words(str(device)))
    if processor := environment.get("processor"):
        threads = listed([str(one) for one in environment.get("threads", [])])
        found.append(f"a processor {processor}" + (f" with {threads} threads" if threads else ""))
    said = [f"All runs used {' on '.join(found)}."] if found else []
    if seeds := environment.get("seeds"):
        said.append(f"Seeds were trained so: {seeds}.")
    for used in _versions(environment):
        names = [f"{SPELT.get(name, name)} {version}" for name, version in used.items()]
        said.append(f"Software: {listed(names)}.")
    if date := environment.get("date"):
        said.append(f"This report was written on {date}.")
    return " ".join(said)


def _versions(environment: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """The versions of the software, by those that differ between runs."""
    found = environment.get("versions") or []
    return found if isinstance(found, list) else [found]


def device_in_words(device: str) -> str:
    """Devices as a sentence has them.

    Example:
        >>> device_in_words("1 x cpu"), device_in_words("8 x NVIDIA H200")
        ('one CPU device', '8 devices of kind NVIDIA H200')
    """
    counted = re.fullmatch(r"(\d+) x (.+)", device)
    if counted is None:
        return device
    number, kind = counted.groups()
    thing = "device" if number == "1" else "devices"
    number = "one" if number == "1" else number
    return f"{number} CPU {thing}" if kind == "cpu" else f"{number} {thing} of kind {kind}"


def other_lines(environment: Mapping[str, Any]) -> list[str]:
    """What else is known, one line each."""
    return [
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in environment.items()
        if name not in (*SAID, *ELSEWHERE) and value is not None
    ]


def hardware_sentences(environment: Mapping[str, Any]) -> Iterator[str]:
    """Hardware, time of a step and software, as the methods of a paper have them."""
    found = [environment[name] for name in ("device", "processor") if environment.get(name)]
    if found:
        date = f", in {environment['date'][:7]}" if environment.get("date") else ""
        yield f"All runs used {' on '.join(map(str, found))}{date}."
    timings = environment.get("timings", {})
    paces = {name: t["step_seconds"] for name, t in timings.items() if "step_seconds" in t}
    if paces:
        fast, slow = min(paces, key=paces.__getitem__), max(paces, key=paces.__getitem__)
        text = f"The median training step took {1000 * paces[fast]:.1f} ms ({fast})"
        yield text + (f" to {1000 * paces[slow]:.1f} ms ({slow})." if len(paces) > 1 else ".")
        if any("seeds_together" in timing for timing in timings.values()):
            yield "Of seeds that are trained together, the time is divided by their number."
    for used in _versions(environment):
        yield f"Software: {listed([f'{name} {version}' for name, version in used.items()])}."
