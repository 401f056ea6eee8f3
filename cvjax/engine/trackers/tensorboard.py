"""Writes TensorBoard's event files into `tensorboard/` of the work folder."""

from collections.abc import Mapping

from tensorboardX import SummaryWriter

from cvjax.engine.trackers import RunFacts


def open_tracker(facts: RunFacts) -> "TensorBoard":
    """Opens the tracker of a run."""
    return TensorBoard(facts)


class TensorBoard:
    """Writes a run's figures as TensorBoard's events, see `cvjax.engine.trackers.Tracker`."""

    identity = None

    def __init__(self, facts: RunFacts) -> None:
        # Absolute, because a folder that is called `s3:` is no address.
        self._events = SummaryWriter(str((facts.folder / "tensorboard").absolute()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes figures of a step."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """Writes what is held in memory."""
        self._events.flush()

    def close(self, *, finished: bool) -> None:
        """Closes the files."""
        del finished
        self._events.close()
