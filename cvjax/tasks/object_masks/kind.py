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
from cvjax.engine.config import ReadingConfig, RunConfig, ScoringConfig
from cvjax.engine.loop import Outcome
from cvjax.engine.run import Kind, fill_colour, train
from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.tasks.object_masks.pictures import draw_masks, show_masks
from cvjax.tasks.object_masks.task import ObjectMasks
from cvjax.tasks.object_masks.transforms import ObjectCrop, ObjectFit
from cvjax.weights import backbone_name, load_backbone


@dataclasses.dataclass(frozen=True)
class MasksInput(ReadingConfig):
    """How images with objects are read and varied.

    Attributes: those of `ReadingConfig`, and
      resize: height and width that images are brought to first; None leaves them as they are.
      min_scale, max_scale, scale_step: of the random scale before the crop; step 0 draws from all between.
      boxes: of a crop; of more objects, as many at random.
      jitter: sides of boxes move by up to this fraction of the box.
      visible: objects of which less than this fraction of the box lies in the crop are left out.
    """

    crop: tuple[int, int] = (321, 321)
    resize: tuple[int, int] | None = None
    min_scale: float = 0.75
    max_scale: float = 1.33
    scale_step: float = 0.0
    boxes: int = 8
    jitter: float = 0.1
    visible: float = 0.5


@dataclasses.dataclass(frozen=True)
class MasksEval(ScoringConfig):
    """How masks are scored: inside the true boxes, at the image's size.

    Attributes: those of `ScoringConfig`, and
      boxes: the most that an image may have.
      pad_multiple: images are padded to sides that are multiples of it, and those alike share a batch.
    """

    boxes: int = 16
    pad_multiple: int = 64


@dataclasses.dataclass(frozen=True)
class MasksConfig(RunConfig):
    """A run that learns masks inside boxes. Attributes: those of `RunConfig`."""

    input: MasksInput = MasksInput()
    eval: MasksEval = MasksEval()


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


def run(config: MasksConfig) -> Outcome:
    """Trains a model of masks inside boxes, see `cvjax.engine.run.train`."""
    return train(config, KIND)


def make_task(config: MasksConfig, source: Source) -> ObjectMasks:
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


def train_transform(reading: MasksInput, task: ObjectMasks) -> ObjectCrop:
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


def _decode(task: ObjectMasks, reading: MasksInput) -> Decode:
    return functools.partial(decode_objects, num_classes=task.num_classes)


def _plan(
    source: Source, task: ObjectMasks, scoring: MasksEval, reading: MasksInput
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
    input=MasksInput,
    scoring=MasksEval,
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
