"""What a person sees at the end of a run: a table, a grid of examples and the curves."""

import json
import pathlib
from typing import Any

import numpy as np
from flax import linen as nn
from rich.console import Console

from cvjax.data.augment import resize_pair
from cvjax.data.decode import decode_example
from cvjax.data.source import Source, max_size
from cvjax.errors import DataError
from cvjax.runs.config import EvalConfig, SegmentationConfig
from cvjax.runs.prediction import make_map_predictor
from cvjax.tasks.segmentation import Segmentation
from cvjax.training.logs import METRICS_FILE
from cvjax.visual.curves import plot_curves
from cvjax.visual.grid import Example, save_grid
from cvjax.visual.tables import iou_markdown, iou_table

GRID_ROWS = 8


def write_pictures(
    workdir: pathlib.Path,
    model: nn.Module,
    task: Segmentation,
    variables: dict[str, Any],
    source: Source,
    config: SegmentationConfig,
    report: dict[str, Any],
    console: Console,
) -> None:
    """Prints the per-class table, and writes report.json, report.md, predictions.png and curves.png.

    Args:
      workdir: where to.
      model, task: of the run.
      variables: numpy arrays to predict with.
      source: split that the grid's examples are taken from, evenly spaced.
      config: of the run.
      report: the final evaluation.
      console: where the table goes.
    """
    (workdir / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (workdir / "report.md").write_text(iou_markdown(report))
    console.print(iou_table(report))
    multiple = config.eval.pad_multiple or max(config.input.resize or max_size(source))
    predict = make_map_predictor(model, task, variables, EvalConfig(), multiple)
    examples = []
    for index in np.unique(np.linspace(0, len(source) - 1, GRID_ROWS).round().astype(int)):
        record = source[int(index)]
        try:
            pair = decode_example(record, task.num_classes, config.input.void)
        except DataError:
            if config.input.on_bad_record == "error":
                raise
            continue  # passed over and counted by the evaluation already
        image, mask = pair["image"], pair["mask"]
        if config.input.resize is not None:
            image, mask = resize_pair(image, mask, config.input.resize)
        prediction = predict(image)
        counted = mask != task.ignore
        right = float((prediction == mask)[counted].mean()) if counted.any() else 1.0
        examples.append(Example(image, mask, prediction, f"{record['id']}   {right:.0%} of pixels right"))
    save_grid(workdir / "predictions.png", examples, task.class_names)
    plot_curves(workdir / METRICS_FILE, workdir / "curves.png")
    console.print(f"written: {workdir}/report.md, predictions.png, curves.png", highlight=False, soft_wrap=True)
