"""Sends figures to trackio (`pip install 'cvjax[trackio]'`), which keeps them in a local database by default."""

import importlib
from collections.abc import Mapping
from typing import Any

from cvjax.engine.trackers import RunFacts


def open_tracker(facts: RunFacts) -> "Trackio":
    """Opens the tracker of a run; where its database lies is trackio's own setting (TRACKIO_DIR)."""
    return Trackio(facts)


class Trackio:
    """Sends a run's figures to trackio, see `cvjax.engine.trackers.Tracker`."""

    def __init__(self, facts: RunFacts) -> None:
        self._library: Any = importlib.import_module("trackio")
        self._name = facts.identity or facts.name
        self._library.init(
            project=facts.project,
            name=self._name,
            config=dict(facts.settings),
            resume="allow" if facts.identity is not None else "never",
            embed=False,
        )

    @property
    def identity(self) -> str:
        """Returns the name of the run, by which trackio knows it."""
        return self._name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends figures of a step."""
        self._library.log(dict(values), step=step)

    def flush(self) -> None:
        """Does nothing, because a thread of trackio's own writes what it was given."""

    def close(self, *, finished: bool) -> None:
        """Ends the run."""
        del finished
        self._library.finish()
