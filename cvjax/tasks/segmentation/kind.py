"""Segmentation runs: what they have of their own."""

import dataclasses
import functools
from collections.abc import Sequence

from cvjax.data.dataset import Source, image_sizes
from cvjax.data.decode import decode_example
from cvjax.data.loader import Decode
from cvjax.data.order import Planned, batches_by_size
from cvjax.datasets.statistics import balancing_weights, class_frequencies
from cvjax.engine.loop import Outcome
from cvjax.engine.run import Kind, fill_colour, train
from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.tasks.pictures import draw_segmentation, show_segmentation
from cvjax.tasks.prediction import make_predict
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from cvjax.tasks.segmentation.loss import LossOptions
from cvjax.tasks.segmentation.task import MapScoring, Segmentation
from cvjax.tasks.segmentation.transforms import EvalTransform, TrainTransform
from cvjax.tasks.segmentation.warp import WarpTransform
from cvjax.weights import backbone_name, load_backbone


def run(config: SegmentationConfig) -> Outcome:
    """Trains a segmentation model, see `cvjax.engine.run.train`."""
    return train(config, KIND)


def make_task(config: SegmentationConfig, source: Source) -> Segmentation:
    """The task of a data set's classes, with the configured colour jitter and weights of the loss.

    Raises:
      ConfigError: a crop that the net cannot take, or cells that are no class.
    """
    classes = len(source.class_names)
    model = create_model(config.model.name, num_classes=classes, **config.model.options())
    margin = getattr(model, "margin", 0)
    if margin:
        model.output_size(config.input.crop)  # says which sizes fit
    if not 0 <= config.input.cells < classes and (config.input.border_weight or config.eval.em_thresholds):
        raise ConfigError(
            f"input.cells is {config.input.cells}, and the classes are 0 to {classes - 1}; give one of them"
        )
    class_weights = None
    if config.class_balance:
        frequencies = class_frequencies(source, len(source.class_names), config.input.void)
        class_weights = balancing_weights(frequencies, config.class_balance)
    return Segmentation(
        class_names=tuple(source.class_names),
        class_weights=class_weights,
        aux_weight=config.aux_weight,
        loss_stride=config.loss_stride,
        normalize_loss=config.normalize_loss,
        brightness=config.input.brightness,
        contrast=config.input.contrast,
        saturation=config.input.saturation,
        margin=margin,
        cells=config.input.cells,
        **{field.name: getattr(config, field.name) for field in dataclasses.fields(LossOptions)},
    )


def score_as(task: Segmentation, scoring: SegmentationEval) -> Segmentation:
    """The task with the scores, and the CRF before them, that a configuration asks for."""
    return dataclasses.replace(task, **{f.name: getattr(scoring, f.name) for f in dataclasses.fields(MapScoring)})


def train_transform(reading: SegmentationData, task: Segmentation) -> TrainTransform:
    """The configured scale, crop, flips and deformation.

    Raises:
      ConfigError: a size or factor that no image can be brought to.
    """
    common = {
        "crop": reading.crop,
        "min_scale": reading.min_scale,
        "max_scale": reading.max_scale,
        "scale_step": reading.scale_step,
        "flip": reading.flip,
        "fill": fill_colour(task),
        "ignore": task.ignore,
        "resize": reading.resize,
    }
    if not (task.margin or reading.flip_vertical or reading.rotate or reading.elastic or reading.border_weight):
        return TrainTransform(**common)
    return WarpTransform(
        **common,
        margin=task.margin,
        flip_vertical=reading.flip_vertical,
        rotate=reading.rotate,
        elastic=reading.elastic,
        cells=task.cells,
        border_weight=reading.border_weight,
        border_sigma=reading.border_sigma,
        class_weights=task.class_weights,
    )


def _decode(task: Segmentation, reading: SegmentationData) -> Decode:
    return functools.partial(decode_example, num_classes=task.num_classes, void=reading.void)


def _plan(
    source: Source, task: Segmentation, scoring: SegmentationEval, reading: SegmentationData
) -> tuple[EvalTransform, Sequence[Planned]]:
    """Padding, and batches of images alike in size."""
    sizes = [reading.resize] * len(source) if reading.resize else image_sizes(source)
    # A net without padding mirrors its images at their border, not at that of padding.
    plan = batches_by_size(sizes, scoring.batch_size, 1 if task.margin else scoring.pad_multiple)
    fill = fill_colour(task)
    return EvalTransform(size=plan[-1][0], fill=fill, ignore=task.ignore, resize=reading.resize), plan


KIND = Kind(
    name="segmentation",
    target="mask",
    task=Segmentation,
    input=SegmentationData,
    scoring=SegmentationEval,
    make_task=make_task,
    decode=_decode,
    augment=train_transform,
    plan=_plan,
    predict=lambda model, scoring, reading: make_predict(model, scoring),
    score_as=score_as,
    load_weights=lambda variables, weights, name: load_backbone(variables, weights, backbone_name(name)),
    show=show_segmentation,
    draw=draw_segmentation,
)
