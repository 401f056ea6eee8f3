"""This module reads what a run left in its work folder: its configuration, curves and report."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cvjax.engine.config import by_flag
from cvjax.engine.log import METRICS_FILE
from cvjax.engine.version01 import upgrade
from cvjax.errors import CheckpointError
from cvjax.storage import AnyPath, as_path
from cvjax.visual.curves import Series, read_metrics

_OWN = ("workdir", "resume", "cluster", "trackers", "project")
"""Fields of a configuration that say where a run ran and who looked on."""


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """Holds what a run left, whether it came to its end or not.

    Attributes:
      name: Name that tells it from the others it was read with.
      place: Work folder.
      metadata: Content of config.json.
      report: Content of report.json; empty for a run that did not come to its end.
      series: Steps and values of every metric by name.
    """

    name: str
    place: AnyPath
    metadata: Mapping[str, Any]
    report: Mapping[str, Any]
    series: Mapping[str, Series]

    @property
    def task(self) -> str:
        """Returns the name of the run's task."""
        return str(self.metadata["task"]["kind"])

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the values of the configuration by their flags, such as {"optim.learning-rate": 0.1}."""
        return by_flag({name: value for name, value in self.metadata["run"].items() if name not in _OWN})

    @property
    def steps(self) -> int:
        """Returns the number of steps in the log."""
        return max((int(steps[-1]) for steps, _ in self.series.values() if len(steps)), default=0)

    def scores(self) -> dict[str, float]:
        """Returns the single numbers of the report, or of the last evaluation in the log of a run without one."""
        found = self.report or {
            name.removeprefix("val/"): values[-1]
            for name, (_, values) in self.series.items()
            if name.startswith("val/") and len(values)
        }
        return {name: float(value) for name, value in found.items() if _is_number(value)}

    def by_class(self) -> dict[str, dict[str, float | None]]:
        """Returns the scores of each class by the score's name and the class's; None of a class without examples."""
        names = set(self.metadata["task"]["class_names"])
        return {
            score: {name: value if _is_number(value) else None for name, value in values.items()}
            for score, values in self.report.items()
            if isinstance(values, Mapping) and values and set(values) <= names
        }


def read_runs(paths: Sequence[str | os.PathLike[str]]) -> list[FinishedRun]:
    """Reads runs; each is named by the end of its path that tells it from the others.

    Raises:
      CheckpointError: A folder holds no run, or is named twice.
      DataError: A log cannot be read.
    """
    places = [as_path(path) for path in paths]
    twice = [str(place) for number, place in enumerate(places) if place in places[:number]]
    if twice:
        raise CheckpointError(f"{twice[0]} is named twice; name each run once")
    return [_read(place, name) for place, name in zip(places, _short_names([str(place) for place in places]))]


def differing_settings(runs: Sequence[FinishedRun]) -> dict[str, list[Any]]:
    """Returns the settings in which runs differ, by flag, with the value of each run; None where one has no such."""
    settings = [run.settings for run in runs]
    flags = dict.fromkeys(flag for each in settings for flag in each)
    rows = {flag: [each.get(flag) for each in settings] for flag in flags}
    return {flag: values for flag, values in rows.items() if any(value != values[0] for value in values)}


def _read(place: AnyPath, name: str) -> FinishedRun:
    wanted = "give the work folder of a run, such as runs/deeplab_voc/quick"
    try:
        metadata = upgrade(json.loads((place / "config.json").read_text(encoding="utf-8")))
        run, task = set(metadata["run"]), set(metadata["task"])
    except OSError as error:
        raise CheckpointError(f"{place} holds no config.json ({error.strerror or error}); {wanted}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{place / 'config.json'} describes no run; {wanted}") from error
    if not ({"model", "input", "optim"} <= run and {"kind", "class_names"} <= task):
        raise CheckpointError(f"{place / 'config.json'} describes no run; {wanted}")
    report: Mapping[str, Any] = {}
    if (place / "report.json").exists():
        try:
            report = json.loads((place / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{place / 'report.json'} is no JSON; score the run again with evaluate") from error
    metrics = place / METRICS_FILE
    return FinishedRun(name, place, metadata, report, read_metrics(metrics) if metrics.exists() else {})


def _short_names(paths: Sequence[str]) -> list[str]:
    """Returns of each path as many of its last parts as tell all apart."""
    parts = [path.rstrip("/").split("/") for path in paths]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
