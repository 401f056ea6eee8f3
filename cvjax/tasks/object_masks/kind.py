"""Runs that learn the masks of objects inside given boxes: what they have of their own."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn

from cvjax.data.dataset import Source, image_sizes
from cvjax.data.loader import Decode
from cvjax.data.objects import decode_objects
from cvjax.data.order import Planned, batches_by_size
from cvjax.engine.loop import Outcome
from cvjax.engine.run import Kind, fill_colour, train
from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.tasks.object_masks.config import ObjectMasksConfig, ObjectMasksData, ObjectMasksEval
from cvjax.tasks.object_masks.pictures import draw_masks, show_masks
from cvjax.tasks.object_masks.task import ObjectMasks
from cvjax.tasks.object_masks.transforms import ObjectCrop, ObjectFit
from cvjax.weights import backbone_name, load_backbone


@dataclasses.dataclass(frozen=True)
class BoxMasks:
    """A model with `masks`, as a function of images and boxes.

    Attributes:
      model: with a method `masks(images, boxes, train)`.

    Raises:
      ConfigError: it has none.
    """

    model: nn.Module

    def __post_init__(self) -> None:
        if not hasattr(self.model, "masks"):
            raise ConfigError(
                f"{type(self.model).__name__} does not draw masks inside boxes; take --model.name hypercolumn_vgg16"
            )

    def init(self, key: jax.Array, images: jax.Array, train: bool = False) -> Any:
        """Fresh variables: those of the model's own call."""
        return self.model.init(key, images, train=train)

    def apply(self, variables: Any, inputs: tuple[jax.Array, jax.Array], **options: Any) -> Any:
        """The model's `masks` of (images, boxes), with any option of Flax's `apply`."""
        return self.model.apply(variables, *inputs, method="masks", **options)


def run(config: ObjectMasksConfig) -> Outcome:
    """Trains a model of masks inside boxes, see `cvjax.engine.run.train`."""
    return train(config, KIND)


def make_task(config: ObjectMasksConfig, source: Source) -> ObjectMasks:
    """The task of a data set's classes, with the configured colour jitter.

    Raises:
      ConfigError: a model that draws no masks.
    """
    BoxMasks(create_model(config.model.name, num_classes=len(source.class_names), **config.model.options()))
    return ObjectMasks(
        class_names=tuple(source.class_names),
        brightness=config.input.brightness,
        contrast=config.input.contrast,
        saturation=config.input.saturation,
    )


def train_transform(reading: ObjectMasksData, task: ObjectMasks) -> ObjectCrop:
    """The configured scale, crop, mirroring and movement of boxes.

    Raises:
      ConfigError: a value outside its range.
    """
    return ObjectCrop(
        crop=reading.crop,
        min_scale=reading.min_scale,
        max_scale=reading.max_scale,
        scale_step=reading.scale_step,
        flip=reading.flip,
        fill=fill_colour(task),
        ignore=task.ignore,
        resize=reading.resize,
        most=reading.boxes,
        jitter=reading.jitter,
        visible=reading.visible,
    )


def make_predict(model: nn.Module) -> Callable[[Any, tuple[jax.Array, jax.Array]], jax.Array]:
    """(variables, (normalised images [B, H, W, 3], boxes [B, N, 4])) -> probabilities [B, N, S, S]."""
    masks = BoxMasks(model)
    return lambda variables, inputs: jax.nn.sigmoid(masks.apply(variables, inputs, train=False))


def _decode(task: ObjectMasks, reading: ObjectMasksData) -> Decode:
    return functools.partial(decode_objects, num_classes=task.num_classes)


def _plan(
    source: Source, task: ObjectMasks, scoring: ObjectMasksEval, reading: ObjectMasksData
) -> tuple[ObjectFit, Sequence[Planned]]:
    """Padding, and batches of images alike in size."""
    sizes = [reading.resize] * len(source) if reading.resize else image_sizes(source)
    plan = batches_by_size(sizes, scoring.batch_size, scoring.pad_multiple)
    fit = ObjectFit(
        size=plan[-1][0], fill=fill_colour(task), ignore=task.ignore, resize=reading.resize, most=scoring.boxes
    )
    return fit, plan


KIND = Kind(
    name="masks",
    target="objects",
    task=ObjectMasks,
    input=ObjectMasksData,
    scoring=ObjectMasksEval,
    make_task=make_task,
    decode=_decode,
    augment=train_transform,
    plan=_plan,
    predict=lambda model, scoring, reading: make_predict(model),
    load_weights=lambda variables, weights, name: load_backbone(variables, weights, backbone_name(name)),
    show=show_masks,
    draw=draw_masks,
    applied=BoxMasks,
)
