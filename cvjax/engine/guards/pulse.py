"""This module knows what a run is doing, for how long it has, and where the time of its steps goes."""

import time
from collections.abc import Callable

STARTING = "starting"
DATA = "waiting for a batch"
HOST = "handing a step to the devices"
DEVICES = "waiting for the devices"
EVALUATING = "evaluating"
SAVING = "saving a checkpoint"


class Pulse:
    """Takes note of what the loop does, from moment to moment. Threads that guard the run read it.

    Attributes:
      step: Number of the step that is under way.
      doing: What the loop does now, one of the names above.
      since: Moment at which it began, on the clock of `time.monotonic`.
      observer: Function that is told of each change, if there is one.
    """

    def __init__(self) -> None:
        self.step, self.doing, self.since = 0, STARTING, time.monotonic()
        self.observer: Callable[[str], None] | None = None
        self._spent: dict[str, float] = {}

    def now(self, doing: str, step: int | None = None) -> None:
        """Says what the loop does from here on.

        Args:
          doing: What it does.
          step: Number of the step, where a new one begins.
        """
        moment = time.monotonic()
        self._spent[self.doing] = self._spent.get(self.doing, 0.0) + moment - self.since
        self.doing, self.since = doing, moment
        if step is not None:
            self.step = step
        if self.observer is not None:
            self.observer(doing)

    def alive(self) -> None:
        """Says that the loop goes on with what it does, such as an evaluation with another batch."""
        self.now(self.doing)

    def spent(self) -> dict[str, float]:
        """Returns the seconds since the last call that went into waiting for data, the host's part, and the devices."""
        self.alive()
        taken, self._spent = self._spent, {}
        return {name: taken.get(name, 0.0) for name in (DATA, HOST, DEVICES)}
