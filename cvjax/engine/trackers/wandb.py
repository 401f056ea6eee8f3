"""Sends figures to Weights & Biases (`pip install 'cvjax[wandb]'`), or with WANDB_MODE=offline to files of its own."""

import importlib
from collections.abc import Mapping
from typing import Any

from cvjax.engine.trackers import RunFacts


def open_tracker(facts: RunFacts) -> "Wandb":
    """Opens the tracker of a run; its address, login and mode are W&B's own settings."""
    return Wandb(facts)


class Wandb:
    """Sends a run's figures to Weights & Biases, see `cvjax.engine.trackers.Tracker`."""

    def __init__(self, facts: RunFacts) -> None:
        library = importlib.import_module("wandb")
        self._run: Any = library.init(
            project=facts.project,
            name=facts.name,
            id=facts.identity,
            resume="allow",
            config=dict(facts.settings),
            dir=str(facts.folder),
        )
        # Steps of its own never go back, as ours do where a killed run is resumed from an earlier checkpoint.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    @property
    def identity(self) -> str:
        """Returns W&B's id of the run."""
        return str(self._run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends figures of a step."""
        self._run.log({**values, "step": step})

    def flush(self) -> None:
        """Does nothing, because a process of W&B's own sends what it was given."""

    def close(self, *, finished: bool) -> None:
        """Ends the run."""
        self._run.finish(exit_code=0 if finished else 1)
