"""`python -m cvjax.cli.evaluate CHECKPOINT`: the scores of a checkpoint, by the code that the training loop uses."""

import dataclasses
import json
import pathlib
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from cvjax.cli._main import run
from cvjax.engine.parallel import Mode, make_strategy
from cvjax.engine.run import make_evaluator, open_for, plain
from cvjax.errors import ConfigError
from cvjax.tasks.load import load_for_inference
from cvjax.tasks.segmentation.config import CRFFlag

_SCORING = (
    *("scales", "flip", "window", "overlap", "crf", "boundary", "trimap", "em_thresholds"),
    *("crop", "resize", "crops", "boxes", "batch_size"),
    *("short_side", "long_side", "score_threshold", "nms_threshold", "max_detections", "coco"),
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Scores a checkpoint on a split of the data that it was trained on, or of another set.

    Attributes:
      checkpoint: a run's work folder (its best checkpoint is taken) or one checkpoint's folder.
      data: name of another data set with the same classes.
      data_dir, manual_dir: where to look for it, if elsewhere than the run did.
      split: the run's own evaluation split by default.
      scales: segmentation: image scales whose probabilities are averaged.
      flip: segmentation: average with the mirrored image too.
      window: segmentation: height and width of a sliding window.
      overlap: segmentation: fraction that neighbouring windows share.
      crf: segmentation: a dense CRF after the net, by DeepLab's names or as the numbers of its kernels.
      boundary: segmentation: also the boundary IoU.
      trimap: segmentation: also the mean IoU within so many pixels of a border, for each number.
      em_thresholds: segmentation: of the cells' probability, for pixel, Rand and warping error.
      output_stride: of the backbone, if other than in training.
      crop: classification, detection: height and width of what the net sees.
      resize: classification: length that the shorter side is brought to before the crop.
      crops: classification: centre or ten.
      pictures: write the confusion matrix and the reliability diagram of a classification, the curves of precision over
        recall of a detection, into this folder.
      boxes: detection, masks in boxes: the most boxes that an image may have.
      short_side, long_side: detection: length that the image's shorter side is brought to, and the longer one's limit.
      score_threshold, nms_threshold, max_detections: of the detector.
      coco: detection: also COCO's scores.
      on_bad_boxes: detection: stop at a box that is empty, inverted or outside its image, or leave it out and count it.
      batch_size: over all devices; the run's own by default.
      parallel: jit or pmap.
      on_bad_record: stop at a damaged record, or pass it over and count it.
      json: write the report to this file.
    """

    checkpoint: Annotated[str, tyro.conf.Positional]
    data: str | None = None
    data_dir: str | None = None
    manual_dir: str | None = None
    split: str | None = None
    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    window: tuple[int, int] | None = None
    overlap: float | None = None
    crf: CRFFlag = None
    boundary: bool | None = None
    trimap: tuple[int, ...] | None = None
    em_thresholds: tuple[float, ...] | None = None
    output_stride: int | None = None
    crop: tuple[int, int] | None = None
    resize: int | None = None
    crops: Literal["centre", "ten"] | None = None
    pictures: str | None = None
    boxes: int | None = None
    short_side: int | None = None
    long_side: int | None = None
    score_threshold: float | None = None
    nms_threshold: float | None = None
    max_detections: int | None = None
    coco: bool | None = None
    on_bad_boxes: Literal["error", "drop"] | None = None
    batch_size: int | None = None
    parallel: Mode = "jit"
    on_bad_record: str | None = None
    json: str | None = None


def evaluate_checkpoint(arguments: Arguments, console: Console) -> dict[str, Any]:
    """The report of the task for a checkpoint; what is not given is as in the run.

    Raises:
      UserError: a missing or foreign checkpoint, missing data, or options of another task.
    """
    overrides = {} if arguments.output_stride is None else {"output_stride": arguments.output_stride}
    loaded = load_for_inference(arguments.checkpoint, **overrides)
    kind, data_dir = loaded.kind, arguments.data_dir or loaded.config["run"]["data_dir"]
    if arguments.pictures is not None and kind.draw_scores is None:
        raise ConfigError(f"--pictures draws no report of a {kind.name}; leave it out")
    reading = _given(loaded.reading, arguments, "manual_dir", "on_bad_record", "on_bad_boxes")
    scoring = _given(loaded.scoring, arguments, *_SCORING)
    name = arguments.data or loaded.config["data"]["name"]
    source = open_for(kind, name, arguments.split or reading.eval_split, reading, data_dir)
    if len(source.class_names) != loaded.task.num_classes:
        raise ConfigError(
            f"{source.name} has {len(source.class_names)} classes and the checkpoint {loaded.task.num_classes}; give"
            " the data that it was trained for"
        )
    strategy = make_strategy(arguments.parallel, scoring.batch_size)
    score = make_evaluator(kind, loaded.model, loaded.task, source, scoring, reading, strategy)
    report = score(strategy.place_state(loaded.variables))
    place = {"checkpoint": str(loaded.place), "data": source.name, "split": source.split}
    table, line = kind.show(report)
    console.print(table)
    console.print(
        f"{loaded.place}: {line} on {report['examples']} images of {source.name} {source.split}"
        + (f", {report['skipped']} bad records passed over" if report["skipped"] else ""),
        highlight=False,
        soft_wrap=True,
    )
    if arguments.pictures is not None:
        kind.draw_scores(pathlib.Path(arguments.pictures), loaded.task, report)
    return plain(report) | place


def _given(config: Any, arguments: Arguments, *names: str) -> Any:
    values = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    foreign = [f"--{name}" for name in values if not hasattr(config, name)]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)} is of no use to a checkpoint of this task; leave it out")
    return dataclasses.replace(config, **values)


def main() -> None:
    """Command line."""
    arguments = tyro.cli(Arguments, prog="python -m cvjax.cli.evaluate", description=Arguments.__doc__)
    report = evaluate_checkpoint(arguments, Console())
    if arguments.json is not None:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
