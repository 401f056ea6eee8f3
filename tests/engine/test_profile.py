"""Where the time of a run goes: a trace of some steps, the parts of a step, and advice about the data."""

import gzip
import json
import math
import time

import jax
import pytest
import toy_run
from toy_run import toy_fit

from cvjax.engine import profile
from cvjax.engine.config import RunConfig
from cvjax.engine.guards.pulse import DATA, DEVICES, EVALUATING, HOST, Pulse
from cvjax.engine.profile import DataAdvice, shares, steps_of
from cvjax.engine.run import check_run
from cvjax.errors import ConfigError


def steps_in(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_a_trace_of_some_steps_opens_in_perfetto_and_names_them(tmp_path, capsys):
    toy_fit(tmp_path, 6, eval_every=0, checkpoint_every=0, profile_steps="3:4")
    folder = tmp_path / "profile" / "plugins" / "profile" / "steps-3-4"
    assert {path.name for path in folder.iterdir()} == {
        "host0.xplane.pb",
        "host0.trace.json.gz",
        "host0.perfetto.json.gz",
    }
    assert f"a trace of steps-3-4 is in {folder}" in capsys.readouterr().out
    with gzip.open(folder / "host0.perfetto.json.gz") as file:
        events = json.load(file)["traceEvents"]
    steps = [event for event in events if event.get("name") == "train"]
    assert [event["args"]["step_num"] for event in steps] == ["3", "4"]
    first = steps[0]
    inside = {
        event["name"]
        for event in events
        if "dur" in event and first["ts"] <= event["ts"] <= event["ts"] + event["dur"] <= first["ts"] + first["dur"]
    }
    assert {DATA, HOST, DEVICES} <= inside
    profiled = jax.profiler.ProfileData.from_file(str(folder / "host0.xplane.pb"))  # as xprof reads it
    assert any(
        event.name.startswith("train") for plane in profiled.planes for line in plane.lines for event in line.events
    )


def test_an_input_bound_run_says_so_and_how_many_workers_would_cure_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(profile, "_LONG_ENOUGH", 0.2)
    toy_fit(tmp_path, 8, pause=0.1, eval_every=0, checkpoint_every=0, log_every=4)
    said = [line for line in capsys.readouterr().out.splitlines() if "waiting for data took" in line]
    assert len(said) == 1
    assert "--input.workers" in said[0]
    last = steps_in(tmp_path)[-1]
    assert last["data_share"] > 0.5
    assert last["data_share"] + last["host_share"] + last["devices_share"] == pytest.approx(1, abs=1e-3)


def test_a_run_whose_data_keep_up_says_nothing(tmp_path, capsys):
    toy_fit(tmp_path, 8, eval_every=0, checkpoint_every=0, log_every=4)
    assert "waiting for data took" not in capsys.readouterr().out
    assert {"data_share", "host_share", "devices_share"} <= steps_in(tmp_path)[-1].keys()


def test_the_advice_is_the_arithmetic_of_what_was_measured():
    """2 workers decoded 100 images in 10 s, 6 s of which the devices waited: in 4 s they would take 5 workers."""
    spent = {DATA: 6.0, HOST: 1.0, DEVICES: 3.0}
    assert shares(spent) == {"data_share": 0.6, "host_share": 0.1, "devices_share": 0.3}
    advice = DataAdvice(workers=2, rows=10, cores=8)
    sentence = advice.about(spent, steps=10)
    assert sentence == (
        "waiting for data took 60% of the time: 2 worker processes decode 10.0 images/s, and the rest of a step would"
        f" take {100 / 4:.1f}; --input.workers {math.ceil(2 * 10 / 4)} would keep up"
    )
    assert advice.about(spent, steps=10) == ""  # once is enough
    few = DataAdvice(workers=0, rows=10, cores=4).about(spent, steps=10)
    assert "4 threads of this process decode 10.0" in few
    assert "--input.workers 10 would keep up, on more than the 4 cores of this host" in few
    assert DataAdvice(2, 10, 8).about({DATA: 1.0, HOST: 1.0, DEVICES: 8.0}, 10) == ""
    assert shares(dict.fromkeys(spent, 0.0))["data_share"] == 0


def test_evaluations_do_not_count_as_parts_of_a_step(monkeypatch):
    moment = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    pulse = Pulse()
    for doing, seconds in ((DATA, 1), (HOST, 2), (DEVICES, 4), (EVALUATING, 100), (HOST, 0.5)):
        pulse.now(doing)
        moment[0] += seconds
    assert pulse.spent() == {DATA: 1, HOST: 2.5, DEVICES: 4}
    moment[0] += 3
    assert pulse.spent() == {DATA: 0, HOST: 3, DEVICES: 0}


def test_steps_to_profile_are_a_pair():
    assert steps_of("10:15") == (10, 15)
    assert steps_of(None) is None
    for text in ("10", "15:10", "0:3", "a:b", ":", "10:", "-1:4"):
        with pytest.raises(ConfigError, match=rf"--profile-steps is {text}; give the first and the last step"):
            check_run(RunConfig(workdir="run", profile_steps=text))


def test_a_run_that_fails_while_it_is_profiled_leaves_its_trace(tmp_path, monkeypatch):
    def stream(start):
        yield toy_run.toy_batch(0)
        yield toy_run.toy_batch(1)
        yield toy_run.toy_batch(2)
        raise ConfigError("no more")

    monkeypatch.setattr(toy_run, "toy_stream", stream)
    with pytest.raises(ConfigError, match="no more"):
        toy_fit(tmp_path, 6, profile_steps="2:4")
    assert (tmp_path / "profile" / "plugins" / "profile" / "steps-2-4" / "host0.xplane.pb").stat().st_size > 1000
