"""`cvjax predict CHECKPOINT IMAGE...` predicts photographs of any size with a trained model."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from cvjax.cli.shell.reading import read
from cvjax.cli.shell.somebodys import say_whose, told
from cvjax.data.photos import read_photo
from cvjax.engine.command import run_command
from cvjax.engine.guards.terminal import make_console
from cvjax.engine.run import write_report
from cvjax.errors import ConfigError, DataError
from cvjax.models.detection.detector import display_threshold
from cvjax.ops.geometry import pair
from cvjax.storage import AnyPath, as_path, is_folder
from cvjax.tasks import load
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.detection.pictures import at_least
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.foreign import chosen
from cvjax.tasks.segmentation.config import CRFFlag
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.visual.boxes import Boxes, draw_boxes
from cvjax.visual.canvas import save_mask, save_png
from cvjax.visual.overlay import draw_overlay

_SHOWN = 5
"""Number of classes that a classification names for each image."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Predicts photographs with a trained model.

    A segmentation writes for each IMAGE NAME_overlay.png, to be looked at, and NAME_mask.png, a palette PNG whose
    pixels are class numbers. A detection writes NAME_overlay.png with its boxes, and NAME_boxes.json with their
    classes, scores and corners. A classification prints the five likeliest classes of each.

    Attributes:
      checkpoint: Work folder of a run (its best checkpoint is taken), folder of one checkpoint, or what `weights`
        takes. With `weights` all words are images.
      weights: Somebody's weights instead of a checkpoint: a file, such as a .caffemodel or .pth, or a name that
        `load_pretrained` knows, such as resnet50.imagenet1k_v1.
      as_: Name of the model of a file's weights, where the file leaves it open.
      layout: Layout of a file's weights, where the file leaves it open.
      mean: File with the mean image (.binaryproto) of the weights of a net of Caffe's.
      images: Photographs of any size and any common format.
      out: Segmentation, detection: folder for the results.
      scales: Segmentation: image scales whose probabilities are averaged.
      flip: Segmentation: average with the mirrored image too.
      window: Segmentation: height and width of a sliding window; the whole image by default.
      crf: Segmentation: a dense CRF after the net, by DeepLab's names or as the numbers of its kernels.
      output_stride: Output stride of the backbone, if other than in training.
      crops: Classification: center or ten; the run's own by default.
      score: Detection: boxes with a lower score are neither drawn nor written; by default 0.5, 0.2 for YOLO, and 0 for
        scores of support vector machines (R-CNN, SPPnet), which may be any number.
    """

    checkpoint: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")] = None
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")] = ()
    weights: str | None = None
    as_: Annotated[str | None, tyro.conf.arg(name="as")] = None
    layout: str | None = None
    mean: str | None = None
    out: str = "predictions"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    crf: CRFFlag = None
    output_stride: int | None = None
    crops: Literal["center", "ten"] | None = None
    score: float | None = None


def predict_files(arguments: Arguments, console: Console | None = None) -> list[AnyPath]:
    """Predicts every image; writes the overlay and mask of a segmentation, and the overlay and boxes of a detection.

    Args:
      arguments: Arguments as on the command line.
      console: Console for one line an image; None prints nothing.

    Returns:
      Files written: overlay, and mask or boxes, of each image in turn; an empty list for a classification.

    Raises:
      UserError: A missing or damaged checkpoint or image, names that collide, or a folder that cannot be written.
    """
    # Before the checkpoint, which takes long: a mistyped path should not cost a minute.
    source, images = _model_and_images(arguments)
    sources = [as_path(image) for image in images]
    targets = _targets(sources, as_path(arguments.out))
    loaded = load.load_for_inference(source, **told(arguments))
    say_whose(loaded, console)
    task = loaded.task
    if isinstance(task, Classification):
        _print_classes(loaded, task, sources, arguments.crops, console or Console(quiet=True))
        return []
    if isinstance(task, Detection):
        return _detect(loaded, task, sources, targets, arguments.score, console or Console(quiet=True))
    if not isinstance(task, Segmentation):
        raise ConfigError(f"{source} draws masks inside given boxes; photographs have none")
    scoring = dataclasses.replace(
        task.config.eval,
        scales=arguments.scales,
        flip=arguments.flip,
        window=arguments.window,
        crf=arguments.crf,
    )
    predict = task.reconfigured(eval=scoring).predictor(loaded.model, loaded.variables)
    for source, (overlay, mask, _) in zip(sources, targets):
        image = read_photo(source)
        labels = predict(image)
        save_png(overlay, draw_overlay(image, labels, task.class_names))
        save_mask(mask, labels)
        if console is not None:
            height, width = labels.shape
            line = f"{source} ({width}x{height}): {_shares(labels, task.class_names)} -> {overlay}"
            console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
    return [path for overlay, mask, _ in targets for path in (overlay, mask)]


def _model_and_images(arguments: Arguments) -> tuple[str, tuple[str, ...]]:
    """Returns what names the model, and the images; with `--weights` the first word is an image too."""
    first, images = arguments.checkpoint, arguments.images
    if arguments.weights is None or first is None or is_folder(first):
        return chosen(first, arguments.weights), images
    return chosen(None, arguments.weights), (first, *images)


def boxes_json(found: Boxes, size: tuple[int, int], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns detections as JSON holds them: the class, score and box (x1, y1, x2, y2) of each in pixels, best first.

    Args:
      found: Boxes with scores.
      size: Height and width of the image.
      class_names: Names of the classes by label.
    """
    assert found.scores is not None
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist())
    boxes = [{"class": class_names[label], "label": label, "score": score, "box": box} for label, score, box in rows]
    return {"height": size[0], "width": size[1], "boxes": boxes}


