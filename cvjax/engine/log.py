"""This module shows and records a run's progress: a bar or plain lines, TensorBoard events, and JSON lines on disk."""

import json
import math
import os
import time
from collections.abc import Mapping
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cvjax.engine.guards.terminal import make_console
from cvjax.engine.trackers import Track, Trackers, tensorboard_alone
from cvjax.files import json_text
from cvjax.storage import AnyPath, Mirror, is_remote

METRICS_FILE = "metrics.jsonl"
_LAST = 1 << 20
"""Number of bytes at the end of that file that hold its last line."""
_SEND_SECONDS = 60.0
"""Seconds between two copies of a growing log to a URL."""


class RunLog:
    """Writes the metrics of one run. Only the main host's log writes, the others are silent.

    `metrics.jsonl` gets a line for each step, such as {"step": 10, "loss": 1.2, "learning_rate": 0.01}. It also gets a
    line for each evaluation, with keys under `val/`. A resumed run appends: the last line of a step is the one that
    counts. A last line that a killed run left unfinished is cut off.

    Of a folder at a URL both are written to a temporary folder, and copied up at every evaluation and checkpoint, at
    the end, and about every minute.

    Args:
      workdir: Folder of the run, or its URL.
      steps: Length of the run, for the bar; None where nobody knows it.
      start: Step that the run begins at.
      console: Console to print on; a terminal gets a live bar, anything else a line now and then.
      enabled: Whether this log writes; False on every host but one.
      track: Function from the local folder of the run's files, and one that prints a line, to the run's trackers.
    """

    def __init__(
        self,
        workdir: AnyPath,
        *,
        steps: int | None,
        start: int,
        console: Console | None = None,
        enabled: bool = True,
        track: Track = tensorboard_alone,
    ) -> None:
        self.console = make_console(note=True) if console is None else console
        self._enabled = enabled
        self._steps = steps
        self._began = self._last_time = time.monotonic()
        self._start = self._last_step = start
        self._file: IO[str] | None = None
        self._trackers: Trackers | None = None
        self._bar: Progress | None = None
        self._mirror: Mirror | None = None
        self._sent = time.monotonic()
        if not enabled:
            return
        if is_remote(workdir):
            self._mirror = Mirror(workdir, METRICS_FILE)
        folder = workdir if self._mirror is None else self._mirror.folder
        cut = _end_lines(folder / METRICS_FILE)
        self._file = (folder / METRICS_FILE).open("a", encoding="utf-8")
        self._trackers = track(folder, self.say)
        if cut:
            self.say(f"the last line of {workdir / METRICS_FILE} was unfinished, and {cut} bytes of it are cut off")
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(bar_width=30),
                MofNCompleteColumn() if steps is not None else TextColumn("{task.completed}"),
                TextColumn("{task.fields[figures]}", markup=False),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task("training", total=steps, completed=start, figures="compiling")
            self._bar.start()

    def say(self, line: str) -> None:
        """Prints one line, above the bar where there is one."""
        if self._enabled:
            self.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def compiled(self, step: int) -> None:
        """Starts the clock for speed and ETA, after the first step, which compiles."""
        self._began = self._last_time = time.monotonic()
        self._start = self._last_step = step

    def steps_done(
        self,
        lines: list[dict[str, Any]],
        batch_size: int,
        *,
        show: bool = True,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        """Records the metrics of some steps, and shows the loss, the learning rate and the speed since the last call.

        Args:
          lines: Metrics of each step, with its number as `step`.
          batch_size: Number of examples a step.
          show: Whether to show them; the file has every step in any case.
          shares: Parts of the time since the last call, by what it went into, see `cvjax.engine.profile.shares`.
        """
        if not self._enabled or not lines:
            return
        now, step = time.monotonic(), lines[-1]["step"]
        mean = {key: sum(line[key] for line in lines) / len(lines) for key in lines[0] if key != "step"}
        figures = f"loss {mean['loss']:.4f}  lr {lines[-1]['learning_rate']:.2e}"
        if step > self._last_step:  # not after the first step alone
            speed = (step - self._last_step) * batch_size / max(now - self._last_time, 1e-9)
            figures += f"  {speed:.1f} images/s"
            if self._steps is not None:
                remaining = (now - self._began) / (step - self._start) * (self._steps - step)
                figures += f"  ETA {_clock(remaining)}"
            lines[-1] = lines[-1] | {"images_per_second": round(speed, 2)}
            mean["images_per_second"] = speed
            for name, share in (shares or {}).items():
                lines[-1][name] = mean[name] = share
                figures += f"  {name.removesuffix('_share')} {share:.0%}"
        if "progress" in lines[-1]:
            figures += f"  {lines[-1]['progress']:.1%} of the time"
        self._last_time, self._last_step = now, step
        self._write(lines)
        if not show:
            return
        assert self._trackers is not None  # an enabled log has both until it is closed
        self._trackers.log(step, {f"train/{key}": value for key, value in mean.items()})
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=figures)
        else:
            self.say(f"step {step}{'' if self._steps is None else f'/{self._steps}'}  {figures}")

    def evaluated(self, step: int, scores: Mapping[str, float]) -> None:
        """Records the scores of an evaluation under `val/`. Its time does not count for the speed of training."""
        if not self._enabled:
            return
        self._write([{"step": step} | {f"val/{key}": value for key, value in scores.items()}])
        assert self._trackers is not None
        known = {key: value for key, value in scores.items() if math.isfinite(value)}  # nan: no object has this size
        self._trackers.log(step, {f"val/{key}": value for key, value in known.items()})
        self.say(f"step {step}: " + "  ".join(f"{key} {value:.4f}" for key, value in known.items()))
        self.send()
        self._last_time = time.monotonic()

    def send(self) -> None:
        """Copies what was written up, where the run's folder is at a URL; what fails is tried again later."""
        if self._mirror is not None and self._trackers is not None:
            self._sent = time.monotonic()
            try:
                self._trackers.flush()
                self._mirror.send()
            except OSError as error:
                self.say(f"warning: the logs could not be copied to the store ({error.strerror}); the run goes on")

    def _write(self, lines: list[dict[str, Any]]) -> None:
        assert self._file is not None
        self._file.writelines(json_text(line) + "\n" for line in lines)
        self._file.flush()
        if time.monotonic() - self._sent > _SEND_SECONDS:
            self.send()

    def close(self, *, finished: bool = False) -> None:
        """Closes the files and the bar; a second time does nothing.

        Args:
          finished: Whether the run came to its end, which trackers are told.

        Raises:
          OSError: The last lines cannot be written.
        """
        bar, trackers, file = self._bar, self._trackers, self._file
        self._bar = self._trackers = self._file = None
        if bar is not None:
            bar.stop()
        if file is not None:
            file.close()
        if trackers is not None:
            trackers.close(finished=finished)
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            mirror.close()


def _end_lines(path: AnyPath) -> int:
    """Cuts off a last line that is no JSON, as a killed run leaves it; returns the number of bytes that are gone."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        file.seek(-min(file.seek(0, os.SEEK_END), _LAST), os.SEEK_END)
        last = (file.read().splitlines(keepends=True) or [b"{}\n"])[-1]
        if _is_json(last):
            if not last.endswith(b"\n"):
                file.write(b"\n")
            return 0
        file.seek(-len(last), os.SEEK_END)
        file.truncate()
    return len(last)


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
