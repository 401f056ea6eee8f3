"""This module writes and reads checkpoints: variables, optimizer and data position together, by orbax.

Orbax writes them in the background. The folder of checkpoints has one subfolder for each step:

    variables/   {"params", "batch_stats"} as trained
    ema/         the same, averaged; only in runs that average
    optimizer/   {"opt_state", "step"}
    info/        metadata as JSON: the run's configuration, the data position and the scores at that step

The folder of a step gets its name only once it is complete. Older folders are removed only after that. So a process
that is killed at any moment leaves the last complete checkpoint intact.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from cvjax.engine.state import TrainState
from cvjax.engine.version01 import upgrade
from cvjax.errors import CheckpointError

Tree = Any


@dataclasses.dataclass(frozen=True)
class Restored:
    """Holds a checkpoint in host memory, with numpy arrays as leaves.

    Attributes:
      step: Number of the step.
      state: Training state at that step.
      metadata: Metadata of the checkpoint.
    """

    step: int
    state: TrainState
    metadata: dict[str, Any]


class Checkpoints:
    """Writes, keeps and reads the checkpoints of one run.

    Args:
      directory: Folder of the step folders; made if missing.
      keep: Number of latest checkpoints that stay; the best by `metric` stays as well.
      metric: Score that decides which checkpoint is the best; larger is better.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int = 3, metric: str = "miou") -> None:
        self.directory = pathlib.Path(directory).absolute()
        self._metric = metric
        self._pending: int | None = None
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(keep),
                    policies.BestN(
                        get_metric_fn=lambda scores: scores[metric], n=1, keep_checkpoints_without_metrics=False
                    ),
                ]
            ),
            # A killed run leaves a half-written folder under a temporary name.
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self, state: TrainState, metadata: Mapping[str, Any], scores: Mapping[str, float] | None, *, wait: bool = False
    ) -> None:
        """Starts to write a checkpoint and returns. A step that is there already is left as it is.

        Args:
          state: Replicated global arrays that no later step overwrites; see `Strategy.replicated`.
          metadata: Metadata that JSON can hold: configuration, data position, scores.
          scores: Scores at this step, or None where none were measured.
          wait: Whether to return only when the checkpoint is complete.

        Raises:
          CheckpointError: This or the previous checkpoint could not be written; those before are intact.
        """
        step = int(state.step)
        self.check()
        if step in self._manager.all_steps():
            return
        items: dict[str, Any] = {
            "variables": ocp.args.StandardSave(state.variables),
            "optimizer": ocp.args.StandardSave({"opt_state": state.opt_state, "step": state.step}),
            "info": ocp.args.JsonSave(dict(metadata)),
        }
        if state.ema is not None:
            items["ema"] = ocp.args.StandardSave(state.ema)
        # A nan score becomes -1, so that it is never the best.
        metrics = None if scores is None else {self._metric: float(np.nan_to_num(scores[self._metric], nan=-1.0))}
        self._pending = step
        try:
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)
            if wait:
                self._manager.wait_until_finished()
        except Exception as error:
            raise self.unwritable(error) from error

    def check(self, *, wait: bool = False) -> None:
        """Checks that the checkpoint that is being written has not failed; with `wait`, once it is complete.

        Raises:
          CheckpointError: It could not be written.
        """
        try:
            if wait:
                self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: Exception) -> CheckpointError:
        """Returns the error for a person whose disk is full: what failed, and which checkpoints are intact."""
        intact = complete_steps(self.directory)
        lost = self._pending not in {None, *intact}
        what = f"the checkpoint of step {self._pending}" if lost else "the run's records"
        kept = f"those of steps {', '.join(map(str, intact))} are intact" if intact else "there is none before it"
        return CheckpointError(
            f"{what} could not be written under {self.directory.parent} ({_reason(error)}); of the checkpoints"
            f" {kept}; free some space, then continue with --resume"
        )

    def restore(self, like: TrainState, step: int | None = None) -> Restored:
        """Reads a checkpoint, the latest unless a step is named.

        Args:
          like: State of the run's own model and optimizer, of arrays or of `jax.ShapeDtypeStruct`.
          step: One of `steps()`.

        Raises:
          CheckpointError: There is no checkpoint, or it is of another model or optimizer.
        """
        step = self._manager.latest_step() if step is None else step
        if step is None:
            raise CheckpointError(f"there is no checkpoint in {self.directory}; start without --resume")
        place = self.directory / str(step)
        metadata = read_metadata(place)
        check_same_variables(place, {"params": like.params, "batch_stats": like.batch_stats})
        try:
            variables = _read(place / "variables", {"params": like.params, "batch_stats": like.batch_stats})
            optimizer = _read(place / "optimizer", {"opt_state": like.opt_state, "step": like.step})
            ema = None if like.ema is None else _read(place / "ema", like.ema)
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise CheckpointError(
                f"{place} was written with other optimizer settings ({_reason(error)}); resume with the"
                f" configuration in {place / 'info'}, or start anew in another --workdir"
            ) from error
        state = TrainState(
            step=optimizer["step"],
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=optimizer["opt_state"],
            ema=ema,
        )
        return Restored(step, state, metadata)

    def close(self) -> None:
        """Waits for the writer and closes it."""
        try:
            self.check(wait=True)
        finally:
            self._manager.close()


