"""Detection runs: what they have of their own."""

import dataclasses
import functools

from cvjax.data.annotations import decode_boxes_example
from cvjax.data.dataset import Source
from cvjax.data.loader import Decode
from cvjax.engine.loop import Outcome
from cvjax.engine.run import Kind, train
from cvjax.tasks.detection.config import (
    DetectionConfig,
    DetectionData,
    DetectionEval,
    plan,
    train_transform,
    with_proposals,
)
from cvjax.tasks.detection.pictures import draw_curves, draw_detection, show_detection
from cvjax.tasks.detection.predict import Detector, make_detect
from cvjax.tasks.detection.task import Detection
from cvjax.weights import backbone_name, load_backbone


def run(config: DetectionConfig) -> Outcome:
    """Trains a detector, see `cvjax.engine.run.train`."""
    return train(config, KIND)


def make_task(config: DetectionConfig, source: Source) -> Detection:
    """The task of a data set's classes, with the configured colour jitter and scores."""
    return Detection(
        class_names=tuple(source.class_names),
        metric=config.eval.metric,
        coco=config.eval.coco,
        brightness=config.input.brightness,
        contrast=config.input.contrast,
        saturation=config.input.saturation,
        exposure=config.input.exposure,
        hsv_saturation=config.input.hsv_saturation,
    )


def score_as(task: Detection, scoring: DetectionEval) -> Detection:
    """The task with the scores that a configuration asks for."""
    return dataclasses.replace(task, metric=scoring.metric, coco=scoring.coco)


def _decode(task: Detection, reading: DetectionData) -> Decode:
    return functools.partial(decode_boxes_example, num_classes=task.num_classes)


KIND = Kind(
    name="detection",
    target="boxes",
    task=Detection,
    input=DetectionData,
    scoring=DetectionEval,
    make_task=make_task,
    decode=_decode,
    augment=train_transform,
    plan=plan,
    predict=lambda model, scoring, reading: make_detect(model, scoring),
    score_as=score_as,
    load_weights=lambda variables, weights, name: load_backbone(variables, weights, backbone_name(name)),
    show=show_detection,
    draw=draw_detection,
    draw_scores=draw_curves,
    attach=with_proposals,
    applied=Detector,
)
