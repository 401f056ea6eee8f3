"""Turns, statistics and comparison of values; nothing here depends on how fast anything is."""

import contextlib
import math
import pathlib
import sys

import numpy as np
import paired
import pytest

ECHO = pathlib.Path(__file__).with_name("echo_side.py")


class Scripted:
    """A contestant whose bursts take the given times; it notes its turns in a list that all share."""

    def __init__(self, name, values, times, log):
        self.name, self._values, self._times, self._log = name, values, iter(times), log

    def prepare(self, case):
        if self._values is None:
            raise paired.Unavailable("cannot")
        return 0.004, {"output": np.asarray(self._values)}

    def burst(self, repeat):
        self._log.append((self.name, repeat))
        return next(self._times)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(paired, "PAUSE", 0)


def test_contestants_take_turns_and_the_first_turn_is_dropped():
    log = []
    a = Scripted("a", [1.0, 2.0], [99, 1, 2, 3], log)
    b = Scripted("b", [1.0, 2.00001], [99, 4, 5, 6], log)
    times, absent = paired.measure([a, b], {}, paired.Schedule(rounds=3, seconds=0.02))
    assert times == {"a": [1, 2, 3], "b": [4, 5, 6]}
    assert not absent
    assert log == [("a", 5), ("b", 5)] * 4  # 5 x 4 ms make a burst of 20 ms


def test_who_cannot_or_computes_something_else_is_left_out_with_the_reason():
    log = []
    contestants = [
        Scripted("unable", None, [], log),
        Scripted("right", [1.0, 2.0], [0, 7], log),
        Scripted("wrong", [1.0, 2.1], [], log),
        Scripted("nan", [1.0, math.nan], [], log),
        Scripted("longer", [1.0, 2.0, 0.0], [], log),
    ]
    times, absent = paired.measure(contestants, {}, paired.Schedule(rounds=1))
    assert times == {"right": [7]}
    assert absent["unable"] == "cannot"
    assert "output differs by 4.5e-02" in absent["wrong"]
    assert "nan" in absent["nan"]
    assert "(3,) instead of (2,)" in absent["longer"]


def test_disagreement_names_missing_values():
    ones = np.ones(2)
    assert "gradient" in paired.disagreement({"output": ones}, {"output": ones, "gradient": ones}, 1e-4)
    assert paired.disagreement({"output": np.zeros(2)}, {"output": np.zeros(2)}, 1e-4) is None


def test_ratio_pairs_the_rounds():
    # The ratio of the medians would be 2.
    times = {"ours": [1.0, 10.0, 100.0], "theirs": [3.0, 30.0, 20.0]}
    assert paired.ratio(times, "theirs", "ours") == 3.0
    assert paired.ratio(times, "torch", "ours") is None
    assert paired.medians(times) == {"ours": 10.0, "theirs": 20.0}


def test_waits_after_each_execution_or_after_the_last():
    for each, waits in ((True, [1, 2, 3, 3]), (False, [3])):
        started, waited = [], []

        def step(started=started):
            started.append(None)
            return len(started)

        paired.burst(paired.Work(step, waited.append, {}, wait_each=each), 3)
        assert waited == waits


def test_children_serve_over_their_pipes():
    with contextlib.ExitStack() as stack:
        environment = {"PYTHONPATH": str(pathlib.Path(paired.__file__).parent)}
        a, b = (
            stack.enter_context(paired.Contestant(name, [sys.executable, str(ECHO), scale], environment))
            for name, scale in (("a", "1"), ("b", "2"))
        )
        assert a.hello["versions"] == {"echo": "1"}
        seconds, values = b.prepare({"name": "count", "n": 3})
        assert seconds >= 0
        np.testing.assert_array_equal(values["output"], [2, 4, 6])
        assert b.burst(4) >= 0
        _, absent = paired.measure([a, b], {"name": "broken"}, paired.Schedule(rounds=1))
        assert absent == {"a": "Unavailable: no such layer", "b": "Unavailable: no such layer"}
        times, absent = paired.measure([a, b], {"name": "count", "n": 2}, paired.Schedule(rounds=2, seconds=1e-9))
        assert len(times["a"]) == 2
        assert "differs by 1.0e+00" in absent["b"]


def test_a_child_that_ends_is_an_error():
    with pytest.raises(RuntimeError, match=r"process of gone ended with code 3"):
        paired.Contestant("gone", [sys.executable, "-c", "raise SystemExit(3)"])