def _detect(
    loaded: load.Loaded,
    task: Detection,
    sources: Sequence[AnyPath],
    targets: Sequence[tuple[AnyPath, ...]],
    score: float | None,
    console: Console,
) -> list[AnyPath]:
    """Writes two files of each image, its boxes drawn and as JSON, and returns the paths of all files."""
    least = display_threshold(loaded.model) if score is None else score
    if not math.isfinite(least):
        raise ConfigError(f"--score is {score}; give a number")
    find = task.predictor(loaded.model, loaded.variables)
    written = []
    for source, (overlay, _, boxes) in zip(sources, targets):
        image = read_photo(source)
        found = at_least(find(image), least)
        save_png(overlay, draw_boxes(image, found, task.class_names))
        write_report(boxes, boxes_json(found, pair(image.shape[:2]), task.class_names))
        counts = np.bincount(found.labels, minlength=task.num_classes)
        named = ", ".join(f"{task.class_names[label]} {counts[label]}" for label in np.flatnonzero(counts))
        console.print(
            f"{source}: {named or 'nothing'} -> {overlay}", markup=False, emoji=False, highlight=False, soft_wrap=True
        )
        written += [overlay, boxes]
    return written


def _print_classes(
    loaded: load.Loaded,
    task: Classification,
    sources: Sequence[AnyPath],
    crops: Literal["center", "ten"] | None,
    console: Console,
) -> None:
    """Prints one line an image: its likeliest classes with their probabilities."""
    if crops is not None:
        task = task.reconfigured(eval=dataclasses.replace(task.config.eval, crops=crops))
    classify = task.predictor(loaded.model, loaded.variables)
    for source in sources:
        probabilities = classify(read_photo(source))
        order = np.argsort(-probabilities, kind="stable")[:_SHOWN]
        classes = ", ".join(f"{task.class_names[label]} {probabilities[label]:.1%}" for label in order)
        console.print(f"{source}: {classes}", markup=False, emoji=False, highlight=False, soft_wrap=True)


def _targets(sources: Sequence[AnyPath], out: AnyPath) -> list[tuple[AnyPath, ...]]:
    """Returns the paths of overlay, mask and boxes of each image.

    It checks that no file would be written twice, or over an image that was given.
    """
    if not sources:
        raise ConfigError("no image was given; name at least one after the checkpoint")
    by_stem: dict[str, AnyPath] = {}
    for source in sources:
        if source.is_dir():
            raise DataError(f"{source} is a folder; give its image files, as {source / '*.jpg'}")
        if not source.is_file():
            raise DataError(f"there is no image {source}; check the path")
        other = by_stem.setdefault(source.stem, source)
        if other is not source:
            raise ConfigError(
                f"{other} and {source} would both become {source.stem}_overlay.png; predict one at a time"
            )
    kinds = ("overlay.png", "mask.png", "boxes.json")
    targets = [tuple(out / f"{source.stem}_{kind}" for kind in kinds) for source in sources]
    given = {source.resolve() for source in sources}
    for path in (path for paths in targets for path in paths):
        if path.resolve() in given:
            raise ConfigError(f"the result would replace the image {path}; choose another folder with --out")
    return targets


def _shares(labels: np.ndarray, class_names: Sequence[str]) -> str:
    """Lists the classes that occur with their share of the pixels, the largest first."""
    counts = np.bincount(labels.ravel(), minlength=len(class_names))
    order = [label for label in np.argsort(-counts, kind="stable") if counts[label]]
    return ", ".join(f"{class_names[label]} {counts[label] / labels.size:.1%}" for label in order)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. `argv` is the process's own by default."""
    arguments = read(Arguments, argv, "predict")
    predict_files(arguments, make_console())


if __name__ == "__main__":
    run_command(main)
