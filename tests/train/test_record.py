"""A run's record names the processor: numbers repeat to the last digit on one kind only."""

import json
import platform

import pytest

from crossattn.train import record
from crossattn.train.run import Run

X86 = (
    "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Imagined 7 @ 3 GHz\n\nmodel name\t: Imagined 8\n"
)
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (X86, "Imagined 7 @ 3 GHz (odd64)"),
        (ARM, "CPU implementer 0x41, CPU part 0xd0c (odd64)"),
        ("", "odd64"),
        (None, "odd64"),
        ("no colon\n\xff", "odd64"),
    ],
)
def test_the_processor_has_a_name_where_the_system_knows_one(content, named, tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content, encoding="latin-1")
    monkeypatch.setattr(record, "CPUINFO", file)
    monkeypatch.setattr(platform, "machine", lambda: "odd64")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert record.processor() == named


def test_a_record_of_before_programs_of_several_steps_is_read(tmp_path):
    now = record.RunRecord("s", "v", 0, Run(), {}, {"seeds": 5, "steps": 50})
    record.write_record(tmp_path, now)
    assert record.read_record(tmp_path) == now
    path = tmp_path / record.FILE
    content = json.loads(path.read_text())
    del content["grouping"]
    path.write_text(json.dumps(content))
    assert record.read_record(tmp_path).grouping == {"seeds": 1, "steps": 1}
