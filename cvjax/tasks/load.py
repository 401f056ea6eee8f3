"""Loads trained models of any task from their checkpoints, for evaluation, prediction and other code."""

import dataclasses
import os
from typing import Any, TypeVar

from cvjax.data.dataset import Dataset
from cvjax.datasets.registry import own_place
from cvjax.engine.checkpoint import find_checkpoint
from cvjax.engine.guards.limits import check_limits
from cvjax.errors import ConfigError
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.foreign import is_weights, load_weights
from cvjax.tasks.images import ImageTask
from cvjax.tasks.loaded import Loaded, rebuild
from cvjax.tasks.object_masks.task import ObjectMasks
from cvjax.tasks.segmentation.task import Segmentation

TASKS: tuple[type[ImageTask], ...] = (
    Classification,
    Detection,
    ObjectMasks,
    Segmentation,
)
"""The tasks that this version has; of those with one target the first counts, where nothing but the target is known."""
Kind = TypeVar("Kind", bound=ImageTask)


def load_for_inference(
    path: str | os.PathLike[str],
    *,
    data: str | None = None,
    manual_dir: str | None = None,
    name: str | None = None,
    layout: str | None = None,
    mean: str | None = None,
    **model_overrides: Any,
) -> Loaded:
    """Rebuilds the model of a checkpoint, or of somebody's weights.

    Args:
      path: Folder of a checkpoint, folder of checkpoints, or work folder of a run. Of several checkpoints the best is
        taken. Or a file of weights or the name of published ones, see `cvjax.tasks.foreign`.
      data, manual_dir: Name and folder of the dataset that weights are for; a checkpoint has its own.
      name, layout, mean: Name of the weights' model, their layout, and a file with the mean image of Caffe's net; see
        `cvjax.tasks.foreign.load_weights`.
      **model_overrides: Options that keep the parameters as they are, such as `output_stride=8` or `dtype`.

    Raises:
      CheckpointError: There is no checkpoint, it is unreadable, or this version does not have its model.
      ConfigError: A checkpoint, which says itself what it is, is given with `name`, `layout` or `mean`.
    """
    told = {"name": name, "layout": layout, "mean": mean}
    if is_weights(os.fspath(path)):
        return load_weights(TASKS, os.fspath(path), data=data, manual_dir=manual_dir, **told, **model_overrides)
    foreign = [f"--{'as' if key == 'name' else key}" for key, value in told.items() if value is not None]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)} is for files of weights, and {path} is a run; leave it out")
    return rebuild(TASKS, find_checkpoint(path), **model_overrides)


def with_settings(
    task: Kind, settings: Any, *, data_fields: tuple[str, ...] = (), eval_fields: tuple[str, ...] = ()
) -> Kind:
    """Returns the task with its configuration changed by the settings of a command that are not None.

    Args:
      task: Task of a checkpoint.
      settings: Arguments of a command: `data`, `data_dir`, and the names in `data_fields` and `eval_fields`.
      data_fields: Names of fields of the data's configuration.
      eval_fields: Names of fields of the evaluation's configuration.

    Raises:
      ConfigError: This task does not have one of the settings, or a number lies outside of its limits.
    """
    config = task.config
    given = {name: value for name in ("data", "data_dir") if (value := getattr(settings, name)) is not None}
    data = _changed(config.input, settings, data_fields)
    if "data" in given:
        given["data"], own = own_place(given["data"], getattr(settings, "manual_dir", None))
        if given["data"] != settings.data:  # a path, which stands for name and folder
            data = dataclasses.replace(data, manual_dir=own, format=None, hold_out=None, split_file=None)
    if given.get("data", config.data) != config.data:  # of other data no part was held out
        data = dataclasses.replace(data, hold_out=None, split_file=None)
    changed = task.reconfigured(input=data, eval=_changed(config.eval, settings, eval_fields), **given)
    check_limits(changed.config)
    return changed


def _changed(config: Any, settings: Any, names: tuple[str, ...]) -> Any:
    values = {name: value for name in names if (value := getattr(settings, name)) is not None}
    foreign = [f"--{name}" for name in values if not hasattr(config, name)]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)} is of no use to a checkpoint of this task; leave it out")
    return dataclasses.replace(config, **values)


def open_scored(task: Kind, split: str | None) -> tuple[Kind, Dataset]:
    """Opens the split that a checkpoint is scored on; by default the run's own evaluation split.

    Returns:
      The task that scores it, and the dataset, with its classes matched to the checkpoint's by name.

    Raises:
      DataError: The dataset has a class that the checkpoint lacks.
    """
    return task.matched(task.open(task.config, split or task.config.input.eval_split))
