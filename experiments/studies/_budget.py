"""Equal budgets: what nets cost, and the width with which one net costs as much as another."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from cvjax.engine.state import TrainState


def closest(count: Callable[[int], int], target: float, low: int, high: int) -> int:
    """Returns the number of low to high whose count is nearest to a target, by bisection: counts grow with numbers."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= target else (low, middle)
    return min((low, high), key=lambda number: abs(count(number) - target))


class StepClock:
    """Notes when training steps end, as `watch` of `ShortRun.train`; it waits for each of them.

    Attributes:
      ends: Time of each end in seconds.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []

    def __call__(self, step: int, state: TrainState, metrics: Mapping[str, Any]) -> None:
        """Notes the end of a step."""
        del step, state
        jax.block_until_ready(metrics["loss"])
        self.ends.append(time.monotonic())

    @property
    def seconds(self) -> float:
        """Returns the median of the seconds from one end to the next, 0 of a single step."""
        return float(np.median(np.diff(self.ends))) if len(self.ends) > 1 else 0.0
