"""Defines the configurations of runs that learn the masks of objects inside given boxes."""

import dataclasses
from typing import ClassVar

from cvjax.engine.config import EvalConfig, RunConfig
from cvjax.models.config import ModelConfig
from cvjax.tasks.object_masks.transforms import ObjectMasksData


@dataclasses.dataclass(frozen=True)
class ObjectMasksEval(EvalConfig):
    """Configures how masks are scored: inside the ground truth boxes, at the image's size.

    Attributes: those of `EvalConfig`, and
      boxes: Largest number of boxes that an image may have.
      pad_multiple: Divisor of the sides of padded images; images of one padded size share a batch.
    """

    boxes: int = 16
    pad_multiple: int = 64


@dataclasses.dataclass(frozen=True)
class ObjectMasksConfig(RunConfig):
    """Configures a run that learns masks inside boxes. Attributes are those of `RunConfig`."""

    task: ClassVar[str] = "cvjax.tasks.object_masks.task:ObjectMasks"

    model: ModelConfig = ModelConfig("hypercolumn_vgg16")
    input: ObjectMasksData = ObjectMasksData()
    eval: ObjectMasksEval = ObjectMasksEval()
