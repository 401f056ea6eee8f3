"""Sends figures to MLflow (`pip install 'cvjax[mlflow]'`), to where MLFLOW_TRACKING_URI says."""

import importlib
import time
from collections.abc import Mapping
from typing import Any

from cvjax.engine.trackers import RunFacts

_PARAMETERS = 100
"""Number of parameters that MLflow takes in one call."""
_LONGEST = 500
"""Number of characters of a parameter's value."""


def open_tracker(facts: RunFacts) -> "MLflow":
    """Opens the tracker of a run; its address and login are MLflow's own settings."""
    return MLflow(facts)


class MLflow:
    """Sends a run's figures to MLflow, see `cvjax.engine.trackers.Tracker`."""

    def __init__(self, facts: RunFacts) -> None:
        library = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        # A client of its own, because the module's functions share one run in the whole process.
        self._client: Any = library.MlflowClient()
        if facts.identity is not None:
            self._id = facts.identity
            self._client.update_run(self._id, status="RUNNING")
        else:
            found = self._client.get_experiment_by_name(facts.project)
            experiment = self._client.create_experiment(facts.project) if found is None else found.experiment_id
            self._id = str(self._client.create_run(experiment, run_name=facts.name).info.run_id)
            parameters = [self._entities.Param(name, str(value)[:_LONGEST]) for name, value in facts.settings.items()]
            for first in range(0, len(parameters), _PARAMETERS):
                self._client.log_batch(self._id, params=parameters[first : first + _PARAMETERS])

    @property
    def identity(self) -> str:
        """Returns MLflow's id of the run."""
        return self._id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends figures of a step."""
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def flush(self) -> None:
        """Does nothing, because each call is sent at once."""

    def close(self, *, finished: bool) -> None:
        """Ends the run."""
        self._client.set_terminated(self._id, status="FINISHED" if finished else "KILLED")
