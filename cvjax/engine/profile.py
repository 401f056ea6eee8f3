"""This module looks at where the time of a run goes: a profiler's trace of some steps, and advice about the data."""

import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import jax

from cvjax.engine.guards.pulse import DATA, DEVICES, HOST, Pulse
from cvjax.errors import ConfigError
from cvjax.storage import AnyPath

FOLDER = "profile"
_WORTH_SAYING = 0.2  # share of the time that goes into waiting for data
_LONG_ENOUGH = 2.0  # seconds that a share is measured over

_KINDS = {
    ".xplane.pb": ".xplane.pb",
    "perfetto_trace.json.gz": ".perfetto.json.gz",
    ".trace.json.gz": ".trace.json.gz",
}
"""How the profiler's files end, and what they are called in the work folder behind the host."""

_NAMES = {DATA: "data", HOST: "host", DEVICES: "devices"}


def shares(spent: Mapping[str, float]) -> dict[str, float]:
    """Returns which part of the time of some steps went into waiting for data, into the host's own part, and into
    waiting for the devices.

    Args:
      spent: Result of `Pulse.spent`.
    """
    total = sum(spent.values())
    return {f"{name}_share": round(spent[kind] / total, 4) if total else 0.0 for kind, name in _NAMES.items()}


class DataAdvice:
    """Says once that a run waits for its data, and how many workers would cure that.

    Args:
      workers: Worker processes of the loader; 0 are threads.
      rows: Rows of a batch that this host reads.
      cores: Cores of this host; by default those that this process may use.
    """

    def __init__(self, workers: int, rows: int, cores: int | None = None) -> None:
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._cores = cores or available
        self._workers, self._rows, self._said = workers, rows, False

    def about(self, spent: Mapping[str, float], steps: int) -> str:
        """Returns the sentence about some steps; an empty text if there is nothing to say, or it was said.

        While the devices wait, all workers are busy. So what they deliver then, by their number, is what one of them
        can decode.
        """
        total, images = sum(spent.values()), self._rows * steps
        if self._said or total < _LONG_ENOUGH or spent[DATA] < _WORTH_SAYING * total:
            return ""
        self._said = True
        threads = min(16, self._cores)
        decoders = self._workers or threads
        rate, possible = images / total, images / max(total - spent[DATA], 1e-9)
        needed = math.ceil(decoders * possible / rate)
        who = f"{decoders} worker processes decode" if self._workers else f"{decoders} threads of this process decode"
        sentence = (
            f"waiting for data took {spent[DATA] / total:.0%} of the time: {who} {rate:.1f} images/s, and the rest of a"
            f" step would take {possible:.1f}; --input.workers {needed} would keep up"
        )
        if needed > self._cores:
            sentence += (
                f", on more than the {self._cores} cores of this host: smaller images (prepare them so), or more hosts,"
                " need fewer"
            )
        return sentence


def steps_of(text: str | None) -> tuple[int, int] | None:
    """Reads `--profile-steps`: the first and the last step, or None.

    Raises:
      ConfigError: It is no such pair.
    """
    if text is None:
        return None
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise ConfigError(f"--profile-steps is {text}; give the first and the last step, such as 10:15")
    return int(first), int(last)


class Profiler:
    """Writes a trace of some steps into a folder, for TensorBoard (xprof) and for ui.perfetto.dev.

    Args:
      steps: First and last of the steps, None for none.
      folder: Folder of the run; the trace goes into `profile/` there.
      pulse: What the loop does, which the trace then shows.
    """

    def __init__(self, steps: tuple[int, int] | None, folder: AnyPath, pulse: Pulse) -> None:
        self._steps, self._folder, self._pulse = steps, folder, pulse
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._open: list[Any] = []

    def before(self, step: int) -> None:
        """Starts the trace where its first step begins. Of a run that resumes within its steps it shows the rest."""
        if self._steps is None or not self._steps[0] <= step <= self._steps[1]:
            return
        if self._place is None:
            # A folder of its own, because the work folder may be one that JAX cannot write to.
            self._place = tempfile.TemporaryDirectory()
            jax.profiler.start_trace(self._place.name, create_perfetto_trace=True)
            self._pulse.observer = self._mark
        self._close()
        self._enter(jax.profiler.StepTraceAnnotation("train", step_num=step))

    def after(self, step: int, results: Any) -> str:
        """Ends the trace behind its last step, and returns a line about it; an empty text at other steps."""
        if self._place is None or self._steps is None or step < self._steps[1]:
            return ""
        jax.block_until_ready(results)
        self._close()
        return self.stop()

    def stop(self) -> str:
        """Ends a trace that is being taken, writes it, and returns a line that says where it is."""
        if self._place is None:
            return ""
        self._pulse.observer = None
        self._close()
        jax.profiler.stop_trace()
        assert self._steps is not None
        name = f"steps-{self._steps[0]}-{self._steps[1]}"
        folder = self._folder / FOLDER / "plugins" / "profile" / name  # where xprof looks
        folder.mkdir(parents=True, exist_ok=True)
        host = f"host{jax.process_index()}"
        for path in pathlib.Path(self._place.name).rglob("*.*"):
            kind = next((end for end in _KINDS if path.name.endswith(end)), None)
            if kind is None:
                continue
            with path.open("rb") as source, (folder / f"{host}{_KINDS[kind]}").open("wb") as sink:
                shutil.copyfileobj(source, sink)
        self._place.cleanup()
        self._place, self._steps = None, None
        return (
            f"a trace of {name} is in {folder}: open {host}.perfetto.json.gz in ui.perfetto.dev, or see all hosts with"
            f" xprof --logdir {self._folder / FOLDER}"
        )

    def _mark(self, doing: str) -> None:
        """Shows what the loop does inside of the step."""
        while len(self._open) > 1:
            self._open.pop().__exit__(None, None, None)
        self._enter(jax.profiler.TraceAnnotation(doing))

    def _enter(self, annotation: Any) -> None:
        annotation.__enter__()
        self._open.append(annotation)

    def _close(self) -> None:
        while self._open:
            self._open.pop().__exit__(None, None, None)
