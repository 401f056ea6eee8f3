"""What a person sees at the end of a detection run: tables, boxes over images, precision over recall."""

import functools
import pathlib
from typing import Any

import numpy as np
from flax import linen as nn
from rich.console import Group

from cvjax.data.annotations import Objects, decode_boxes_example
from cvjax.data.dataset import Source
from cvjax.models.detection.detector import shown_score
from cvjax.tasks.detection.config import DetectionConfig
from cvjax.tasks.detection.predict import make_finder
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.pictures import ROWS, decoded
from cvjax.visual.boxes import Boxes, BoxesExample, save_boxes_grid
from cvjax.visual.detection_plots import plot_precision_recall
from cvjax.visual.detection_tables import detection_markdown, detection_tables


def show_detection(report: dict[str, Any]) -> tuple[Any, str]:
    """The tables of average precision and of kinds of errors, and one line of scores."""
    line = f"mAP {report['map']:.4f}, of 11 points {report['map_11']:.4f}, recall {report['recall']:.4f}"
    if "coco_ap" in report:
        line += f", COCO AP {report['coco_ap']:.4f}"
    if report["dropped_boxes"]:
        line += f", {report['dropped_boxes']} bad boxes left out"
    return Group(*detection_tables(report)), line


def draw_detection(
    workdir: pathlib.Path,
    model: nn.Module,
    task: Detection,
    variables: dict[str, Any],
    source: Source,
    config: DetectionConfig,
    report: dict[str, Any],
) -> list[str]:
    """Writes report.md, predictions.png (true boxes beside those found with a score of at least the model's
    `shown_score`) and precision_recall.png.

    Arguments and result are those of `draw_segmentation`.
    """
    (workdir / "report.md").write_text(detection_markdown(report))
    find = make_finder(model, task, variables, config.eval, config.input)
    decode = functools.partial(decode_boxes_example, num_classes=task.num_classes)
    examples = []
    for record, example in decoded(source, config, ROWS, decode):
        truth = example["boxes"]
        found = at_least(find(example["image"], truth.proposals), shown_score(model))
        caption = f"{record['id']}   {len(truth.boxes)} objects, {len(found.boxes)} boxes found"
        examples.append(BoxesExample(example["image"], true_boxes(truth), found, caption))
    save_boxes_grid(workdir / "predictions.png", examples, task.class_names)
    return ["report.md", "predictions.png", *draw_curves(workdir, task, report)]


def draw_curves(folder: pathlib.Path, task: Detection, report: dict[str, Any]) -> list[str]:
    """Writes precision_recall.png of a report into a folder; returns its name."""
    plot_precision_recall(report["precision"], report["ap"], folder / "precision_recall.png")
    return ["precision_recall.png"]


def at_least(found: Boxes, score: float) -> Boxes:
    """The detections whose score is at least that."""
    kept = np.asarray(found.scores) >= score
    return Boxes(found.boxes[kept], found.labels[kept], found.scores[kept])


def true_boxes(objects: Objects) -> Boxes:
    """Objects as they are drawn: thin where they need not be found."""
    return Boxes(objects.boxes, objects.labels, faint=objects.difficult | objects.crowd)
