"""This module turns signals into a request to save and stop."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

_ASKING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class StopSignal:
    """Turns SIGTERM, Ctrl-C and the end of a terminal into a request that the loop grants at the end of a step.

    A second signal does not wait for the step. In a run of several processes all hosts must stop at the same step.
    There this class asks JAX, which listens for SIGTERM itself, or for the platform's notice that a machine is about to
    go, and makes the processes agree on a step. The other signals are passed on to it.

    Attributes:
      number: Number of the signal that came, None without one.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._alone = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        self._alone = jax.process_count() == 1
        if threading.current_thread() is threading.main_thread():
            for number in _ASKING:
                if number == signal.SIGTERM and not self._alone:
                    continue  # JAX has a handler of its own, which Python does not know
                # `nohup` ignores the end of a terminal, and means it.
                if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(status(number))
        self.number = number
        if not self._alone:
            os.kill(os.getpid(), signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """Returns whether the run should save and stop now."""
        if self._alone:
            return self.number is not None
        if not multihost_utils.reached_preemption_sync_point(step):
            return False  # also on the host that was asked, until all of them may stop
        self.number = self.number or signal.SIGTERM
        return True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def status(number: int) -> int:
    """Returns the exit status of a process that a signal ended, as shells know it: 143 for SIGTERM, 130 for Ctrl-C."""
    return 128 + number
