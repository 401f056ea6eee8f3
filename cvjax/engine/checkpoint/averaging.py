"""Averages the checkpoints of a run (stochastic weight averaging, 1803.05407), and writes the result as a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cvjax.engine.checkpoint.manager import Checkpoints
from cvjax.engine.checkpoint.reading import complete_steps, read_stored_variables
from cvjax.engine.state import TrainState
from cvjax.errors import CheckpointError, ConfigError
from cvjax.files import write_json
from cvjax.storage import AnyPath, as_path

_OF_A_STEP = ("position", "scores", "metric", "pace")
"""Entries of a checkpoint's metadata that a run's config.json does not have."""


def chosen_checkpoints(path: str, count: int | None, steps: Sequence[int] = ()) -> list[AnyPath]:
    """Returns the folders of the checkpoints of a run to average, by their steps.

    Args:
      path: Work folder of the run, or its folder of checkpoints.
      count: Number of latest checkpoints; None where `steps` says which.
      steps: Steps of the checkpoints.

    Raises:
      ConfigError: The run does not have as many, or not these; or fewer than two are asked for.
      CheckpointError: There is no run.
    """
    place = as_path(path)
    folder = next((found for found in (place / "checkpoints", place) if complete_steps(found)), None)
    if folder is None:
        raise CheckpointError(f"{path} holds no checkpoint; give a run's --workdir")
    kept = complete_steps(folder)
    wanted = sorted(set(steps)) if steps else kept[-(count or 0) :]
    if len(wanted) < 2:
        raise ConfigError("an average is one of two checkpoints or more; give --average 2, or several --average-steps")
    missing = [step for step in wanted if step not in kept]
    if missing or (count is not None and count > len(kept)):
        what = f"no checkpoint of step {missing[0]}" if missing else f"{len(kept)} checkpoints, fewer than {count}"
        raise ConfigError(
            f"{folder} has {what} (it keeps those of steps {', '.join(map(str, kept))}); choose among them, or train"
            " with a larger --keep"
        )
    return [folder / str(step) for step in wanted]


def average_variables(places: Sequence[AnyPath]) -> dict[str, Any]:
    """Returns the mean of the variables of some checkpoints, as numpy arrays.

    Of runs that average as they train, these are the averages. Numbers that are no fractions are those of the last.

    Raises:
      CheckpointError: One cannot be read, or is of another net.
    """
    # Sums in float64, so that the order of the checkpoints is not seen in float32.
    total, last = None, None
    for place in places:
        last = read_stored_variables(str(place))
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), last)
        if total is not None and jax.tree.map(np.shape, total) != jax.tree.map(np.shape, wide):
            raise CheckpointError(f"{place} is of another net than {places[0]}; average checkpoints of one run")
        total = wide if total is None else jax.tree.map(np.add, total, wide)

    def mean(summed: np.ndarray, one: np.ndarray) -> np.ndarray:
        whole = not np.issubdtype(one.dtype, np.inexact)
        return np.asarray(one) if whole else (summed / len(places)).astype(one.dtype)

    return jax.tree.map(mean, total, last)


def write_as_run(target: str, variables: Mapping[str, Any], metadata: Mapping[str, Any], steps: Sequence[int]) -> None:
    """Writes variables as a run with one checkpoint, which `evaluate`, `predict` and `--init` take.

    Args:
      target: Work folder to write.
      variables: {"params", "batch_stats"}.
      metadata: Metadata of a checkpoint that they come from.
      steps: Steps of the checkpoints that they are the average of.

    Raises:
      CheckpointError: There is a run already, or it cannot be written.
    """
    place = as_path(target)
    if complete_steps(place / "checkpoints"):
        raise CheckpointError(f"{target} holds a run already; give another folder")
    told = dict(metadata) | {"averaged": list(steps), "scores": None}
    told.pop("pace", None)
    checkpoints = Checkpoints(place / "checkpoints", keep=1, metric=told.get("metric", "miou"))
    state = TrainState(np.int32(steps[-1]), variables["params"], variables["batch_stats"], {}, None)  # type: ignore[arg-type]
    checkpoints.save(state, told, None, wait=True)
    checkpoints.close()
    try:
        write_json(place / "config.json", {key: value for key, value in told.items() if key not in _OF_A_STEP})
    except OSError as error:
        raise checkpoints.unwritable(error) from error
