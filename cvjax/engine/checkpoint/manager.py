"""This module writes the checkpoints of one run, keeps the latest and the best, and reads one to go on from."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from cvjax.engine.checkpoint import stores
from cvjax.engine.checkpoint.digests import DamagedError, check_files, listed_items, write_list
from cvjax.engine.checkpoint.plain_path import PlainPath
from cvjax.engine.checkpoint.reading import check_same_variables, complete_steps, read_item, read_metadata, reason
from cvjax.engine.state import TrainState
from cvjax.errors import CheckpointError
from cvjax.files import json_values
from cvjax.storage import AnyPath, UrlPath, as_path, is_remote


@dataclasses.dataclass(frozen=True)
class Restored:
    """Holds a checkpoint, with numpy arrays as leaves, or arrays on devices where `restore` was given shardings.

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
      directory: Folder of the step folders, or its URL; made if missing.
      keep: Number of latest checkpoints that stay; the best by `metric` stays as well.
      metric: Score that decides which checkpoint is the best; larger is better.

    Attributes:
      directory: The folder, absolute.
      passed_over: What `restore` found wrong with later checkpoints than the one that it read, a sentence each.

    Raises:
      CheckpointError: The folder cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int = 3, metric: str = "miou") -> None:
        self.directory: AnyPath = as_path(directory).absolute()
        self._metric, self._keep = metric, keep
        self._scores: dict[int, float | None] = {}
        self._pending: int | None = None
        self._damaged: list[int] = []
        self.passed_over: list[str] = []
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if is_remote(self.directory) and jax.process_index() == 0:
                self._take_stock(self.directory)
        except OSError as error:
            raise CheckpointError(
                f"the folder {self.directory} cannot be made ({error.strerror}); give another --workdir"
            ) from error
        self._plain = PlainPath(self.directory)
        self._staged = stores.is_staged(self.directory)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(1 if self._staged else keep),
                    policies.BestN(
                        get_metric_fn=lambda scores: scores[metric], n=1, keep_checkpoints_without_metrics=False
                    ),
                ]
            ),
            # A killed run leaves a half-written folder under a temporary name.
            cleanup_tmp_directories=True,
            # Once all files of a step are written, before its folder gets its name.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._list_files),
        )
        self._manager = ocp.CheckpointManager(self._plain.path, options=options)

    def _take_stock(self, directory: UrlPath) -> None:
        if stores.is_native(directory):
            stores.mark_complete(directory)
        else:  # the rule of what stays is not Orbax's there
            self._scores = stores.latest_scores(directory, read_metadata)

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, ascending."""
        return complete_steps(self.directory) if self._staged else sorted(self._manager.all_steps())

    def save(
        self, state: TrainState, metadata: Mapping[str, Any], scores: Mapping[str, float] | None, *, wait: bool = False
    ) -> None:
        """Starts to write a checkpoint and returns. A step that is there already is left as it is.

        Args:
          state: Global arrays, whole or in parts, that no later step overwrites; see `Strategy.snapshot`.
          metadata: Metadata that JSON can hold: configuration, data position, scores.
          scores: Scores at this step, or None where none were measured.
          wait: Whether to return only when the checkpoint is complete.

        Raises:
          CheckpointError: This or the previous checkpoint could not be written; those before are intact.
        """
        step = int(state.step)
        self.check(wait=True)  # the one before, whose list is written by its number
        if step in self.steps():
            return
        items: dict[str, Any] = {
            "variables": ocp.args.StandardSave(state.variables),
            "optimizer": ocp.args.StandardSave({"opt_state": state.opt_state, "step": state.step}),
            "info": ocp.args.JsonSave(json_values(dict(metadata))),
        }
        if state.ema is not None:
            items["ema"] = ocp.args.StandardSave(state.ema)
        score = None if scores is None else scores[self._metric]
        # A nan score becomes -1, so that it is never the best.
        metrics = None if score is None else {self._metric: float(score) if score == score else -1.0}
        self._pending = step
        self._scores[step] = None if metrics is None else metrics[self._metric]
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
        try:
            intact = complete_steps(self.directory)
        except CheckpointError:  # a store that is out of reach
            intact = []
        lost = self._pending not in {None, *intact}
        what = f"the checkpoint of step {self._pending}" if lost else "the run's records"
        kept = f"those of steps {', '.join(map(str, intact))} are intact" if intact else "there is none before it"
        return CheckpointError(
            f"{what} could not be written under {self.directory.parent} ({reason(error)}); of the checkpoints"
            f" {kept}; {'see to the store' if is_remote(self.directory) else 'free some space'}, then continue with"
            " --resume"
        )

    def restore(self, like: TrainState) -> Restored:
        """Reads the latest checkpoint that is whole, and notes in `passed_over` which are not.

        Args:
          like: State of the run's own model and optimizer, of arrays or of `jax.ShapeDtypeStruct`; see `read_item`.

        Raises:
          CheckpointError: There is no checkpoint, none is whole, or it is of another model or optimizer.
        """
        self._damaged, self.passed_over = [], []
        for step in reversed(self.steps()):
            try:
                return self._read(like, step)
            except DamagedError as error:
                self._damaged.append(step)
                self.passed_over.append(str(error))
        if self.passed_over:
            raise CheckpointError(
                f"{self.passed_over[0]}, of which there is no whole one here, or start anew in another --workdir"
            )
        raise CheckpointError(f"there is no checkpoint in {self.directory}; start without --resume")

    def restore_best(self, like: TrainState) -> Restored:
        """Reads the checkpoint with the best score, of equal ones the latest.

        Args:
          like: As in `restore`.

        Raises:
          CheckpointError: No checkpoint has a score, or the best one is damaged.
        """
        scores: dict[int, float] = {}
        for step in self.steps():
            score = (read_metadata(self.directory / str(step)).get("scores") or {}).get(self._metric)
            if score is not None and score == score:
                scores[step] = score
        if not scores:
            raise CheckpointError(f"no checkpoint in {self.directory} has a score of {self._metric}; evaluate it first")
        return self._read(like, max(scores, key=lambda step: (scores[step], step)))

    def _read(self, like: TrainState, step: int) -> Restored:
        place = self.directory / str(step)
        with stores.local_step(place) as local:
            return self._read_local(like, step, local)

    def _read_local(self, like: TrainState, step: int, place: pathlib.Path) -> Restored:
        metadata = read_metadata(place)
        check_files(place, listed_items(place))
        check_same_variables(place, {"params": like.params, "batch_stats": like.batch_stats})
        try:
            variables = read_item(place, "variables", {"params": like.params, "batch_stats": like.batch_stats})
            optimizer = read_item(place, "optimizer", {"opt_state": like.opt_state, "step": like.step})
            ema = None if like.ema is None else read_item(place, "ema", like.ema)
        except DamagedError:
            # A run that did not average has no averages, which is no damage.
            if like.ema is None or (place / "ema").is_dir():
                raise
            raise self._other_optimizer(place, "it has no averages") from None
        except (ValueError, KeyError) as error:
            raise self._other_optimizer(place, reason(error)) from error
        state = TrainState(
            step=optimizer["step"],
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=optimizer["opt_state"],
            ema=ema,
        )
        return Restored(step, state, metadata)

    def _other_optimizer(self, place: pathlib.Path, why: str) -> CheckpointError:
        return CheckpointError(
            f"{place} was written with other optimizer settings ({why}); resume with the configuration in"
            f" {place / 'info'}, or start anew in another --workdir"
        )

    def set_aside(self) -> None:
        """Renames the damaged checkpoints that `restore` passed over to STEP.damaged, so that the run can go on there.

        Nothing is removed. Every process of a run calls this.
        """
        if not self._damaged:
            return
        if jax.process_index() == 0:
            for step in self._damaged:
                place, number = self.directory / f"{step}.damaged", 1
                while place.exists():
                    place, number = self.directory / f"{step}.damaged{number}", number + 1
                (self.directory / str(step)).rename(place)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("cvjax: damaged checkpoints are set aside")
        self._damaged = []
        self._manager.reload()

    def _list_files(self) -> None:
        """Writes the list of the files of the step that is being written. Orbax calls it on the main host, in a thread.

        The step's folder has a temporary name then, on a disk. From the disk it goes up to a store that Orbax does not
        write to.
        """
        step = str(self._pending)
        if is_remote(self.directory) and not self._staged:
            write_list(self.directory / step)
            return
        for place in sorted(pathlib.Path(self._plain.path if self._staged else self.directory).iterdir()):
            if place.name.startswith(f"{step}.orbax-checkpoint-tmp") and place.is_dir():
                write_list(place)
                if is_remote(self.directory):
                    stores.put_step(place, self.directory / step)
                    stores.prune(self.directory, self._scores, self._keep)

    def close(self) -> None:
        """Waits for the writer and closes it."""
        try:
            self.check(wait=True)
        finally:
            try:
                self._manager.close()
            finally:
                self._plain.close()
