"""Tells the loop how long a run goes on: for a number of steps, for some hours, or as long as its scores rise."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import optax

from cvjax.engine.config import RunConfig
from cvjax.engine.optim import make_optimizer, make_schedule
from cvjax.engine.pacing.budget import Budget, budget_schedule, recorded_progress, scale_by_budget, with_progress
from cvjax.engine.pacing.patience import History, read_history, standing
from cvjax.engine.parallel import Strategy
from cvjax.engine.state import TrainState
from cvjax.errors import CheckpointError, ConfigError
from cvjax.storage import as_path


def check_pace(config: RunConfig) -> None:
    """Checks what a configuration alone tells of a run's end.

    Raises:
      ConfigError: Two settings do not go together.
    """
    if config.patience is not None and config.eval_every == 0:
        raise ConfigError(
            "--patience counts evaluations, and --eval-every 0 makes one at the end alone; give --eval-every"
        )
    if config.progress_from is not None and config.hours is None:
        raise ConfigError("--progress-from repeats a run with a time budget; give its --hours too")


def length_in_words(config: RunConfig) -> str:
    """Returns the length of a run as its first line says it."""
    return f"{config.steps} steps" if config.hours is None else f"{config.hours:g} hours of steps"


def make_rates(config: RunConfig) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Returns the learning rate of a run, as a function of the step or of the budget's share, and its optimizer.

    Raises:
      ConfigError: The run has no length, or values that no schedule can have.
    """
    if config.hours is not None:
        schedule = budget_schedule(config.optim)
        return schedule, make_optimizer(config.optim, 1, rate=scale_by_budget(schedule))
    steps = known(config.steps)
    return make_schedule(config.optim, steps), make_optimizer(config.optim, steps)


def known(steps: int | None) -> int:
    """Returns the length of a run.

    Raises:
      ConfigError: It has none.
    """
    if steps is None:
        raise ConfigError("the run has no length; give --steps, --epochs or --hours")
    return steps


class Pace:
    """Follows a run from evaluation to evaluation, and says when it ends.

    What it knows of the run's past comes from the checkpoint that the run goes on from. So a resumed run ends where the
    same run ends that was never stopped.

    Args:
      config: Configuration of the run.
      metric: Name of the score that counts; larger is better.
      start: Step that the run begins at.
      metadata: Metadata of the checkpoint that it goes on from; empty at the start.
      clock: Clock in seconds, which only goes forward.

    Raises:
      ConfigError: The file of `progress_from` cannot be read.
    """

    def __init__(
        self,
        config: RunConfig,
        metric: str,
        start: int,
        metadata: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        past = metadata.get("pace") or {}
        self._metric, self._start = metric, start
        self._patience, self._min_delta = config.patience, config.min_delta
        self._history: History = read_history(past.get("history"))
        self._budget: Budget | None = None
        if config.hours is not None:
            recorded = None if config.progress_from is None else _read_progress(config.progress_from)
            self._budget = Budget(config.hours, float(past.get("seconds") or 0.0), clock, recorded)
        self._steps = sys.maxsize if config.hours is not None else known(config.steps)

    def steps(self) -> Iterator[int]:
        """Yields the numbers of the steps to take, until the caller stops at the last one."""
        if not self.out_of_patience and not (self._budget and self._start and self._budget.ends(self._start)):
            yield from range(self._start + 1, self._steps + 1)

    def prepared(self, state: TrainState, step: int, strategy: Strategy) -> TrainState:
        """Returns the state for a step, with the share of the time budget if there is one."""
        if self._budget is None:
            return state
        return with_progress(state, strategy.place_state({"share": np.asarray(self._budget.progress(step))})["share"])

    def is_last(self, step: int) -> bool:
        """Returns whether the run's length ends with a step; the loop asks once for each."""
        return step == self._steps if self._budget is None else self._budget.ends(step)

    def evaluated(self, step: int, scores: Mapping[str, float]) -> None:
        """Takes note of the scores of an evaluation."""
        self._history = (*self._history, (step, float(scores[self._metric])))

    @property
    def out_of_patience(self) -> bool:
        """Returns whether so many evaluations as configured have passed without a better score."""
        return self._patience is not None and standing(self._history, self._min_delta).waited >= self._patience

    @property
    def reports_best(self) -> bool:
        """Returns whether the run is to report its best checkpoint, and not its last."""
        return self._patience is not None

    def record(self) -> dict[str, Any]:
        """Returns what a checkpoint records of the past."""
        seconds = {} if self._budget is None else {"seconds": self._budget.seconds}
        return {"history": [list(row) for row in self._history], **seconds}

    def farewell(self, step: int, best: int) -> str:
        """Returns the line about a run that reports its best checkpoint.

        Args:
          step: Step that it ended at.
          best: Step of the checkpoint that it reports.
        """
        found = standing(self._history, self._min_delta)
        score = f"{self._metric} {dict(self._history).get(best, found.score):.4f}"
        if not self.out_of_patience:
            return f"the checkpoint of step {best:,} is reported, the best of the run with {score}"
        more = f" by more than {self._min_delta:g}" if self._min_delta else ""
        return (
            f"stopped early at step {step:,}: {found.waited} evaluations did not raise {self._metric}{more}; the"
            f" checkpoint of step {best:,} is reported, the best with {score}"
        )


def check_same_length(before: Mapping[str, Any], config: RunConfig, folder: Any) -> None:
    """Checks that a resumed run and its past both have a time budget, or both a number of steps.

    Args:
      before: Metadata of the checkpoint that the run goes on from.
      config: Configuration of the run.
      folder: Folder of the checkpoints.

    Raises:
      CheckpointError: One has a budget and the other has none: the optimizer's state is another.
    """
    budgeted = "seconds" in (before.get("pace") or {})
    if budgeted == (config.hours is not None):
        return
    was, way = ("some hours", "give --hours") if budgeted else ("a number of steps", "leave out --hours")
    raise CheckpointError(
        f"{folder} was trained for {was}, and its schedule follows that; {way}, or start another --workdir from its"
        " weights with --init"
    )


def _read_progress(path: str) -> dict[int, float]:
    way = "give the metrics.jsonl of a run with --hours"
    try:
        lines = [json.loads(line) for line in as_path(path).read_bytes().splitlines()]
        shares = recorded_progress(line for line in lines if isinstance(line, dict))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error}); {way}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no lines of metrics; {way}") from error
    if not shares:
        raise ConfigError(f"{path} records no progress; {way}")
    return shares
