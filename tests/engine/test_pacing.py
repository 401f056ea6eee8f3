"""How long a run goes on: patience with its scores, a time budget, and the rate that follows it."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import largest_difference, toy_batch, toy_training
from toy_run import toy_fit

from cvjax.engine.checkpoint import complete_steps, find_checkpoint
from cvjax.engine.config import RunConfig
from cvjax.engine.optim import OptimizerConfig, make_schedule
from cvjax.engine.pacing.budget import Budget, budget_schedule, recorded_progress
from cvjax.engine.pacing.pace import check_pace
from cvjax.engine.pacing.patience import standing
from cvjax.errors import CheckpointError, ConfigError

STEADY = OptimizerConfig(learning_rate=0.05, schedule="constant")


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def by_step(workdir, name):
    """A metric by step; of a step that was taken twice, the later."""
    return {line["step"]: line[name] for line in lines(workdir) if name in line}


@pytest.mark.parametrize(
    ("scores", "min_delta", "step", "waited"),
    [
        ([], 0.0, 0, 0),
        ([0.1, 0.3, 0.3, 0.2], 0.0, 2, 2),  # an equal score is not better
        ([0.1, 0.15, 0.19, 0.21], 0.1, 4, 0),  # each against the best, not against the one before
        ([math.nan, 0.1, math.nan], 0.0, 2, 1),
        ([-0.5, -0.4], 0.0, 2, 0),
    ],
)
def test_patience_counts_evaluations_without_a_better_score(scores, min_delta, step, waited):
    found = standing(list(enumerate(scores, 1)), min_delta)
    assert (found.step, found.waited) == (step, waited)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """A run that no score satisfies: the first evaluation is better than none, and two more end it."""
    workdir = tmp_path_factory.mktemp("impatient")
    return workdir, toy_fit(workdir, 60, eval_every=3, optim=STEADY, patience=2, min_delta=2.0, checkpoint_every=0)


def test_patience_ends_a_run_and_reports_its_best_checkpoint(impatient, capsys):
    workdir, outcome = impatient
    scores = by_step(workdir, "val/miou")
    best = max(scores, key=lambda step: (scores[step], step))
    assert (outcome.step, list(scores)) == (9, [3, 6, 9])
    assert outcome.report["miou"] == scores[best]
    assert int(outcome.state.step) == best == int(find_checkpoint(workdir).name)


def test_a_resumed_run_ends_where_the_one_never_stopped_ends(impatient, tmp_path, capsys):
    workdir, outcome = impatient
    options = {"eval_every": 3, "optim": STEADY, "patience": 2, "min_delta": 2.0}
    with pytest.raises(RuntimeError, match="batch 7"):
        toy_fit(tmp_path, 60, crash=7, **options)
    assert complete_steps(tmp_path / "checkpoints")[-1] == 6
    again = toy_fit(tmp_path, 60, resume=True, **options)
    assert by_step(tmp_path, "loss") == by_step(workdir, "loss")
    assert (again.step, again.report) == (outcome.step, outcome.report)
    assert largest_difference(jax.device_get(again.state), jax.device_get(outcome.state)) == 0
    capsys.readouterr()
    once_more = toy_fit(tmp_path, 60, resume=True, **options)  # takes no step, and says the same
    assert once_more.report == outcome.report
    assert "stopped early at step 9: 2 evaluations did not raise miou by more than 2" in capsys.readouterr().out
    assert list(by_step(tmp_path, "loss")) == list(range(1, 10))


def test_more_patience_goes_on(impatient, tmp_path):
    toy_fit(tmp_path, 60, eval_every=3, optim=STEADY, patience=1, min_delta=2.0)
    further = toy_fit(tmp_path, 60, eval_every=3, optim=STEADY, patience=2, min_delta=2.0, resume=True)
    assert (further.step, by_step(tmp_path, "loss")) == (9, by_step(impatient[0], "loss"))


class Clock:
    """Goes on by a second whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


COSINE = OptimizerConfig(learning_rate=0.05, schedule="cosine", warmup=0.1)


