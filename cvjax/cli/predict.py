"""`cvjax predict CHECKPOINT IMAGE...` predicts photographs and videos with a trained model."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from cvjax.cli.shell.reading import read
from cvjax.cli.shell.somebodys import say_whose, told
from cvjax.engine.command import run_command, write_json_result
from cvjax.engine.guards.terminal import make_console
from cvjax.errors import ConfigError
from cvjax.storage import AnyPath, as_path, is_folder, is_remote
from cvjax.tasks.prediction.choices import BoxFormat, KeptProbabilities, OnBad
from cvjax.tasks.segmentation.crf_config import CRFFlag

if TYPE_CHECKING:
    from cvjax.tasks.loaded import Loaded
    from cvjax.tasks.prediction.inputs import Input
    from cvjax.tasks.prediction.pieces import BatchPredictor, Views
    from cvjax.tasks.prediction.results import Results
    from cvjax.tasks.prediction.run import Outputs

_OF_TASKS = {
    "classification": ("crops",),
    "detection": ("score", "formats", "coco_file", "whole", "tile", "overlap", "pad_multiple"),
    "segmentation": ("window", "crf", "probabilities", "tile", "overlap", "pad_multiple"),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Predicts photographs and videos with a trained model.

    A segmentation writes for each image NAME_overlay.png, to be looked at, and NAME_mask.png, a palette PNG whose
    pixels are class numbers. A detection writes NAME_overlay.png with its boxes, and NAME_boxes.json with their
    classes, scores and corners. A classification prints the five likeliest classes of each and writes them into
    classes.csv. Of a video it writes NAME_overlay.mp4, and masks or boxes of its frames into NAME_frames. index.html
    shows all results.

    Attributes:
      checkpoint: Work folder of a run (its best checkpoint is taken), folder of one checkpoint, or what `weights`
        takes. With `weights` all words are images.
      weights: Somebody's weights instead of a checkpoint: a file, such as a .caffemodel or .pth, or a name that
        `load_pretrained` knows, such as resnet50.imagenet1k_v1.
      as_: Name of the model of a file's weights, where the file leaves it open.
      layout: Layout of a file's weights, where the file leaves it open.
      mean: File with the mean image (.binaryproto) of the weights of a net of Caffe's.
      images: Photographs of any size and any common format, videos, folders of them with their subfolders, globs in
        quotes, and lists (.txt) with a path in each line.
      out: Folder for the results.
      json: File to write a report of all results to.
      page: Write index.html, a sheet of all results.
      on_bad: Stop at a file that cannot be read, or pass it over and count it.
      batch_size: Number of images of up to 640x640 pixels that the net sees at once; larger ones are fewer.
      pad_multiple: Segmentation, detection: sides of padded images are multiples of this number of pixels; by default
        64 and 32, as evaluations pad. Each padded size compiles once, so a larger number waits less for compilation.
      every: Predict one of so many frames of a video.
      scales: Image scales whose results are joined.
      flip: Join the results of the mirrored image too.
      tile: Segmentation, detection: longest side in pixels of overlapping tiles that larger images are cut into; by
        default 2048 for segmentations, and none for detections.
      overlap: Segmentation, detection: number of pixels that neighboring tiles share; a quarter of a tile, at most 256,
        by default.
      whole: Detection: with tiles, look at the whole image too, for objects that are larger than a tile.
      window: Segmentation: height and width of a sliding window; the whole image by default.
      crf: Segmentation: a dense CRF after the net, by DeepLab's names or as the numbers of its kernels.
      probabilities: Segmentation: also write NAME_probabilities.npz, with the array `probabilities` [H, W, C] as
        float16, or as uint8 in units of 1/255.
      output_stride: Output stride of the backbone, if other than in training.
      crops: Classification: center or ten; the run's own by default.
      score: Detection: boxes with a lower score are neither drawn nor written; by default 0.5, 0.2 for YOLO, and 0 for
        scores of support vector machines (R-CNN, SPPnet), which may be any number. COCO's results hold all boxes by
        default.
      formats: Detection: json for NAME_boxes.json, coco for coco_results.json and its ids in coco_images.json, yolo for
        labels/NAME.txt with a score at the end of each line.
      coco_file: Detection: file of annotations in COCO's format, whose ids of images and categories the results have.
        By default images have the number at the end of their names, and categories count from 1 on.
    """

    checkpoint: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")] = None
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")] = ()
    weights: str | None = None
    as_: Annotated[str | None, tyro.conf.arg(name="as")] = None
    layout: str | None = None
    mean: str | None = None
    out: str = "predictions"
    json: str | None = None
    page: bool = True
    on_bad: OnBad = "error"
    batch_size: int = 8
    pad_multiple: int | None = None
    every: int = 1
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tile: int | None = None
    overlap: int | None = None
    whole: bool = True
    window: tuple[int, int] | None = None
    crf: CRFFlag = None
    probabilities: KeptProbabilities | None = None
    output_stride: int | None = None
    crops: Literal["center", "ten"] | None = None
    score: float | None = None
    formats: tuple[BoxFormat, ...] = ("json",)
    coco_file: str | None = None


def predict_files(arguments: Arguments, console: Console | None = None) -> list[AnyPath]:
    """Predicts every image and video, and writes the results.

    Args:
      arguments: Arguments as on the command line.
      console: Console for one line an image; None prints nothing.

    Returns:
      Files written of each image or video in turn, such as overlay, and mask or boxes; an empty list for images that
      are classified, whose table is about all.

    Raises:
      UserError: A missing or damaged checkpoint or image, or a folder that cannot be written.
    """
    return _predict(arguments, console).files


