"""Rebuilds a trained model from its checkpoint alone."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.engine.checkpoint import read_metadata, read_variables
from cvjax.engine.config import config_from_json, from_json
from cvjax.errors import CheckpointError, UserError
from cvjax.models import create_model
from cvjax.storage import AnyPath
from cvjax.tasks.images import ImageTask
from cvjax.tasks.prediction.pieces import BatchPredictor, Views
from cvjax.tasks.splits import find_split


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Holds a trained model that is ready for use.

    Attributes:
      model: Module. `model.apply(variables, task.normalize(images), train=False)` gives logits; a detector is called as
        `cvjax.models.detection.detector` describes.
      variables: {"params", "batch_stats"} as numpy arrays, averaged where the run averaged.
      task: Task of the run, with its configuration, class names and normalization.
      metadata: Metadata that the run recorded.
      place: Folder of the checkpoint; of one at a URL, of its local copy.
    """

    model: nn.Module
    variables: dict[str, Any]
    task: ImageTask
    metadata: dict[str, Any]
    place: AnyPath

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Returns the model's input, float32 [height, width, 3], for a photograph, uint8 [H, W, 3]."""
        return self.task.preprocess(image)

    def predict(self, image: np.ndarray) -> Any:
        """Predicts from a photograph, uint8 [H, W, 3] of any size, as the evaluation is configured.

        It compiles once per size.

        Returns:
          Labels uint8 [H, W] for segmentation, probabilities float32 [C] for classification, boxes for detection.

        Raises:
          ConfigError: The task cannot predict from a photograph alone.
        """
        return self._predictor(image)

    def batch_predictor(self, views: Views | None = None) -> BatchPredictor:
        """Returns what predicts many photographs, see `cvjax.tasks.prediction.stream`; the same for the same views.

        Args:
          views: Tiles, scales and mirror images; None predicts as the evaluation is configured.

        Raises:
          ConfigError: The task cannot predict from a photograph alone, or not with these views.
        """
        if views not in self._batch_predictors:
            self._batch_predictors[views] = self.task.batch_predictor(self.model, self.variables, views)
        return self._batch_predictors[views]

    @functools.cached_property
    def _batch_predictors(self) -> dict[Views | None, BatchPredictor]:
        return {}

    @functools.cached_property
    def _predictor(self) -> Callable[[np.ndarray], Any]:
        return self.task.predictor(self.model, self.variables)


def rebuild(task_classes: Iterable[type[ImageTask]], place: pathlib.Path, **model_overrides: Any) -> Loaded:
    """Rebuilds the model of a checkpoint of one of the given tasks.

    Args:
      task_classes: Classes of the tasks that it may be of.
      place: Folder of the checkpoint itself.
      **model_overrides: Options that keep the parameters as they are, such as `output_stride=8` or `dtype`.

    Raises:
      CheckpointError: The checkpoint is unreadable, is of another task, or this version does not have its model.
    """
    metadata, tasks = read_metadata(place), {task.name: task for task in task_classes}
    kind = metadata.get("task", {}).get("kind")
    if kind not in tasks:
        raise CheckpointError(f"{place / 'info'} is of the task {kind!r}; give a checkpoint of {', '.join(tasks)}")
    try:
        name, options = metadata["model"]["name"], from_json(metadata["model"]["options"]) | model_overrides
        config = _with_written_split(config_from_json(tasks[kind].config_class, metadata["run"]), place)
        task = tasks[kind].restore(config, from_json(metadata["task"]))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{place / 'info'} does not describe a run of this version ({what}); evaluate it with the version that"
            " wrote it"
        ) from error
    try:
        model = create_model(name, num_classes=task.num_classes, **options)
    except UserError as error:
        raise CheckpointError(f"{place} cannot be rebuilt: {error}") from error
    like = jax.eval_shape(lambda key: task.init(model, key), jax.random.key(0))
    return Loaded(model, read_variables(place, like), task, metadata, place)


def _with_written_split(config: Any, place: AnyPath) -> Any:
    """Returns a run's configuration with the split that it wrote beside its checkpoints, wherever these lie now."""
    written = None if config.input.hold_out is None else find_split(place.parent.parent)
    if written is None:
        return config
    return dataclasses.replace(config, input=dataclasses.replace(config.input, split_file=str(written)))