def complete_steps(directory: str | os.PathLike[str]) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, ascending, without opening it for writing."""
    place = pathlib.Path(directory)
    names = [entry.name for entry in place.iterdir() if entry.is_dir()] if place.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def find_checkpoint(path: str | os.PathLike[str]) -> pathlib.Path:
    """Finds the folder of one checkpoint: from that folder, from a folder of checkpoints, or from a run's work folder.

    If there are several, it takes the best by the run's metric. Without any scores it takes the latest.

    Raises:
      CheckpointError: There is no checkpoint.
    """
    place = pathlib.Path(path).absolute()
    if (place / "variables").is_dir():
        return place
    for folder in (place, place / "checkpoints"):
        steps = complete_steps(folder)
        if steps:
            all_metadata = [(read_metadata(folder / str(s)), s) for s in steps]
            scored = [(metadata.get("scores") or {}, metadata.get("metric", "miou"), s) for metadata, s in all_metadata]
            known = [(scores[metric], s) for scores, metric, s in scored if metric in scores]
            return folder / str(max(known)[1] if known else steps[-1])
    raise CheckpointError(f"{path} holds no checkpoint; give a run's --workdir or one of its checkpoints/STEP")


def read_metadata(place: pathlib.Path) -> dict[str, Any]:
    """Reads the metadata of one checkpoint, the JSON in its folder: configuration, data position, scores.

    Raises:
      CheckpointError: The metadata cannot be read.
    """
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            return upgrade(reader.restore(place / "info"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{place} cannot be read ({_reason(error)}); take another step's folder beside it"
        ) from error


def read_variables(place: pathlib.Path, like: Mapping[str, Tree], *, averaged: bool = True) -> dict[str, Tree]:
    """Reads the Flax variables of one checkpoint as numpy arrays, the averaged ones where there are any.

    Args:
      place: Folder that `find_checkpoint` returned.
      like: {"params", "batch_stats"} of the model, arrays or `jax.ShapeDtypeStruct`.
      averaged: Whether to prefer the moving average.

    Raises:
      CheckpointError: The checkpoint is of another model.
    """
    check_same_variables(place, like)
    item = "ema" if averaged and (place / "ema").is_dir() else "variables"
    return _read(place / item, dict(like))


def read_stored_variables(path: str | os.PathLike[str]) -> dict[str, Tree]:
    """Reads the Flax variables of a checkpoint of any model as numpy arrays, the averaged ones where there are any.

    Args:
      path: Path as for `find_checkpoint`.

    Raises:
      CheckpointError: There is no checkpoint.
    """
    place = find_checkpoint(path)
    item = place / ("ema" if (place / "ema").is_dir() else "variables")
    return _read(item, _stored_tree(item))


def check_same_variables(place: pathlib.Path, like: Mapping[str, Tree]) -> None:
    """Checks that a checkpoint holds variables of exactly these names and shapes.

    Args:
      place: Folder of the checkpoint.
      like: {"params", "batch_stats"} of the model, arrays or `jax.ShapeDtypeStruct`.

    Raises:
      CheckpointError: Some variables differ; the message lists them.
    """
    saved = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(_stored_tree(place / "variables"))}
    wanted = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(dict(like))}
    if saved == wanted:
        return
    both = [n for n in wanted if n in saved and saved[n] != wanted[n]]
    differences = [f"{n} is {saved[n]} there and {wanted[n]} here" for n in both]
    differences += [f"{n} is missing there" for n in wanted if n not in saved]
    differences += [f"{n} is there only" for n in saved if n not in wanted]
    shown = "; ".join(differences[:4]) + (f"; and {len(differences) - 4} more" if len(differences) > 4 else "")
    name = read_metadata(place).get("model", {}).get("name", "another model")
    raise CheckpointError(
        f"{place} is a checkpoint of {name} with other variables ({shown}); use that model and its options, which"
        f" {place / 'info'} records, or another --workdir"
    )


def _stored_tree(item: pathlib.Path) -> Tree:
    """Returns the shapes and dtypes of the arrays in one item of a checkpoint."""
    tree = ocp.StandardCheckpointHandler().metadata(epath.Path(item))
    return getattr(tree, "tree", tree)


def _leaves(tree: Tree) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _read(place: pathlib.Path, like: Tree) -> Tree:
    # Numpy templates: every host reads the whole, on whatever devices it has now.
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(place, template)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
