"""Draws the results of a classification run: scores, a gallery of examples, two plots."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flax import linen as nn

from cvjax.data.dataset import Dataset
from cvjax.engine.task import Report
from cvjax.tasks.classification.predict import make_classifier
from cvjax.tasks.examples import TILES, decoded_examples
from cvjax.visual.canvas import save_png
from cvjax.visual.gallery import Tile, draw_gallery
from cvjax.visual.plots import plot_confusion, plot_reliability
from cvjax.visual.tables import report_markdown

if TYPE_CHECKING:
    from cvjax.tasks.classification.task import Classification


def headline(report: Report) -> str:
    """Returns the scores as one line."""
    return (
        f"top-1 {report['top1']:.4f}, top-5 {report['top5']:.4f}, mean accuracy {report['mean_accuracy']:.4f},"
        f" calibration error {report['ece']:.4f}"
    )


def draw_report(task: "Classification", folder: Path, report: Report) -> list[str]:
    """Writes report.md, confusion.png and reliability.png; returns their names."""
    (folder / "report.md").write_text(report_markdown(report))
    plot_confusion(report["confusion"], task.class_names, folder / "confusion.png")
    plot_reliability(report["bins"], report["ece"], folder / "reliability.png")
    return ["report.md", "confusion.png", "reliability.png"]


def draw_examples(
    task: "Classification", folder: Path, model: nn.Module, variables: dict[str, Any], dataset: Dataset
) -> list[str]:
    """Writes predictions.png, which shows images with their true and predicted labels; returns its name."""
    classify = make_classifier(task, model, variables)
    tiles = []
    for _, example in decoded_examples(task, dataset, TILES):
        predicted = classify(example["image"])
        guess = int(predicted.argmax())
        names = task.class_names[int(example["label"])], task.class_names[guess]
        tiles.append(Tile(example["image"], *names, float(predicted[guess])))
    save_png(folder / "predictions.png", draw_gallery(tiles))
    return ["predictions.png"]
