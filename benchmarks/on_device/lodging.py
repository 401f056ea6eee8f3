"""Contestants that share one process, for devices that one process alone may use, such as a TPU."""

import threading
from collections.abc import Callable

import numpy as np
from paired import Contestant, Message


class Lodger(Contestant):
    """A contestant in the process of another; who lives together waits for one another.

    Its `prepare` tells the process by `side` who is meant. To stop one is to stop all.
    """

    def __init__(self, name: str, host: Contestant, lock: threading.Lock):
        # Without the parent's: there is no process to start.
        self.name, self.facts, self.hello = name, {}, host.hello
        self._process, self._folder, self._lock = host._process, host._folder, lock

    def prepare(self, case: Message) -> tuple[float, dict[str, np.ndarray]]:
        with self._lock:
            return super().prepare({**case, "side": self.name})

    def burst(self, repeat: int) -> float:
        with self._lock:
            return super().burst(repeat)


class House:
    """Starts lodgers in one process, and a new process where the last one has ended."""

    def __init__(self, start: Callable[[], Contestant]):
        self._start, self._lock = start, threading.Lock()
        self._host: Contestant | None = None

    def connect(self, side: str) -> Contestant:
        """A contestant of that side."""
        if self._host is None or self._host.has_ended:
            self._host, self._lock = self._start(), threading.Lock()
        return Lodger(side, self._host, self._lock)