def test_the_learning_rate_follows_the_clock(tmp_path):
    outcome = toy_fit(tmp_path, 1, hours=40 / 3600, clock=Clock(), optim=COSINE, eval_every=0)
    shares, rates = by_step(tmp_path, "progress"), by_step(tmp_path, "learning_rate")
    assert outcome.step == len(shares)
    assert 25 < outcome.step < 40  # a look a step, and some for the records
    assert list(shares.values()) == sorted(shares.values())
    assert max(shares.values()) < 1.0
    for step, share in shares.items():
        past = (share - 0.1) / 0.9
        expected = 0.05 * (share / 0.1 if share < 0.1 else (1 + math.cos(math.pi * past)) / 2)
        assert rates[step] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_resumed_budget_goes_on_where_it_was_and_is_repeated_from_its_progress(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    options = {"hours": 60 / 3600, "optim": COSINE, "eval_every": 0}
    with pytest.raises(RuntimeError):
        toy_fit(first, clock=Clock(), crash=12, **options)
    saved = complete_steps(first / "checkpoints")[-1]
    toy_fit(first, clock=Clock(), resume=True, **options)
    shares = by_step(first, "progress")
    gaps = np.diff(list(shares.values()))
    assert 0 < shares[saved + 1] - shares[saved] < 8 / 60  # the time of before counts, and time away does not
    assert max(gaps) < 8 / 60
    again = toy_fit(second, hours=1.0, optim=COSINE, eval_every=0, progress_from=str(first / "metrics.jsonl"))
    assert again.step == max(shares)
    for name in ("progress", "learning_rate", "loss"):
        assert by_step(second, name) == by_step(first, name)


def test_runs_of_steps_and_of_hours_do_not_resume_each_other(tmp_path):
    toy_fit(tmp_path, 3)
    with pytest.raises(CheckpointError, match=r"a number of steps.*leave out --hours"):
        toy_fit(tmp_path, 3, hours=1.0, resume=True)


def test_lines_before_a_resumption_do_not_count():
    taken = [{"step": s, "progress": p} for s, p in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25), (3, 0.5))]
    assert recorded_progress([*taken, {"step": 3, "val/miou": 0.1}]) == {1: 0.1, 2: 0.25, 3: 0.5}
    assert recorded_progress(taken[:4]) == {1: 0.1, 2: 0.25}


def test_several_hosts_look_at_the_clock_of_the_first(monkeypatch):
    """Host 0 has used a quarter of the time; the others take its word, every tenth step."""
    asked = []

    def told(value):
        asked.append(value)
        return np.float32(0.25)

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr("cvjax.engine.pacing.budget.multihost_utils.broadcast_one_to_all", told)
    budget = Budget(1.0, clock=Clock())
    assert {float(budget.progress(step)) for step in range(1, 31)} == {0.25}
    assert not budget.ends(30)
    assert len(asked) == 4  # at steps 1, 11, 21 and 31


@pytest.mark.parametrize("name", ["poly", "cosine", "step", "exponential", "constant"])
def test_a_budgets_schedule_is_that_of_steps(name):
    config = OptimizerConfig(learning_rate=0.1, schedule=name, warmup=0.1, milestones=(0.5, 0.75))
    by_steps, by_share = make_schedule(config, 1000), budget_schedule(config)
    for step in (150, 333, 620, 851, 999):
        assert float(by_share(step / 1000)) == pytest.approx(float(by_steps(step)), rel=2e-3)


def test_settings_that_do_not_go_together():
    with pytest.raises(ConfigError, match="--eval-every 0"):
        check_pace(RunConfig(patience=3, eval_every=0))
    with pytest.raises(ConfigError, match="--hours too"):
        check_pace(RunConfig(progress_from="metrics.jsonl"))


def test_the_average_warms_up_unless_told_otherwise():
    """By hand: min(d, (1 + t) / (10 + t)), or d from the first step on."""
    for warm in (True, False):
        config = OptimizerConfig(learning_rate=0.5, schedule="constant", ema_decay=0.99)
        state, step = toy_training(dataclasses.replace(config), ema_warmup=warm)
        expected = np.asarray(state.params["classifier"]["bias"], np.float64)
        for number in range(3):
            state, _ = jax.jit(step)(
                state, {k: jnp.asarray(v) for k, v in toy_batch(number).items()}, jax.random.key(0)
            )
            decay = min(0.99, (1 + number) / (10 + number)) if warm else 0.99
            expected = decay * expected + (1 - decay) * np.asarray(state.params["classifier"]["bias"])
        np.testing.assert_allclose(state.ema["params"]["classifier"]["bias"], expected, rtol=1e-5, atol=1e-7)
