"""A trained model from its checkpoint alone, for evaluation, prediction and anybody's own code."""

import dataclasses
import os
import pathlib
from typing import Any, TypeVar

import jax
from flax import linen as nn

from cvjax.data.dataset import Source
from cvjax.engine.checkpoint import find_checkpoint, read_info, read_variables
from cvjax.engine.config import config_from_json, from_json
from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.images import ImageTask
from cvjax.tasks.object_masks.task import ObjectMasks
from cvjax.tasks.segmentation.task import Segmentation

TASKS: dict[str, type[ImageTask]] = {task.name: task for task in (Classification, Detection, ObjectMasks, Segmentation)}
"""The tasks by name."""
Kind = TypeVar("Kind", bound=ImageTask)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model ready for use.

    Attributes:
      model: `model.apply(variables, task.normalize(images), train=False)` gives logits; a detector's call is that of
        `cvjax.models.detection.detector`.
      variables: {"params", "batch_stats"} as numpy arrays, averaged where the run averaged.
      task: Task of the run, with its configuration, class names and normalization.
      info: What the run recorded of itself.
      place: Folder of the checkpoint.
    """

    model: nn.Module
    variables: dict[str, Any]
    task: ImageTask
    info: dict[str, Any]
    place: pathlib.Path


def load_for_inference(path: str | os.PathLike[str], **model_overrides: Any) -> Loaded:
    """Rebuilds the model that a checkpoint is of.

    Args:
      path: Folder of a checkpoint, folder of checkpoints, or a run's work folder; of several checkpoints
        the best is taken.
      **model_overrides: Options that keep the parameters as they are, such as `output_stride=8`, `dtype`.

    Raises:
      CheckpointError: None there, unreadable, or of a model that this version does not have.
    """
    place = find_checkpoint(path)
    info = read_info(place)
    try:
        name, options = info["model"]["name"], from_json(info["model"]["options"]) | model_overrides
        task_class = TASKS[info["task"]["kind"]]
        config = config_from_json(task_class.config_class, info["run"])
        task = task_class.restore(config, from_json(info["task"]))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{place / 'info'} does not describe a run of this version ({error!r})") from error
    model = create_model(name, num_classes=task.num_classes, **options)
    like = jax.eval_shape(lambda key: task.init(model, key), jax.random.key(0))
    return Loaded(model, read_variables(place, like), task, info, place)


def with_settings(
    task: Kind, settings: Any, *, data_fields: tuple[str, ...] = (), eval_fields: tuple[str, ...] = ()
) -> Kind:
    """Returns a task whose configuration has the settings of a command that are not None; all else is as in the run.

    Args:
      task: Task of a checkpoint.
      settings: Arguments of a command: `data` and `data_dir`, and what the two lists name.
      data_fields: Names of fields of the data's configuration.
      eval_fields: Names of fields of the evaluation's configuration.

    Raises:
      ConfigError: A setting that this task does not have.
    """
    config = task.config
    given = {name: value for name in ("data", "data_dir") if (value := getattr(settings, name)) is not None}
    return task.reconfigured(
        input=_changed(config.input, settings, data_fields), eval=_changed(config.eval, settings, eval_fields), **given
    )


def _changed(config: Any, settings: Any, names: tuple[str, ...]) -> Any:
    values = {name: value for name in names if (value := getattr(settings, name)) is not None}
    foreign = [f"--{name}" for name in values if not hasattr(config, name)]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)} is of no use to a checkpoint of this task; leave it out")
    return dataclasses.replace(config, **values)


def open_scored(task: ImageTask, split: str | None) -> Source:
    """Opens the split that a checkpoint's task is to be scored on; by default the run's own.

    Raises:
      ConfigError: The data set has another number of classes.
    """
    dataset = task.open(task.config, split or task.config.input.eval_split)
    if len(dataset.class_names) != task.num_classes:
        raise ConfigError(
            f"{dataset.name} has {len(dataset.class_names)} classes and the checkpoint {task.num_classes}; give"
            " the data that it was trained for"
        )
    return dataset
