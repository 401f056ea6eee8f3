"""`cvjax evaluate CHECKPOINT` scores a checkpoint, by the code that the training loop uses.

`cvjax evaluate --weights FILE --data NAME` scores somebody's weights in the same way.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from cvjax.cli.shell.reading import read
from cvjax.cli.shell.somebodys import say_whose, told
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.engine.modes import Mode
from cvjax.errors import ConfigError
from cvjax.storage import as_path, written_folder
from cvjax.tasks.segmentation.crf_config import CRFFlag

_DATA = ("manual_dir", "on_bad_record", "on_bad_boxes")
_EVAL = (
    *("scales", "flip", "window", "overlap", "crf", "boundary", "trimap", "em_thresholds"),
    *("crop", "resize", "crops", "boxes", "batch_size"),
    *("short_side", "long_side", "score_threshold", "nms_threshold", "max_detections", "coco"),
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Scores a checkpoint on a split of the data that it was trained on, or of another dataset; or somebody's weights.

    Attributes:
      checkpoint: Work folder of a run (its best checkpoint is taken), folder of one checkpoint, or what `weights`
        takes.
      weights: Somebody's weights instead of a checkpoint: a file, such as a .caffemodel or .pth, or a name that
        `load_pretrained` knows, such as resnet50.imagenet1k_v1. They need `data`.
      as_: Name of the model of a file's weights, where the file leaves it open.
      layout: Layout of a file's weights, where the file leaves it open.
      mean: File with the mean image (.binaryproto) of the weights of a net of Caffe's.
      data: Name of another dataset. Its classes are matched by name; some of the checkpoint's may be absent.
      data_dir: Folder of prepared datasets, if another than the run's.
      manual_dir: Folder of your own files, if another than the run's.
      split: Name of the split; the run's own evaluation split by default.
      scales: Segmentation: image scales whose probabilities are averaged.
      flip: Segmentation: average with the mirrored image too.
      window: Segmentation: height and width of a sliding window.
      overlap: Segmentation: fraction that neighboring windows share.
      crf: Segmentation: a dense CRF after the net, by DeepLab's names or as the numbers of its kernels.
      boundary: Segmentation: also the boundary IoU.
      trimap: Segmentation: also the mean IoU within so many pixels of a border, for each number.
      em_thresholds: Segmentation: thresholds of the cells' probability, for pixel, Rand and warping error.
      output_stride: Output stride of the backbone, if other than in training.
      crop: Classification, detection: height and width of the net's input.
      resize: Classification: length that the shorter side is brought to before the crop.
      crops: Classification: center or ten.
      pictures: Folder to write the report's table and plots into: the confusion matrix and the reliability diagram
        of a classification, the curves of precision over recall of a detection.
      boxes: Detection, masks in boxes: largest number of boxes that an image may have.
      short_side: Detection: length that the image's shorter side is brought to.
      long_side: Detection: limit of the image's longer side.
      score_threshold: Detection: score that a detection must exceed.
      nms_threshold: Detection: IoU above which the worse of two detections of a class is dropped.
      max_detections: Detection: largest number of detections of an image.
      coco: Detection: also COCO's scores.
      on_bad_boxes: Detection: stop at a box that is empty, inverted or outside its image, or leave it out and count it.
      batch_size: Number of examples a batch, over all devices; the run's own by default.
      parallel: Way to spread a step over devices: jit, pmap, fsdp or spatial.
      spatial: Number of devices that share each image, with `parallel` spatial; None takes those of one host.
      on_bad_record: Stop at a damaged record, or pass it over and count it.
      json: File to write the report to; - is standard output.
    """

    checkpoint: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")] = None
    weights: str | None = None
    as_: Annotated[str | None, tyro.conf.arg(name="as")] = None
    layout: str | None = None
    mean: str | None = None
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
    crops: Literal["center", "ten"] | None = None
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
    spatial: int | None = None
    on_bad_record: str | None = None
    json: str | None = None


def evaluate_checkpoint(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Returns the report of the task for a checkpoint. Settings that are not given are those of the run.

    Raises:
      UserError: A missing or foreign checkpoint, missing data, or options of another task.
    """
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.data.identity import listed
    from cvjax.datasets.registry import said_name
    from cvjax.engine.evaluate import make_evaluator, plain
    from cvjax.engine.parallel import make_strategy
    from cvjax.tasks import load
    from cvjax.tasks.foreign import chosen, is_weights

    source = chosen(arguments.checkpoint, arguments.weights)
    if arguments.data is None and is_weights(source):
        raise ConfigError(f"{source} is weights without a run; name the data to score them on with --data")
    loaded = load.load_for_inference(source, **told(arguments))
    say_whose(loaded, console)
    task = load.with_settings(loaded.task, arguments, data_fields=_DATA, eval_fields=_EVAL)
    task, dataset = load.open_scored(task, arguments.split)
    strategy = make_strategy(arguments.parallel, task.config.eval.batch_size, spatial=arguments.spatial)
    report = make_evaluator(task, loaded.model, dataset, strategy, once=True)(strategy.place_state(loaded.variables))
    where = said_name(dataset.name, task.config.input.manual_dir)
    console.print(task.table(report))
    console.print(
        f"{loaded.place}: {task.headline(report)} on {report['examples']} images of {where} {dataset.split}"
        + (f", {report['skipped']} bad records passed over" if report["skipped"] else ""),
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )
    if task.absent:
        line = f"absent from {where}, and in no mean: {listed(task.absent)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if arguments.pictures is not None:
        place = as_path(arguments.pictures)
        place.mkdir(parents=True, exist_ok=True)
        with written_folder(place) as folder:
            task.draw_report(folder, report)
    scored = {"checkpoint": str(loaded.place), "data": where, "split": dataset.split}
    return plain(report) | scored | ({"absent": list(task.absent)} if task.absent else {})


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "evaluate")
    report = evaluate_checkpoint(arguments, make_console())
    write_json_result(arguments.json, report)


if __name__ == "__main__":
    run_command(main)
