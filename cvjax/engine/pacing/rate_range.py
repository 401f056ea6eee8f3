"""Sweeps the learning rate over a few steps, to find where a net learns (Smith, 1506.01186)."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from cvjax.data.loader import prefetch_to_device
from cvjax.engine.optim import make_optimizer
from cvjax.engine.parallel import Strategy
from cvjax.engine.state import create_state
from cvjax.engine.step import make_run_step
from cvjax.engine.task import Task, open_teacher
from cvjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Holds what a sweep of the learning rate found.

    Attributes:
      rates: Learning rate of each step, rising by the same factor from step to step.
      losses: Loss of each step, before its update.
      smoothed: The losses' running mean, see `smoothed_losses`.
      diverged: Whether the sweep ended because the loss went up, and not because the rates ended.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    diverged: bool

    @property
    def lowest(self) -> float:
        """Returns the rate at which the smoothed loss is lowest."""
        return self.rates[int(np.argmin(self.smoothed))]

    @property
    def steepest(self) -> float:
        """Returns the rate up to the lowest at which the smoothed loss falls most from step to step."""
        stop = int(np.argmin(self.smoothed)) + 1
        return self.rates[int(np.argmin(np.diff(self.smoothed[:stop])))] if stop > 1 else self.rates[0]

    @property
    def suggestion(self) -> float:
        """Returns the rate to train with: a tenth of `lowest`, where the loss still falls and is not about to rise."""
        return self.lowest / 10.0

    def as_json(self) -> dict[str, Any]:
        """Returns the figures as JSON holds them."""
        found = {"suggestion": self.suggestion, "lowest": self.lowest, "steepest": self.steepest}
        return found | dataclasses.asdict(self) | {"rule": "a tenth of the rate at which the smoothed loss is lowest"}


def sweep_rates(low: float, high: float, steps: int) -> np.ndarray:
    """Returns learning rates from `low` to `high`, each by the same factor above the one before, float64 [steps].

    Raises:
      ConfigError: There are fewer than two, or they do not rise from above 0.
    """
    if steps < 2 or not 0.0 < low < high:
        raise ConfigError(
            f"a sweep of {steps} steps from {low:g} to {high:g} finds nothing; give --low below --high, and 2 steps or"
            " more"
        )
    return np.geomspace(low, high, steps)


def smoothed_losses(losses: Sequence[float], decay: float) -> np.ndarray:
    """Returns the exponential running mean of losses, divided by the weight that it has so far (as Adam's moments are).

    Args:
      losses: Loss of each step.
      decay: Weight of what came before, from 0 to below 1.
    """
    mean, found = 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = decay * mean + (1.0 - decay) * loss
        found.append(mean / (1.0 - decay**count))
    return np.array(found)


def find_rate(
    task: Task,
    model: nn.Module,
    variables: Any,
    batches: Callable[[int], Iterator[dict[str, np.ndarray]]],
    strategy: Strategy,
    *,
    rates: np.ndarray,
    decay: float = 0.9,
    worse: float = 4.0,
    advance: Callable[[int, float, float], None] = lambda step, rate, loss: None,
) -> Sweep:
    """Trains with a rising learning rate until the loss goes up, and reports the losses. It keeps nothing of the net.

    All else is as in the run: optimizer, batches and their order, accumulation, devices.

    Args:
      task: Task of the run.
      model: Module that the task applies.
      variables: {"params", "batch_stats"} that the run starts from; they stay as they are.
      batches: Function from the number of the first batch to this host's rows of the stream.
      strategy: Strategy that spreads the steps over devices.
      rates: Result of `sweep_rates`.
      decay: Decay of `smoothed_losses`.
      worse: Multiple of the lowest smoothed loss from which the sweep counts as diverged.
      advance: Function that is called with each step's number, rate and loss.

    Raises:
      ConfigError: The loss is not finite at the first step already.
      UserError: The run's teacher cannot be read, or does not go with the model.
    """
    optim, teacher = task.config.optim, open_teacher(task, model)
    first, factor = float(rates[0]), float(rates[1] / rates[0])

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        return first * jax.numpy.exp(jax.numpy.asarray(step, jax.numpy.float32) * math.log(factor))

    optimizer = make_optimizer(optim, len(rates), rate=optax.scale_by_learning_rate(schedule))
    state = strategy.start(functools.partial(create_state, optimizer=optimizer, ema=False), dict(variables))
    step = strategy.compile_train(
        make_run_step(model, task, dataclasses.replace(optim, ema_decay=None), (schedule, optimizer), strategy, teacher)
    )
    key: Any = jax.random.key(task.config.seed)
    if teacher is not None:
        key = key, strategy.place_everywhere(teacher.variables)
    losses: list[float] = []
    lowest, diverged = math.inf, False
    stream = prefetch_to_device(batches(0), strategy.place_batch)
    try:
        for number, rate in enumerate(rates):
            state, metrics = step(state, next(stream), key)
            values: Mapping[str, Any] = strategy.fetch(metrics)
            loss = float(values["loss"])
            if not math.isfinite(loss):
                diverged = True
                break
            losses.append(loss)
            advance(number + 1, float(rate), loss)
            last = float(smoothed_losses(losses, decay)[-1])
            lowest = min(lowest, last)
            if last > worse * lowest:
                diverged = True
                break
    finally:
        stream.close()
    if not losses:
        raise ConfigError("the loss of the first step is not finite, at whatever rate; check the data and the weights")
    taken = tuple(float(rate) for rate in rates[: len(losses)])
    return Sweep(taken, tuple(losses), tuple(smoothed_losses(losses, decay).tolist()), diverged)
