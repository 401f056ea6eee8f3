"""Paired measurements: contestants in processes of their own take turns, and ratios are taken turn by turn.

The parent holds the schedule. Each child serves one contestant (a framework, or a variant of one): it prepares a case
on request, and then runs one timed burst whenever it is told to, A B C A B C ..., while the others sleep on their
pipes. A machine that is busy with something else slows a whole round down, so a ratio within a round means
something where a time does not; the figures reported are medians over the rounds.

All contestants have the same processors: the parent's affinity, which children inherit. OpenMP is told to sleep while
it waits (torch is as fast that way), so that no contestant's threads spin in another's turn, and the C library to keep
what is freed.

This module needs numpy alone, because the torch side may run in an environment that has neither JAX nor cvjax.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

Message = dict[str, Any]
Times = dict[str, list[float]]
CPU_SIDES = ("cvjax-plain", "flax-options")  # They differ from others by compiler options that are for CPU.
RATIOS = (("flax", "cvjax"), ("flax-options", "cvjax"), ("flax", "cvjax-plain"), ("torch", "cvjax"))  # Of times.
PAUSE = 0.005  # Seconds between turns, in which the threads of the turn before go to sleep.
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
# One heap that only grows, as `cvjax.runtime.host_memory` has it: else page faults are what large cases measure.
_HEAP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
}


class Unavailable(Exception):
    """A contestant cannot run a case; the message says why."""


@dataclasses.dataclass(frozen=True)
class Work:
    """A prepared case, on the child's side.

    Attributes:
      step: starts one execution and returns what it makes.
      wait: blocks until such a result is there.
      values: what one execution computes, by name, in the layout that all contestants share; for comparison.
      wait_each: wait after each execution of a burst, instead of after the last alone. True on CPU, where executions
        must not overlap; False on an accelerator, whose queue is to stay full.
      facts: called after the first executions, for what else there is to say of the case, as JSON has it.
    """

    step: Callable[[], Any]
    wait: Callable[[Any], Any]
    values: Mapping[str, np.ndarray]
    wait_each: bool = True
    facts: Callable[[], Message] = dict


def burst(work: Work, repeat: int) -> float:
    """Seconds an execution, over `repeat` of them."""
    start = time.perf_counter()
    for _ in range(repeat):
        result = work.step()
        if work.wait_each:
            work.wait(result)
    work.wait(result)
    return (time.perf_counter() - start) / repeat


def serve(hello: Message, prepare: Callable[[Message], Work]) -> None:
    """The child's loop: JSON lines in and out, until the input ends.

    Args:
      hello: what the child says of itself first: versions, device.
      prepare: builds and compiles a case from the parent's description of it. What it raises is reported as the
        reason why the contestant is missing from that row.
    """
    # What libraries print goes to stderr; the pipe carries the protocol alone.
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    pipe.write(json.dumps(hello) + "\n")
    works: dict[str, Work] = {}  # One for each contestant that lives in this process.
    for line in sys.stdin:
        message = json.loads(line)
        name, reply = message["name"], {}
        if message["do"] == "prepare":
            works.pop(name, None)  # The case before is freed first.
            try:
                work = works[name] = prepare(message["case"])
                burst(work, 1)
                reply["seconds"] = burst(work, 1)
                reply["facts"] = work.facts()
                np.savez(message["values"], **work.values)
            except Exception as error:  # Whatever is wrong with one case, the next may run.
                reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
            work = None
        else:
            reply = {"seconds": burst(works[name], message["repeat"])}
        pipe.write(json.dumps(reply) + "\n")


class Contestant:
    """The parent's end of a child that runs `serve`.

    Attributes:
      name: as the tables call it.
      hello: what the child says of itself.
      facts: what it says of the case that it prepared last.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None):
        self.name, self.facts = name, {}
        self._folder = tempfile.TemporaryDirectory()
        variables = {**os.environ, **_PASSIVE, **_HEAP, **(environment or {})}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables)
        try:
            self.hello = self._read()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # The child may be gone, with a message unread.
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._folder.cleanup()

    def prepare(self, case: Message) -> tuple[float, dict[str, np.ndarray]]:
        """Seconds that an execution takes, roughly, and the values that it computes.

        Raises:
          Unavailable: the child could not prepare the case.
        """
        path = pathlib.Path(self._folder.name) / "values.npz"
        reply = self._ask({"do": "prepare", "case": case, "values": str(path)})
        if "error" in reply:
            raise Unavailable(reply["error"])
        self.facts = reply["facts"]
        with np.load(path) as archive:
            return reply["seconds"], dict(archive)

    def burst(self, repeat: int) -> float:
        """Seconds an execution, over `repeat` of them."""
        return self._ask({"do": "burst", "repeat": repeat})["seconds"]

    @property
    def has_ended(self) -> bool:
        """Whether the child is gone."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ends the child at once, whatever it does; whoever waits for it gets a RuntimeError."""
        self._process.kill()

    def _ask(self, message: Message) -> Message:
        self._process.stdin.write(json.dumps({"name": self.name, **message}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Message:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} ended with code {self._process.wait()}")
        return json.loads(line)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long to measure.

    Attributes:
      rounds: turns of every contestant, after one that warms up and is dropped.
      seconds: least length of a burst; what is shorter is repeated.
      tolerance: relative difference of values up to which contestants compute the same thing.
    """

    rounds: int = 9
    seconds: float = 0.02
    tolerance: float = 1e-4


def measure(contestants: Iterable[Contestant], case: Message, schedule: Schedule) -> tuple[Times, dict[str, str]]:
    """Lets contestants take turns on one case.

    Returns:
      Seconds an execution by contestant, one a round; and by contestant, why it does not take part: it cannot
      run the case, or its values differ from those of the first contestant that can.
    """
    ready, absent, reference = {}, {}, None
    for contestant in contestants:
        try:
            seconds, values = contestant.prepare(case)
        except Unavailable as reason:
            absent[contestant.name] = str(reason)
            continue
        reference = values if reference is None else reference
        if fault := disagreement(values, reference, schedule.tolerance):
            absent[contestant.name] = fault
        else:
            ready[contestant] = max(1, math.ceil(schedule.seconds / seconds))
    times: Times = {contestant.name: [] for contestant in ready}
    for turn in range(-1, schedule.rounds):
        for contestant, repeat in ready.items():
            time.sleep(PAUSE)
            seconds = contestant.burst(repeat)
            if turn >= 0:
                times[contestant.name].append(seconds)
    return times, absent


def disagreement(values: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], tolerance: float) -> str | None:
    """What differs by more than `tolerance` in norm(values - reference) / norm(reference), or None."""
    if values.keys() != reference.keys():
        return f"computes {', '.join(values)} instead of {', '.join(reference)}"
    for key, expected in reference.items():
        if values[key].shape != expected.shape:
            return f"{key} has shape {values[key].shape} instead of {expected.shape}"
        difference = values[key].astype(np.float64) - expected
        error = np.linalg.norm(difference) / max(np.linalg.norm(expected.astype(np.float64)), 1e-30)
        if not error <= tolerance:  # So that NaN disagrees.
            return f"{key} differs by {error:.1e}"
    return None


def ratio(times: Times, other: str, base: str) -> float | None:
    """How many times as fast as `other` `base` is: the median of the rounds' ratios. None if one is missing."""
    if other not in times or base not in times:
        return None
    return statistics.median(theirs / ours for theirs, ours in zip(times[other], times[base]))


def medians(times: Times) -> dict[str, float]:
    """Seconds an execution."""
    return {name: statistics.median(mine) for name, mine in times.items()}


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def use_threads(count: int) -> None:
    """Confines this process, and those that it starts, to the first `count` of its processors."""
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("--threads needs an operating system that can bind processes to processors, such as Linux")
    mine = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(mine):
        raise SystemExit(f"--threads {count}: this process may use 1 to {len(mine)} processors")
    os.sched_setaffinity(0, mine[:count])


def add_arguments(parser: argparse.ArgumentParser, rounds: int) -> None:
    """The options that the programs of this kind share."""
    parser.add_argument("--torch-python", help="interpreter that has torch and NumPy; default: this one, if it has")
    parser.add_argument("--contestants", nargs="+", metavar="NAME", help="who takes part; the first is the reference")
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of every contestant")
    parser.add_argument("--burst-ms", type=float, default=20, help="least length of a turn")
    parser.add_argument("--threads", type=int, help="processors for each; default: all that this process has")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: float32 on CPU, bfloat16 elsewhere")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "results")


def start(
    stack: contextlib.ExitStack, program: pathlib.Path, sides: Sequence[str], torch_python: str | None
) -> list[Contestant]:
    """Starts a contestant a side; `stack` ends them.

    torch is left out where there is none, and on an accelerator so are the sides that differ in options for CPU.
    """
    torch_python = torch_python or (sys.executable if importlib.util.find_spec("torch") else None)
    contestants: list[Contestant] = []
    for side in sides:
        python = torch_python if side == "torch" else sys.executable
        on_cpu = not contestants or contestants[0].hello["device"] == "cpu"
        if python is None or (side in CPU_SIDES and not on_cpu):
            continue
        contestants.append(stack.enter_context(Contestant(side, [python, str(program), side])))
    return contestants


def settle(arguments: argparse.Namespace, contestants: Sequence[Contestant]) -> tuple[str, Schedule]:
    """The dtype and the schedule that the arguments ask for on the contestants' device."""
    on_cpu = contestants[0].hello["device"] == "cpu"
    dtype = arguments.dtype or ("float32" if on_cpu else "bfloat16")
    # Accelerators multiply float32 at lower precision too.
    tolerance = 1e-4 if on_cpu and dtype == "float32" else 2e-2
    return dtype, Schedule(arguments.rounds, arguments.burst_ms / 1e3, tolerance)
