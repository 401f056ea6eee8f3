"""Draws the results of a detection run: tables, boxes over images, precision over recall."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import linen as nn

from cvjax.data.annotations import Objects
from cvjax.data.dataset import Dataset
from cvjax.engine.task import Report
from cvjax.models.detection.detector import display_threshold
from cvjax.tasks.detection.box_finder import make_box_finder
from cvjax.tasks.examples import ROWS, decoded_examples
from cvjax.visual.boxes import Boxes, BoxesExample, save_boxes_grid
from cvjax.visual.detection_plots import plot_precision_recall
from cvjax.visual.detection_tables import detection_markdown

if TYPE_CHECKING:
    from cvjax.tasks.detection.task import Detection


def headline(report: Report) -> str:
    """Returns the scores as one line."""
    line = f"mAP {report['map']:.4f}, of 11 points {report['map_voc07']:.4f}, recall {report['recall']:.4f}"
    if "coco_ap" in report:
        line += f", COCO AP {report['coco_ap']:.4f}"
    if report["dropped_boxes"]:
        line += f", {report['dropped_boxes']} bad boxes left out"
    return line


def draw_report(folder: Path, report: Report) -> list[str]:
    """Writes report.md and precision_recall.png; returns their names."""
    (folder / "report.md").write_text(detection_markdown(report))
    plot_precision_recall(report["precision"], report["ap"], folder / "precision_recall.png")
    return ["report.md", "precision_recall.png"]


def draw_examples(
    task: "Detection", folder: Path, model: nn.Module, variables: dict[str, Any], dataset: Dataset
) -> list[str]:
    """Writes predictions.png: true boxes beside detections with a high enough score; returns its name."""
    find = make_box_finder(task, model, variables)
    examples = []
    for record, example in decoded_examples(task, dataset, ROWS):
        truth = example["boxes"]
        found = at_least(find(example["image"], truth.proposals), display_threshold(model))
        caption = f"{record['id']}   {len(truth.boxes)} objects, {len(found.boxes)} boxes found"
        examples.append(BoxesExample(example["image"], true_boxes(truth), found, caption))
    save_boxes_grid(folder / "predictions.png", examples, task.class_names)
    return ["predictions.png"]


def at_least(found: Boxes, score: float) -> Boxes:
    """Returns the detections whose score is at least `score`."""
    assert found.scores is not None
    kept = np.asarray(found.scores) >= score
    return Boxes(found.boxes[kept], found.labels[kept], found.scores[kept])


def true_boxes(objects: Objects) -> Boxes:
    """Returns the boxes of objects for drawing; those that need not be found are faint."""
    return Boxes(objects.boxes, objects.labels, faint=objects.difficult | objects.crowd)
