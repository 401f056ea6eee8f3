"""What a person sees at the end of a run: a table, a grid of examples, and what else its task is looked at by."""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Record, Source, max_size
from cvjax.data.decode import decode_example, decode_labelled
from cvjax.data.loader import Decode
from cvjax.engine.config import RunConfig
from cvjax.errors import DataError
from cvjax.tasks.classification.config import ClassificationConfig
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.prediction import make_classifier, make_map_predictor
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationEval
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.tasks.segmentation.transforms import resize_pair
from cvjax.visual.canvas import save_png
from cvjax.visual.gallery import Tile, draw_gallery
from cvjax.visual.grid import Example, save_grid
from cvjax.visual.plots import plot_confusion, plot_reliability
from cvjax.visual.tables import report_markdown, report_table

ROWS = 8
"""Images in a segmentation's picture of predictions."""
TILES = 24
"""Images in a classification's picture of predictions."""


def show_segmentation(report: dict[str, Any]) -> tuple[Any, str]:
    """The table of each class's IoU, and one line of scores."""
    line = (
        f"mIoU {report['miou']:.4f}, pixel accuracy {report['pixel_accuracy']:.4f}, mean accuracy"
        f" {report['mean_accuracy']:.4f}"
    )
    if "boundary_iou" in report:
        line += f", boundary IoU {report['boundary_iou']:.4f}"
    for name in ("pixel_error", "rand_error", "pair_error", "warping_error"):
        if name in report:
            line += f", {name.replace('_', ' ')} {report[name]:.6f}"
    return report_table(report), line


def show_classification(report: dict[str, Any]) -> tuple[Any, str]:
    """The table of each class's accuracy, and one line of scores."""
    line = (
        f"top-1 {report['top1']:.4f}, top-5 {report['top5']:.4f}, mean accuracy {report['mean_accuracy']:.4f},"
        f" calibration error {report['ece']:.4f}"
    )
    return report_table(report), line


def draw_segmentation(
    workdir: pathlib.Path,
    model: nn.Module,
    task: Segmentation,
    variables: dict[str, Any],
    source: Source,
    config: SegmentationConfig,
    report: dict[str, Any],
) -> list[str]:
    """Writes report.md and predictions.png: images, their truth and what was predicted.

    Args:
      workdir: where to.
      model, task: of the run.
      variables: numpy arrays to predict with.
      source: split that the pictures' examples are taken from, evenly spaced.
      config: of the run.
      report: the final evaluation.

    Returns:
      The names of the files.
    """
    (workdir / "report.md").write_text(report_markdown(report))
    multiple = config.eval.pad_multiple or max(config.input.resize or max_size(source))
    predict = make_map_predictor(model, task, variables, SegmentationEval(crf=config.eval.crf), multiple)
    examples = []
    decode = functools.partial(decode_example, num_classes=task.num_classes, void=config.input.void)
    for record, pair in decoded(source, config, ROWS, decode):
        image, mask = pair["image"], pair["mask"]
        if config.input.resize is not None:
            image, mask = resize_pair(image, mask, config.input.resize)
        prediction = predict(image)
        counted = mask != task.ignore
        right = float((prediction == mask)[counted].mean()) if counted.any() else 1.0
        examples.append(Example(image, mask, prediction, f"{record['id']}   {right:.0%} of pixels right"))
    save_grid(workdir / "predictions.png", examples, task.class_names)
    return ["report.md", "predictions.png"]


def draw_classification(
    workdir: pathlib.Path,
    model: nn.Module,
    task: Classification,
    variables: dict[str, Any],
    source: Source,
    config: ClassificationConfig,
    report: dict[str, Any],
) -> list[str]:
    """Writes report.md, predictions.png (images, each with its true and its predicted label), confusion.png and
    reliability.png.

    Arguments and result are those of `draw_segmentation`.
    """
    (workdir / "report.md").write_text(report_markdown(report))
    classify = make_classifier(model, task, variables, config.eval, config.input)
    decode = functools.partial(decode_labelled, num_classes=task.num_classes)
    tiles = []
    for _, example in decoded(source, config, TILES, decode):
        probabilities = classify(example["image"])
        guess = int(probabilities.argmax())
        names = task.class_names[int(example["label"])], task.class_names[guess]
        tiles.append(Tile(example["image"], *names, float(probabilities[guess])))
    save_png(workdir / "predictions.png", draw_gallery(tiles))
    return ["report.md", "predictions.png", *draw_scores(workdir, task, report)]


def draw_scores(folder: pathlib.Path, task: Classification, report: dict[str, Any]) -> list[str]:
    """Writes confusion.png and reliability.png of a report into a folder; returns their names."""
    plot_confusion(report["confusion"], task.class_names, folder / "confusion.png")
    plot_reliability(report["bins"], report["ece"], folder / "reliability.png")
    return ["confusion.png", "reliability.png"]


def decoded(
    source: Source, config: RunConfig, count: int, decode: Decode
) -> Iterator[tuple[Record, dict[str, np.ndarray]]]:
    """`count` records spread evenly over a split, decoded; damaged ones are passed over where the run may."""
    for index in np.unique(np.linspace(0, len(source) - 1, count).round().astype(int)):
        record = source[int(index)]
        try:
            yield record, decode(record)
        except DataError:  # counted by the evaluation already
            if config.input.on_bad_record == "error":
                raise
