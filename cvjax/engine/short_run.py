"""Trains and scores a net in memory, with the engine's own steps and no work folder: for studies of many short runs."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Dataset
from cvjax.data.loader import prefetch_to_device
from cvjax.data.part import part_of
from cvjax.engine.config import RunConfig, resolve
from cvjax.engine.evaluate import make_evaluator, plain
from cvjax.engine.pacing.pace import known, make_rates
from cvjax.engine.run import checked_strategy, initial_variables, train_stream, training_split, with_steps
from cvjax.engine.state import TrainState, create_state
from cvjax.engine.step import make_run_step
from cvjax.engine.task import Report, Task
from cvjax.errors import DivergedError

Watch = Callable[[int, TrainState, Mapping[str, Any]], None]


class Trained(NamedTuple):
    """Holds what a short run came to.

    Attributes:
      variables: {"params", "batch_stats"} after the last step, the average where the run keeps one.
      losses: Training loss of each step, float64 [steps].
    """

    variables: dict[str, Any]
    losses: np.ndarray

    @property
    def last_loss(self) -> float:
        """Returns the mean loss of the last tenth of the steps."""
        return float(np.mean(self.losses[-max(1, len(self.losses) // 10) :]))


class ShortRun:
    """Trains one net on one data set with as many seeds as one asks for; its steps compile once.

    A run of `cvjax.train` with the same configuration and seed has the same losses. Nothing is written, nothing can
    be resumed, and the steps are in memory one after the other.

    Args:
      config: Configuration of a run, whose `workdir` need not be given.
      make: Function from the number of classes to a module in the place of `config.model`, such as a net of one's own.
      examples: Largest number of examples that are scored, spread evenly over the split; None scores all.

    Raises:
      UserError: Any of the mistakes that a run refuses before its first step.
    """

    def __init__(
        self, config: RunConfig, make: Callable[[int], nn.Module] | None = None, examples: int | None = None
    ) -> None:
        task_class = resolve(config.task)
        self.strategy = checked_strategy(config)
        self.train_set: Dataset = training_split(task_class, config)
        eval_set = task_class.open(config, config.input.eval_split)
        config = with_steps(config, len(self.train_set))
        self.model = (make or config.model.build)(len(self.train_set.class_names))
        self.task: Task = task_class.create(config, self.train_set, self.model)
        self.scoring, eval_set = self.task.matched(eval_set)
        if examples is not None and examples < len(eval_set):
            chosen = np.linspace(0, len(eval_set) - 1, examples).round().astype(int)
            eval_set = part_of(eval_set, chosen.tolist(), eval_set.split)
        self.eval_set: Dataset = eval_set
        self._score = make_evaluator(self.scoring, self.model, self.eval_set, self.strategy)
        rates = make_rates(config)
        self._optimizer = rates[1]
        step = make_run_step(self.model, self.task, config.optim, rates, self.strategy)
        self._step = self.strategy.compile_train(step)

    def start(self, seed: int) -> dict[str, Any]:
        """Returns the first variables of a run with a seed."""
        return initial_variables(self._seeded(seed), self.model)

    def train(self, seed: int, variables: Mapping[str, Any] | None = None, watch: Watch | None = None) -> Trained:
        """Trains for the configured number of steps.

        Args:
          seed: Seed of parameters, order of examples, augmentation and dropout.
          variables: {"params", "batch_stats"} to start from, in the place of `start(seed)`.
          watch: Function that is called after each step with its number, the state and the metrics. The next step
            consumes that state.

        Raises:
          DivergedError: A loss is not finite.
        """
        task, ema = self._seeded(seed), self.task.config.optim.ema_decay is not None
        first = dict(self.start(seed) if variables is None else variables)
        state = self.strategy.start(lambda tree: create_state(tree, self._optimizer, ema), first)
        key, losses = jax.random.key(seed), []
        stream = prefetch_to_device(train_stream(task, self.train_set, 0), self.strategy.place_batch)
        try:
            for step in range(1, known(self.task.config.steps) + 1):
                state, metrics = self._step(state, next(stream), key)
                losses.append(metrics["loss"])
                if watch is not None:
                    watch(step, state, metrics)
                if len(losses) > 2:
                    jax.block_until_ready(losses[-3])  # a few steps ahead keep the devices busy and hold little memory
        finally:
            stream.close()
        values = np.array([float(self.strategy.fetch(loss)) for loss in losses])
        if not math.isfinite(values.sum()):
            step = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
            raise DivergedError(
                f"the loss of seed {seed} is {values[step - 1]} at step {step}; lower the learning rate"
            )
        return Trained(self.strategy.fetch(state.inference_variables), values)

    def score(self, variables: Mapping[str, Any]) -> Report:
        """Returns the scores of variables on the split that is evaluated, as report.json has them."""
        return plain(self._score(self.strategy.place_state(dict(variables))))

    def _seeded(self, seed: int) -> Any:
        task: Any = self.task
        return dataclasses.replace(task, config=dataclasses.replace(task.config, seed=seed))
