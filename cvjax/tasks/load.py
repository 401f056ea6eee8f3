"""A trained model from its checkpoint alone, for evaluation, prediction and anybody's own code."""

import dataclasses
import os
import pathlib
from typing import Any

import jax
from flax import linen as nn

from cvjax.engine.checkpoint import find_checkpoint, read_info, read_variables
from cvjax.engine.config import DataConfig, EvalConfig, from_json
from cvjax.engine.run import Kind
from cvjax.engine.state import init_variables
from cvjax.errors import CheckpointError
from cvjax.models import create_model
from cvjax.tasks.classification import kind as classification
from cvjax.tasks.detection import kind as detection
from cvjax.tasks.images import ImageTask
from cvjax.tasks.object_masks import kind as masks
from cvjax.tasks.segmentation import kind as segmentation

KINDS = {kind.name: kind for kind in (segmentation.KIND, classification.KIND, masks.KIND, detection.KIND)}
"""What a checkpoint can be of."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model ready for use.

    Attributes:
      model: `model.apply(variables, task.normalize(images), train=False)` gives logits; a detector's call is that of
        `cvjax.models.detection.detector`.
      variables: {"params", "batch_stats"} as numpy arrays, averaged where the run averaged.
      task: class names and normalisation.
      config: what the run recorded of itself.
      place: the checkpoint's folder.
      kind: what its task has of its own.
    """

    model: nn.Module
    variables: dict[str, Any]
    task: ImageTask
    config: dict[str, Any]
    place: pathlib.Path
    kind: Kind

    @property
    def reading(self) -> DataConfig:
        """How the run read its examples."""
        return self.kind.input(**from_json(self.config["run"]["input"]))

    @property
    def scoring(self) -> EvalConfig:
        """How the run scored."""
        return self.kind.scoring(**from_json(self.config["run"]["eval"]))


def load_for_inference(path: str | os.PathLike[str], **model_overrides: Any) -> Loaded:
    """Rebuilds the model that a checkpoint is of.

    Args:
      path: a checkpoint's folder, a folder of checkpoints, or a run's work folder; of several checkpoints
        the best is taken.
      **model_overrides: options that keep the parameters as they are, such as `output_stride=8`, `dtype`.

    Raises:
      CheckpointError: none there, unreadable, or of a model that this version does not have.
    """
    place = find_checkpoint(path)
    info = read_info(place)
    try:
        name, options = info["model"]["name"], from_json(info["model"]["options"]) | model_overrides
        kind = KINDS[info["task"]["kind"]]
        fields = {f.name for f in dataclasses.fields(kind.task)}
        task = kind.task(**{k: v for k, v in from_json(info["task"]).items() if k in fields})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{place / 'info'} does not describe a run of this version ({error!r})") from error
    model = create_model(name, num_classes=task.num_classes, **options)
    crop = from_json(info["data"]["crop"])
    like = jax.eval_shape(lambda key: init_variables(kind.applied(model), key, (*crop, 3)), jax.random.key(0))
    return Loaded(model, read_variables(place, like), task, info, place, kind)
