"""Draws the results of a segmentation run: a line of scores, a table, and a grid of examples."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flax import linen as nn

from cvjax.data.dataset import Dataset, max_size
from cvjax.engine.task import Report
from cvjax.tasks.examples import ROWS, decoded_examples
from cvjax.tasks.scale_crop import resize_pair
from cvjax.tasks.segmentation.config import SegmentationEval
from cvjax.tasks.segmentation.predict import make_map_predictor
from cvjax.visual.grid import Example, save_grid
from cvjax.visual.tables import report_markdown

if TYPE_CHECKING:
    from cvjax.tasks.segmentation.task import Segmentation


def headline(report: Report) -> str:
    """Returns the scores as one line."""
    line = (
        f"mIoU {report['miou']:.4f}, pixel accuracy {report['pixel_accuracy']:.4f}, mean accuracy"
        f" {report['mean_accuracy']:.4f}"
    )
    if "boundary_iou" in report:
        line += f", boundary IoU {report['boundary_iou']:.4f}"
    for name in ("pixel_error", "rand_error", "one_minus_rand_index", "warping_error"):
        if name in report:
            line += f", {name.replace('_', ' ')} {report[name]:.6f}"
    return line


def draw_report(folder: Path, report: Report) -> list[str]:
    """Writes report.md, the table of each class's IoU; returns its name."""
    (folder / "report.md").write_text(report_markdown(report))
    return ["report.md"]


def draw_examples(
    task: "Segmentation", folder: Path, model: nn.Module, variables: dict[str, Any], dataset: Dataset
) -> list[str]:
    """Writes predictions.png: images, ground truth and predictions of examples spread evenly over a split.

    Args:
      task: Task of the run.
      folder: Folder of the file.
      model: Module that predicts.
      variables: Variables of the model, as numpy arrays.
      dataset: Split that the examples are taken from.

    Returns:
      The names of the files.
    """
    resize, scoring = task.config.input.resize, task.config.eval
    multiple = scoring.pad_multiple or max(resize or max_size(dataset))
    plain = task.reconfigured(eval=SegmentationEval(crf=scoring.crf))  # one scale: a picture is no benchmark
    predict = make_map_predictor(plain, model, variables, multiple)
    examples = []
    for record, pair in decoded_examples(task, dataset, ROWS):
        image, mask = pair["image"], pair["mask"]
        if resize is not None:
            image, mask = resize_pair(image, mask, resize)
        prediction = predict(image)
        counted = mask != task.ignore
        right = float((prediction == mask)[counted].mean()) if counted.any() else 1.0
        examples.append(Example(image, mask, prediction, f"{record['id']}   {right:.0%} of pixels right"))
    save_grid(folder / "predictions.png", examples, task.class_names)
    return ["predictions.png"]
