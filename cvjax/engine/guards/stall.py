"""This module ends a run that does not get on, and says what it waited for."""

import contextlib
import faulthandler
import threading
import time
from collections.abc import Iterator

import jax

from cvjax.engine.config import RunConfig
from cvjax.engine.guards.ending import LOST, end_process
from cvjax.engine.guards.hosts import HostWatch
from cvjax.engine.guards.pulse import DATA, DEVICES, EVALUATING, HOST, SAVING, Pulse
from cvjax.storage import AnyPath, written_file

_WHY = {
    HOST: "another host does not take part in a collective, or the program of a first step takes long to compile",
    DATA: "the data set's disk or network does not answer, or a worker process hangs",
    DEVICES: "another host does not take part in a collective, or a device hangs",
    EVALUATING: "another host does not take part, or a device or the data set hangs",
    SAVING: "the work folder does not take what is written, or another host does not take part",
}


_MINUTES = 30.0  # in a run of several hosts, none of which can wait for the others by itself


def stall_minutes(config: RunConfig) -> float:
    """Returns the time-out of a run in minutes, 0 for none; one that is not configured goes by the number of hosts."""
    if config.stall_minutes is None:
        return _MINUTES if jax.process_count() > 1 else 0.0
    return config.stall_minutes


@contextlib.contextmanager
def watched_for_stalls(pulse: Pulse, minutes: float, folder: AnyPath, hosts: HostWatch | None = None) -> Iterator[None]:
    """Ends this process if the loop does nothing new for some minutes while the block runs.

    It prints one sentence with the host, the step and what was awaited, writes the stacks of all threads to a file,
    and ends the process with the status of `cvjax.engine.guards.ending.LOST`. A step that takes longer than that, and
    a program that takes longer to compile, count as stalls.

    Args:
      pulse: What the loop does.
      minutes: Time-out; 0 for none.
      folder: Folder that takes the file.
      hosts: What knows where the other hosts are, and ends them, too.
    """
    if not minutes:
        yield
        return
    over, host = threading.Event(), jax.process_index()

    def watch() -> None:
        limit = 60 * minutes
        while not over.wait(min(5.0, limit / 4)):
            if time.monotonic() - pulse.since > limit:
                step, doing = pulse.step, pulse.doing
                others = "" if hosts is None else hosts.elsewhere()
                line = stalled(host, step, doing, minutes, _stacks(folder, host), others)
                (end_process if hosts is None else hosts.give_up)(line, LOST)

    thread = threading.Thread(target=watch, name="cvjax-stalls", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def stalled(host: int, step: int, doing: str, minutes: float, stacks: str, others: str) -> str:
    """Returns the line about a run that hangs."""
    why = f" ({_WHY[doing]})" if doing in _WHY else ""
    return (
        f"error: host {host} has been {doing} at step {step} for {minutes:g} minutes{why}{others};{stacks} start again"
        " with --resume, or raise --stall-minutes if that is what it takes"
    )


def _stacks(folder: AnyPath, host: int) -> str:
    """Writes where each thread of this process is, and says so."""
    path = folder / f"stacks-{host}.txt"
    try:
        with written_file(path) as whole, whole.open("w") as file:  # a descriptor of this machine is needed
            faulthandler.dump_traceback(file, all_threads=True)
    except OSError as error:
        return f" {path} could not be written ({error.strerror});"
    return f" where each of its threads was is in {path};"
