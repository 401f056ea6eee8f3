"""Classification runs: what they have of their own."""

import functools

from cvjax.data.dataset import Source
from cvjax.data.decode import decode_labelled
from cvjax.data.loader import Decode
from cvjax.engine.loop import Outcome
from cvjax.engine.run import Kind, fill_colour, train
from cvjax.errors import ConfigError
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.classification.transforms import CentreCrop, RandomCrop
from cvjax.tasks.pictures import draw_classification, draw_scores, show_classification
from cvjax.tasks.prediction import eval_crop, make_classify
from cvjax.weights import from_torch


def run(config: ClassificationConfig) -> Outcome:
    """Trains a classifier, see `cvjax.engine.run.train`."""
    return train(config, KIND)


def make_task(config: ClassificationConfig, source: Source) -> Classification:
    """The task of a data set's classes, with what the configuration varies on the device.

    Raises:
      ConfigError: a smoothing that leaves nothing of the label, or negative parameters of the mixing.
    """
    if not 0 <= config.label_smoothing < 1 or config.mixup < 0 or config.cutmix < 0:
        raise ConfigError(
            f"label_smoothing is {config.label_smoothing}, mixup {config.mixup} and cutmix {config.cutmix}: give at"
            " least 0, and a smoothing below 1"
        )
    return Classification(
        class_names=tuple(source.class_names),
        label_smoothing=config.label_smoothing,
        aux_weight=config.aux_weight,
        mixup=config.mixup,
        cutmix=config.cutmix,
        brightness=config.input.brightness,
        contrast=config.input.contrast,
        saturation=config.input.saturation,
        pca_noise=config.input.pca_noise,
    )


def train_transform(reading: ClassificationData, task: Classification) -> RandomCrop:
    """The configured crop, flip, policy and erasing.

    Raises:
      ConfigError: a value outside its range.
    """
    return RandomCrop(
        size=reading.crop,
        cut=reading.cut,
        min_area=reading.min_area,
        max_aspect=reading.max_aspect,
        padding=reading.padding,
        flip=reading.flip,
        policy=reading.policy,
        num_ops=reading.num_ops,
        magnitude=reading.magnitude,
        erase=reading.erase,
        fill=fill_colour(task),
        interpolation=reading.interpolation,
    )


def _decode(task: Classification, reading: ClassificationData) -> Decode:
    return functools.partial(decode_labelled, num_classes=task.num_classes)


def _plan(
    source: Source, task: Classification, scoring: ClassificationEval, reading: ClassificationData
) -> tuple[CentreCrop, None]:
    """Images of one size, in the source's order."""
    return eval_crop(task, scoring, reading), None


KIND = Kind(
    name="classification",
    target="label",
    task=Classification,
    input=ClassificationData,
    scoring=ClassificationEval,
    make_task=make_task,
    decode=_decode,
    augment=train_transform,
    plan=_plan,
    predict=make_classify,
    # With other classes than the weights have, the head stays as it was drawn; the log says so.
    load_weights=lambda variables, weights, name: from_torch(name, weights, variables, adapt=True),
    show=show_classification,
    draw=draw_classification,
    draw_scores=draw_scores,
)
