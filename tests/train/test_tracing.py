"""Some steps of a run are traced, and no others."""

import gzip
import json

import pytest

from crossattn.launch.devices import Devices
from crossattn.train.loop import Seat, fit_seeds
from crossattn.train.run_folder import suite_of
from crossattn.train.source import batches_of
from crossattn.train.tracing import ProfiledSteps, ProfileError, Tracer


@pytest.mark.slow
def test_these_steps_are_in_the_trace(programs, run, examples, tmp_path):
    """And where it lies is said."""
    said = []
    with Tracer(ProfiledSteps(3, 5), said.append) as tracer:
        fit_seeds(programs, [Seat(batches_of(run, examples, 0), tmp_path)], tracer=tracer)
    (line,) = said
    assert line.startswith(f"--profile: steps 3 to 5: {tmp_path / 'profile'}; open it with")
    assert list(tmp_path.glob("profile/plugins/profile/*/*.xplane.pb"))
    (file,) = tmp_path.glob("profile/**/perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    steps = [event["args"]["step_num"] for event in events if event.get("name") == "train"]
    assert sorted(map(int, steps)) == [3, 4, 5]


def test_what_is_not_reached_is_said(monkeypatch, tmp_path):
    """A program of several steps is traced where it makes one of these, other runs are not."""
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder, **_: traced.append(folder))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: traced.append("end"))
    for steps, wanted in (
        ([(1, 4), (5, 8), (9, 12), (13, 16)], ["start", "end"]),
        ([(1, 4), (5, 8)], ["start", "end"]),
        ([(1, 4)], []),
        ([(21, 24)], []),
    ):
        traced, said = [], []
        with Tracer(ProfiledSteps(6, 10), said.append) as tracer:
            for ends in steps:
                assert tracer.run(tmp_path, ends, lambda ends=ends: ends) == ends
                assert tracer.run(tmp_path / "other", ends, lambda: 1) == 1
        assert traced == [tmp_path / "profile", "end"][: len(wanted)]
        assert len(said) == 1
    assert said == ["--profile: no run made these steps now, nothing was traced"]


@pytest.mark.parametrize("text", ["10", "0:3", "4:3", "10:14", "-1:3", "a:b", "", "1:2:3", "1 :2"])
def test_what_are_no_steps_of_the_run_is_one_line(run, text):
    with pytest.raises(ProfileError, match="takes FIRST:LAST of the steps 1 to 13") as raised:
        Devices(profile=text).parallel(suite_of(run))
    assert "\n" not in str(raised.value)
