"""Classes, files and lengths that are not those of the run."""

import functools
import json
import pathlib
import shlex
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from bad_inputs import BadInput
from commands import configure
from saved_run import drawn_run
from tiny_sets import box_xml

from experiments import deeplab_voc, resnet_imagenet, yolo_voc

_MASKS = (
    "quick --data image_folder_segmentation --model.name unet --model.width 2 --model.depth 1 --input.crop 32 32"
    " --batch-size 8 --eval.batch-size 8 --input.workers 0 --steps 9 --input.manual-dir DATA/own --workdir DATA/run"
)
_LABELS = (
    "quick --data image_folder_classification --model.width 4 --model.stage-sizes 1 1 1 1 --input.crop 32 32"
    " --batch-size 8 --eval.batch-size 8 --input.workers 0 --input.manual-dir DATA/own --workdir DATA/run"
)
_BOXES = (
    "quick --data xml_folder_detection --model.grid 2 2 --model.hidden 4 --input.crop 32 32 --eval.crop 32 32"
    " --batch-size 8 --eval.batch-size 8 --input.workers 0 --input.manual-dir DATA/own --workdir DATA/run"
)
_EVALUATE = "cvjax.cli.evaluate DATA/run --manual-dir DATA/new"
_IMAGE = np.zeros((32, 32, 3), np.uint8)


def _masks(folder: pathlib.Path, *names: str, number: int = 1) -> None:
    """Images and masks with these classes; the pixels of the masks are of the first one or of this number."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 16:] = number
    for split in ("train", "val"):
        for kind, array in (("images", _IMAGE), ("masks", mask)):
            (folder / split / kind).mkdir(parents=True)
            cv2.imwrite(str(folder / split / kind / "a.png"), array)
    (folder / "classes.txt").write_text("\n".join(names) + "\n")


def _labels(folder: pathlib.Path, *names: str) -> None:
    for split in ("train", "val"):
        for name in names:
            (folder / split / name).mkdir(parents=True)
            cv2.imwrite(str(folder / split / name / "a.png"), _IMAGE)


def _boxes(folder: pathlib.Path, *names: str) -> None:
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        cv2.imwrite(str(folder / split / "a.png"), _IMAGE)
        boxes = [(name, 2, 2, 20, 20) for name in names]
        (folder / split / "a.xml").write_bytes(box_xml(boxes, size=(32, 32)))


_KINDS = {
    _masks: (deeplab_voc, _MASKS),
    _labels: (resnet_imagenet, _LABELS),
    _boxes: (yolo_voc, _BOXES),
}


def _run(folder: pathlib.Path, draw: Callable[..., None], names: Sequence[str]) -> None:
    """Data in folder/own and a run on them in folder/run."""
    draw(folder / "own", *names)
    experiment, flags = _KINDS[draw]
    config = configure(experiment, shlex.split(flags.replace("DATA", str(folder))))
    drawn_run(config, folder / "run")


def _and_new(draw: Callable[..., None], names: str, new: str, **options: int) -> Callable[[pathlib.Path], None]:
    """Returns the function that makes a run, and other data in folder/new; classes are words."""

    def make(folder: pathlib.Path) -> None:
        _run(folder, draw, names.split())
        draw(folder / "new", *new.split(), **options)

    return make


def _then(change: Callable[[pathlib.Path], object]) -> Callable[[pathlib.Path], None]:
    """Returns the function that makes a run and then changes its data."""

    def make(folder: pathlib.Path) -> None:
        _run(folder, _masks, ("ground", "water"))
        change(folder / "own")

    return make


def _exchange(own: pathlib.Path) -> None:
    (own / "classes.txt").write_text("water\nground\n")


def _add(own: pathlib.Path) -> None:
    for kind in ("images", "masks"):
        file = own / "train" / kind / "a.png"
        file.with_stem("b").write_bytes(file.read_bytes())


def _edit(own: pathlib.Path) -> None:
    cv2.imwrite(str(own / "train" / "masks" / "a.png"), np.eye(32, dtype=np.uint8))


def _coco(folder: pathlib.Path, names: Sequence[str], held_out: Sequence[str]) -> None:
    """COCO's files with these categories for training and for evaluation."""
    (folder / "annotations").mkdir()
    for split, categories in (("train", names), ("val", held_out)):
        (folder / split).mkdir()
        cv2.imwrite(str(folder / split / "1.png"), _IMAGE)
        content = {
            "images": [{"id": 1, "file_name": "1.png", "height": 32, "width": 32}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 20, 20], "iscrowd": 0}],
            "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 1)],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


_TRAIN_COCO = (
    f"experiments.yolo_voc {_BOXES.replace('xml_folder_detection', 'coco').replace('DATA/own', 'DATA')}"
    " --input.train-split train --input.eval-split val"
)
_RESUME = f"experiments.deeplab_voc {_MASKS} --resume --steps 12"

ROWS = [
    BadInput(
        "masks with a class that the segmentation net does not know, to evaluate it on",
        _EVALUATE,
        _and_new(_masks, "ground water", "water river"),
        ("image_folder_segmentation val", "river", "ground, water"),
    ),
    BadInput(
        "masks with as many classes as the net has, all with other names",
        _EVALUATE,
        _and_new(_masks, "ground water", "soil river"),
        ("soil, river", "ground, water"),
    ),
    BadInput(
        "a class name twice in the data to evaluate on",
        _EVALUATE,
        _and_new(_masks, "ground water", "water water"),
        ("classes.txt", "water", "a name of its own"),
    ),
    BadInput(
        "masks with a number that is a class of the net, and none of the data's own",
        _EVALUATE,
        _and_new(_masks, "ground water", "water", number=1),
        ("a.png", "label 1", "water"),
    ),
    BadInput(
        "a class that the net does not know, in the data to search a CRF on",
        "cvjax.cli.crf_search DATA/run --manual-dir DATA/new",
        _and_new(_masks, "ground water", "water river"),
        ("river", "ground, water"),
    ),
    BadInput(
        "a folder of a class that the classifier does not know",
        _EVALUATE,
        _and_new(_labels, "blue green red", "amber blue green"),
        ("amber", "blue, green, red"),
    ),
    BadInput(
        "an XML with a class that the detector does not know",
        _EVALUATE,
        _and_new(_boxes, "cat dog", "cat fish"),
        ("fish", "cat, dog"),
    ),
    BadInput(
        "COCO's annotations of val with a category that those of train lack",
        _TRAIN_COCO,
        functools.partial(_coco, names=("cat", "dog"), held_out=("cat", "fish")),
        ("coco val", "fish", "cat, dog"),
    ),
    BadInput(
        "a category's name twice in COCO's annotations",
        _TRAIN_COCO,
        functools.partial(_coco, names=("cat", "cat"), held_out=("cat", "cat")),
        ("instances_train.json", "the same name cat"),
    ),
    BadInput(
        "the classes exchanged in classes.txt, to resume a run",
        _RESUME,
        _then(_exchange),
        ("DATA/run", "ground, water", "water, ground", "--workdir"),
    ),
    BadInput(
        "an image more than before, to resume a run", _RESUME, _then(_add), ("DATA/run", "examples was 1 and is 2")
    ),
    BadInput("a mask changed since then, to resume a run", _RESUME, _then(_edit), ("DATA/run", "files", "--workdir")),
]
