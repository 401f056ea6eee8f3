"""This module shows and records a run's progress: a bar or plain lines, TensorBoard events, and JSON lines on disk."""

import json
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tensorboardX import SummaryWriter

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """Writes the metrics of one run. Only the main host's log writes, the others are silent.

    `metrics.jsonl` gets a line for each step, such as {"step": 10, "loss": 1.2, "learning_rate": 0.01}. It also gets a
    line for each evaluation, with keys under `val/`. A resumed run appends: the last line of a step is the one that
    counts.

    Args:
      workdir: Folder of the run.
      steps: Length of the run, for the bar.
      start: Step that the run begins at.
      console: Console to print on; a terminal gets a live bar, anything else a line now and then.
      enabled: Whether this log writes; False on every host but one.
    """

    def __init__(
        self, workdir: pathlib.Path, *, steps: int, start: int, console: Console | None = None, enabled: bool = True
    ) -> None:
        self.console = Console() if console is None else console
        self._enabled = enabled
        self._steps = steps
        self._began = self._last_time = time.monotonic()
        self._start = self._last_step = start
        self._file: TextIO | None = None
        self._events: SummaryWriter | None = None
        self._bar: Progress | None = None
        if not enabled:
            return
        self._file = (workdir / METRICS_FILE).open("a", encoding="utf-8")
        self._events = SummaryWriter(str(workdir / "tensorboard"))
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task("training", total=steps, completed=start, figures="compiling")
            self._bar.start()

    def say(self, line: str) -> None:
        """Prints one line, above the bar where there is one."""
        if self._enabled:
            self.console.print(line, highlight=False, soft_wrap=True)

    def steps_done(self, lines: list[dict[str, Any]], batch_size: int) -> None:
        """Records the metrics of some steps, and shows the loss, the learning rate and the speed since the last call.

        Args:
          lines: Metrics of each step, with its number as `step`.
          batch_size: Number of examples a step.
        """
        if not self._enabled or not lines:
            return
        now, step = time.monotonic(), lines[-1]["step"]
        speed = (step - self._last_step) * batch_size / max(now - self._last_time, 1e-9)
        self._last_time, self._last_step = now, step
        lines[-1] = lines[-1] | {"images_per_second": round(speed, 2)}
        self._write(lines)
        assert self._events is not None  # an enabled log has both until it is closed
        mean = {key: sum(line[key] for line in lines) / len(lines) for key in lines[0] if key != "step"}
        for key, value in (mean | {"images_per_second": speed}).items():
            self._events.add_scalar(f"train/{key}", value, step)
        remaining = (now - self._began) / max(step - self._start, 1) * (self._steps - step)
        rate = lines[-1]["learning_rate"]
        figures = f"loss {mean['loss']:.4f}  lr {rate:.2e}  {speed:.1f} images/s  ETA {_clock(remaining)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=figures)
        else:
            self.say(f"step {step}/{self._steps}  {figures}")

    def evaluated(self, step: int, scores: Mapping[str, float]) -> None:
        """Records the scores of an evaluation under `val/`. Its time does not count for the speed of training."""
        if not self._enabled:
            return
        self._write([{"step": step} | {f"val/{key}": value for key, value in scores.items()}])
        assert self._events is not None
        known = {key: value for key, value in scores.items() if not math.isnan(value)}  # nan: no object has this size
        for key, value in known.items():
            self._events.add_scalar(f"val/{key}", value, step)
        self.say(f"step {step}: " + "  ".join(f"{key} {value:.4f}" for key, value in known.items()))
        self._last_time = time.monotonic()

    def _write(self, lines: list[dict[str, Any]]) -> None:
        assert self._file is not None
        self._file.writelines(json.dumps(line) + "\n" for line in lines)
        self._file.flush()

    def close(self) -> None:
        """Closes the files and the bar; a second time does nothing."""
        bar, events, file = self._bar, self._events, self._file
        self._bar = self._events = self._file = None
        if bar is not None:
            bar.stop()
        if file is not None:
            file.close()
        if events is not None:
            events.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