def _predict(arguments: Arguments, console: Console | None) -> "Outputs":
    # Late, as in every command: --help and a refusal of arguments need neither JAX nor what it runs.
    from cvjax.tasks import load
    from cvjax.tasks.prediction.inputs import find_inputs
    from cvjax.tasks.prediction.pieces import Views
    from cvjax.tasks.prediction.run import Run
    from cvjax.tasks.prediction.sheet import FILE as SHEET
    from cvjax.tasks.prediction.stream import Stream

    # Before the checkpoint, which takes long: a mistyped path should not cost a minute.
    source, words = _model_and_images(arguments)
    out = as_path(arguments.out)
    inputs = find_inputs(words, out)
    _check_targets(inputs, out)
    views = Views(arguments.scales, arguments.flip, arguments.tile, arguments.overlap, arguments.whole)
    if arguments.pad_multiple is not None and arguments.pad_multiple < 1:
        raise ConfigError(f"--pad-multiple is {arguments.pad_multiple}; give 1 pixel or more")
    loaded = load.load_for_inference(source, **told(arguments))
    say_whose(loaded, console)
    predictor, results = _of_task(loaded, arguments, views, source)

    def tell(line: str) -> None:
        if console is not None:
            console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    stream = Stream(predictor, arguments.batch_size, arguments.on_bad)
    run = Run(stream, results, out, skips=arguments.on_bad == "skip", every=arguments.every, tell=tell)
    done = run.over(inputs, title=f"Predictions of {source}", page=arguments.page)
    counts = done.report["counts"]
    if counts["passed_over"]:
        tell(f"{counts['passed_over']} of {len(inputs)} files passed over")
    if arguments.page:
        tell(f"all results: {out / SHEET}")
    whose = {"checkpoint": source, "task": loaded.task.name, "out": str(out)}
    write_json_result(arguments.json, whose | done.report)
    return done


def _of_task(loaded: "Loaded", arguments: Arguments, views: "Views", source: str) -> tuple["BatchPredictor", "Results"]:
    """Returns the predictor of a checkpoint's task, and what writes its results."""
    from cvjax.models.detection.detector import display_threshold
    from cvjax.tasks.classification.task import Classification
    from cvjax.tasks.detection.task import Detection
    from cvjax.tasks.object_masks.task import ObjectMasks
    from cvjax.tasks.prediction.box_results import BoxResults
    from cvjax.tasks.prediction.coco_ids import CocoIds
    from cvjax.tasks.prediction.map_results import MapResults
    from cvjax.tasks.segmentation.task import Segmentation

    task, net, multiple = loaded.task, (loaded.model, loaded.variables), arguments.pad_multiple
    _check_settings(arguments, task.name)
    if isinstance(task, Classification):
        if arguments.crops is not None:
            task = task.reconfigured(eval=dataclasses.replace(task.config.eval, crops=arguments.crops))
        return task.batch_predictor(*net, views), task.results()
    if isinstance(task, Detection):
        least = display_threshold(loaded.model) if arguments.score is None else arguments.score
        if not math.isfinite(least):
            raise ConfigError(f"--score is {arguments.score}; give a number")
        ids = arguments.coco_file and CocoIds.of_file(arguments.coco_file, task.class_names)
        results = BoxResults(task.class_names, least, arguments.formats, all_least=arguments.score, ids=ids or None)
        return task.batch_predictor(*net, views, multiple=multiple), results
    if isinstance(task, ObjectMasks):
        raise ConfigError(f"{source} draws masks inside given boxes; photographs have none")
    if not isinstance(task, Segmentation):
        return task.batch_predictor(*net, views, multiple=multiple), task.results()
    task = task.reconfigured(eval=dataclasses.replace(task.config.eval, window=arguments.window, crf=arguments.crf))
    kept = arguments.probabilities
    predictor = task.batch_predictor(*net, views, multiple=multiple, kept=kept)
    return predictor, MapResults(task.class_names, kept is not None)


def _check_settings(arguments: Arguments, task: str) -> None:
    """Raises ConfigError where a setting of other tasks is given, which would change nothing."""
    mine = _OF_TASKS.get(task, ())
    others = {name for names in _OF_TASKS.values() for name in names} - set(mine)
    defaults: Any = Arguments()
    given = sorted(name for name in others if getattr(arguments, name) != getattr(defaults, name))
    if given and mine:
        flag = given[0].replace("_", "-")
        raise ConfigError(f"--{flag} is of no use to a {task}; leave it out")


def _model_and_images(arguments: Arguments) -> tuple[str, tuple[str, ...]]:
    """Returns what names the model, and the images; with `--weights` the first word is an image too."""
    from cvjax.tasks.foreign import chosen

    first, images = arguments.checkpoint, arguments.images
    if arguments.weights is None or first is None or is_folder(as_path(first) / "checkpoints"):
        return chosen(first, arguments.weights), images
    return chosen(None, arguments.weights), (first, *images)


def _check_targets(inputs: "Sequence[Input]", out: AnyPath) -> None:
    """Raises ConfigError where a result would be written over an image that was given."""
    given = {_place(found.path) for found in inputs}
    for found in inputs:
        for kind in ("_overlay.mp4",) if found.is_video else ("_overlay.png", "_mask.png"):
            path = out / f"{found.name}{kind}"
            if _place(path) in given:
                raise ConfigError(f"the result would replace the image {path}; choose another folder with --out")


def _place(path: AnyPath) -> str:
    return str(path if is_remote(path) else path.resolve())


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "predict")
    predict_files(arguments, make_console())


if __name__ == "__main__":
    run_command(main)
