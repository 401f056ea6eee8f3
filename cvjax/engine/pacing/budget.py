"""Makes a run's learning rate follow a time budget: it is a function of the share of the budget that is used up.

The share of each step is decided on the host and travels to the device inside the optimizer's state. So it is saved
with every checkpoint, recorded for every step as `progress`, and steps taken with the same shares are the same steps.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from cvjax.engine.optim import OptimizerConfig, make_schedule
from cvjax.engine.state import TrainState
from cvjax.errors import ConfigError

_FINE = 1 << 20
"""Number of parts of a budget that schedules, which are functions of whole steps, are asked about."""
_TOGETHER = 10
"""Number of steps for which several hosts share one reading of the clock: each reading makes them wait for host 0."""


class BudgetState(NamedTuple):
    """Holds the share of the budget that is used up at a step, float32 scalar."""

    budget_progress: Any


def budget_schedule(config: OptimizerConfig) -> optax.Schedule:
    """Returns the learning rate as a function of the share of a budget, from 0 to 1.

    Raises:
      ConfigError: Values that no schedule can have, see `make_schedule`.
    """
    schedule = make_schedule(config, _FINE)
    return lambda progress: schedule(jnp.asarray(progress, jnp.float32) * _FINE)


def scale_by_budget(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Multiplies updates by minus the learning rate of the progress that `with_progress` has put into the state."""

    def init(params: Any) -> BudgetState:
        del params
        return BudgetState(jnp.zeros((), jnp.float32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, BudgetState]:
        del params
        rate = jnp.asarray(schedule(state.budget_progress))
        return jax.tree.map(lambda u: u * -rate.astype(u.dtype), updates), state

    return optax.GradientTransformation(init, update)


def progress_of(state: TrainState) -> jax.Array | None:
    """Returns the share of the budget that a state carries; None of a run without a budget."""
    for leaf in jax.tree.leaves(state.opt_state, is_leaf=_is_budget):
        if _is_budget(leaf):
            return leaf.budget_progress
    return None


def with_progress(state: TrainState, progress: Any) -> TrainState:
    """Returns the state with another share of the budget.

    Args:
      state: State of a run with a budget.
      progress: Share, placed as the state's arrays are.
    """
    return state.replace(  # type: ignore[attr-defined]
        opt_state=jax.tree.map(
            lambda leaf: BudgetState(progress) if _is_budget(leaf) else leaf, state.opt_state, is_leaf=_is_budget
        )
    )


def _is_budget(leaf: Any) -> bool:
    return isinstance(leaf, BudgetState)


class Budget:
    """Tells for each step which share of a time budget is used up. Host 0 decides, for all hosts.

    Args:
      hours: Budget of the whole run.
      used: Seconds that the run had used before it was resumed here.
      clock: Clock in seconds, which only goes forward.
      recorded: Share of each step by its number, of an earlier run, which then takes the place of the clock's.
    """

    def __init__(
        self,
        hours: float,
        used: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        recorded: Mapping[int, float] | None = None,
    ) -> None:
        self._whole, self._used, self._clock, self._recorded = hours * 3600.0, used, clock, recorded
        self._began, self._asked, self._known = clock(), 0, np.float32(0.0)

    @property
    def seconds(self) -> float:
        """Returns the seconds that the run has used, over all of its resumptions."""
        return self._used + self._clock() - self._began

    def progress(self, step: int) -> np.float32:
        """Returns the share that is used up when a step begins; every host asks once for each step, in their order.

        Raises:
          ConfigError: The recorded run has no such step.
        """
        if self._recorded is not None:
            if step not in self._recorded:
                raise ConfigError(
                    f"--progress-from has no progress of step {step:,}; give the metrics.jsonl of a run with --hours"
                )
            return np.float32(self._recorded[step])
        alone = jax.process_count() == 1
        # One reading says that a step is not the last, and what rate the next one has: none is taken at the very end.
        if not self._asked or step - self._asked >= (1 if alone else _TOGETHER):
            share = np.float32(min(1.0, self.seconds / self._whole))
            self._known = share if alone else np.float32(multihost_utils.broadcast_one_to_all(share))
            self._asked = step
        return self._known

    def ends(self, step: int) -> bool:
        """Returns whether a step, once taken, is the last one; every host asks once for each step, in their order."""
        if self._recorded is not None:
            return step + 1 not in self._recorded
        return float(self.progress(step + 1)) >= 1.0


def recorded_progress(lines: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """Returns the share of each step from the lines of a metrics file; the last line of a step counts.

    A run that was killed and resumed went back; what it took before, behind that point, does not count.
    """
    shares: dict[int, float] = {}
    for line in lines:
        if "progress" in line:
            step = int(line["step"])
            shares = {number: share for number, share in shares.items() if number < step} if step in shares else shares
            shares[step] = float(line["progress"])
    return shares
