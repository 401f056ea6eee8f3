"""This module watches over the hosts of a run: it ends this process, with a sentence, once another one is gone.

JAX does so by itself, later and by a C++ stack (100 s without a heartbeat; at once where process 0 is gone).
"""

import contextlib
import json
import platform
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from cvjax.engine.guards.ending import LOST, end_process, ending_of
from cvjax.engine.guards.pulse import DEVICES, STARTING, Pulse
from cvjax.engine.guards.terminal import loud_stderr

_BEATS, _ENDS = "cvjax/beat/", "cvjax/end/"
_SECONDS = 2.0  # between beats
_GRACE = 3.0  # seconds in which this process may say itself why it ends
_LINGER = 10.0  # seconds in which host 0, whose process holds the store, waits for the others to read the last word
_LONGEST = 2000  # characters of a sentence that is handed over
_LEFT, _OVER = "left", "over"
_SHOWN = 4
# What JAX raises where a collective finds no partner: gloo's, NCCL's and gRPC's words.
_BROKEN = ("Gloo", "gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "Connection", "coordination service")


class Store(Protocol):
    """Holds texts by name for all hosts: what JAX's distributed client offers of that."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Puts a text into the store."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Returns all texts whose names begin so."""
        ...


class HostWatch:
    """Lets the other hosts know that this one lives and where it is, and learns the same of them.

    Each host writes a beat into the store every two seconds. Host 0 alone reads them all, and says which one is
    silent, so that what travels grows with the number of hosts and not with its square.

    Args:
      store: Texts that all hosts share; process 0 holds it.
      number: Number of this host.
      count: Number of hosts.
      silence: Seconds without a beat after which a host is lost.
      pulse: What the loop of this host does.
      coordinator_lost: Set as soon as the connection to process 0 is known to be broken.
    """

    def __init__(
        self,
        store: Store,
        *,
        number: int,
        count: int,
        silence: float,
        pulse: Pulse,
        coordinator_lost: threading.Event | None = None,
    ) -> None:
        self._store, self._number, self._count, self._silence, self._pulse = store, number, count, silence, pulse
        self._coordinator_lost = coordinator_lost or threading.Event()
        self._interval = min(_SECONDS, silence / 4)
        self._heard: dict[int, tuple[int, float]] = {}  # last beat of each host, and when it came
        self._beats, self._lost = 0, -1
        self._answered = time.monotonic()
        self._hurry, self._over, self._leaving = threading.Event(), threading.Event(), threading.Event()
        self._ended, self._asking = threading.Event(), threading.Event()

    def start(self) -> None:
        """Starts to beat and to listen."""
        for name, target in (("cvjax-hosts", self._beat), ("cvjax-coordinator", self._watch_coordinator)):
            threading.Thread(target=target, name=name, daemon=True).start()

    # In threads.

    def _beat(self) -> None:
        while not self._over.is_set():
            try:
                verdict = self.round()
            except Exception:  # the store does not answer; `_watch_coordinator` sees that no round comes to its end
                time.sleep(self._interval)
                continue
            self._answered = time.monotonic()
            if verdict is not None:
                self._end(verdict)
            self._hurry.wait(self._interval)
            if self._hurry.is_set():
                time.sleep(0.1)

    def _watch_coordinator(self) -> None:
        if self._number == 0:
            return
        while not self._over.is_set():
            broken = self._coordinator_lost.wait(self._interval)
            silent = time.monotonic() - self._answered > self._silence
            if self._over.is_set() or not (broken or silent):
                continue
            what = "its connection broke off" if broken else f"it has not answered for {self._silence:g} seconds"
            self._end((LOST, lost("host 0", self._pulse.step, what)))

    def round(self) -> tuple[int, str] | None:
        """Writes this host's beat and reads what it must know; returns status and sentence if the run is to end."""
        self._beats += 1
        pulse = self._pulse
        doing = _LEFT if self._hurry.is_set() else pulse.doing
        self._set(_BEATS, [self._beats, pulse.step, doing, platform.node()])
        if self._number == 0:
            self._look_around()
        for key, text in self._store.key_value_dir_get(_ENDS):
            if key.endswith(f"/{self._number}"):
                continue
            status, sentence = json.loads(text)
            if sentence == _OVER:
                self._over.set()
                return None
            return status, sentence
        return None

    def _look_around(self) -> None:
        """Reads the beats of all hosts, and tells all of them if one is silent, or if all are through."""
        now, beats, left = time.monotonic(), self._all_beats(), 0
        for number in range(1, self._count):
            beat = beats.get(number, [0, 0, STARTING, "which has not begun"])
            left += beat[2] == _LEFT
            if self._heard.setdefault(number, (beat[0], now))[0] != beat[0]:
                self._heard[number] = beat[0], now
            elif now - self._heard[number][1] > self._silence:
                self._lost = number
                what = f"nothing was heard of it for {self._silence:g} seconds"
                self._say("lost", LOST, lost(f"host {number} ({beat[3]})", beat[1], what))
                return
        if left == self._count - 1 and self._hurry.is_set():
            self._say("over", 0, _OVER)

    def _all_beats(self) -> dict[int, list[Any]]:
        return {int(key.rpartition("/")[2]): json.loads(text) for key, text in self._store.key_value_dir_get(_BEATS)}

    def _set(self, kind: str, value: Any) -> None:
        self._store.key_value_set(f"{kind}{self._number}", json.dumps(value), True)

    def _say(self, name: str, status: int, sentence: str) -> None:
        self._store.key_value_set(f"{_ENDS}{name}", json.dumps([status, sentence]), True)

    def _end(self, verdict: tuple[int, str]) -> None:
        """Ends this process, unless it is about to say itself why it ends."""
        self._ended.set()
        until = time.monotonic() + _GRACE
        while time.monotonic() < until and not self._asking.is_set():
            if self._leaving.wait(0.1):
                return
        self.leave()
        end_process(f"error: {verdict[1]}", verdict[0])

    # In the main thread.

    def elsewhere(self) -> str:
        """Says which other hosts are not where this one is, as the end of a sentence about a hang."""
        rows: dict[int, list[Any]] = {}
        _briefly(lambda: rows.update(self._all_beats()))
        here = self._pulse
        odd = [
            f"host {number} ({name}) is {doing} at step {step}"
            for number, (_, step, doing, name) in sorted(dict(rows).items())
            if number != self._number and (step < here.step or (here.doing == DEVICES and doing != DEVICES))
        ]
        if len(odd) > _SHOWN:
            odd[_SHOWN:] = [f"{len(odd) - _SHOWN} more are elsewhere"]
        return f", while {', '.join(odd)}" if odd else ""

    def give_up(self, line: str, status: int) -> None:
        """Ends this process with a line, from any thread, and the other hosts with it."""
        self._tell(line, status)
        self.leave()
        end_process(line, status)

    def finish(self) -> None:
        """Waits until all hosts are through, and stops listening. A host that is lost meanwhile is still noticed."""
        self._hurry.set()
        self._over.wait()

    def fail(self, error: BaseException) -> None:
        """Tells the other hosts why this one ends. Returns without having told them if they are the cause.

        Args:
          error: What ended the run here.
        """
        if _is_broken_collective(error):
            # Another host is gone, and the threads will know which. They end this process.
            self._asking.set()
            self._ended.wait(self._silence + 3 * self._interval)
            if self._ended.is_set():
                time.sleep(2 * (_GRACE + _LINGER))
        self._leaving.set()
        status, line = ending_of(error)
        self._tell(line or f"{type(error).__name__}: {error}", status)

    def _tell(self, line: str, status: int) -> None:
        if self._ended.is_set() or self._coordinator_lost.is_set():
            return
        told = f"host {self._number} ({platform.node()}) has stopped: {line.removeprefix('error: ')}"
        _briefly(lambda: self._set(_ENDS, [status, told[:_LONGEST]]))

    def leave(self) -> None:
        """Says that this host is through. Host 0 waits, for a while, until the others have read why the run ends."""
        self._hurry.set()
        if self._coordinator_lost.is_set():
            return
        _briefly(lambda: self._set(_BEATS, [self._beats, self._pulse.step, _LEFT, platform.node()]))
        if self._number == 0:
            _briefly(self._wait_for_others, _LINGER)

    def _wait_for_others(self) -> None:
        while any(beat[2] != _LEFT for number, beat in self._all_beats().items() if number not in (0, self._lost)):
            time.sleep(0.1)


def _briefly(action: Callable[[], None], seconds: float = 5.0) -> None:
    """Calls a function that may hang or fail with the store, and goes on without it after some seconds."""

    def attempt() -> None:
        with contextlib.suppress(Exception):
            action()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)


def lost(who: str, step: int, what: str) -> str:
    """Returns the sentence about a host that is gone."""
    return (
        f"{who} is lost: {what}, at step {step}; the end of its own log says why, and --resume on all hosts goes on"
        " from the latest checkpoint"
    )


def _is_broken_collective(error: BaseException | None) -> bool:
    """Tells whether an error is that of a lost partner, or came from one, such as in a save that all hosts share."""
    while error is not None:
        if any(word in str(error) for word in _BROKEN):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def watched(watch: HostWatch) -> Iterator[None]:
    """Runs a block on all hosts together: if one of them ends, all do.

    An error ends this process here, with the line and the status that a command has for it, because JAX's own end
    would wait minutes for hosts that do not come.
    """
    watch.start()
    try:
        yield
    except BaseException as error:
        watch.fail(error)
        status, line = ending_of(error)
        if not line:
            traceback.print_exc(file=loud_stderr())
        watch.leave()
        end_process(line, status)
    watch.finish()
