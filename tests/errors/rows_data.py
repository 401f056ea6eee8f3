"""Looks at data, checks of them, and labels in doubt: data, experiments, runs and limits that are not there."""

import pathlib

from bad_inputs import BadInput
from tiny_sets import box_xml, class_tree, encoded, photo, write_tree

_LOOK, _CHECK, _DOUBT = (f"cvjax.cli.data.{name}" for name in ("look", "check", "doubt"))
_WRITE = "--html DATA/page.html"


def _nothing(folder: pathlib.Path) -> None:
    del folder


def _pets(folder: pathlib.Path) -> None:
    tree = {f"{n}.jpg": encoded(photo(n), "JPEG") for n in range(2)}
    write_tree(folder, tree | {f"{n}.xml": box_xml([("cat", 3, 4, 20, 18)]) for n in range(2)})


def _labeled(folder: pathlib.Path) -> None:
    write_tree(folder, class_tree("train/", 1) | class_tree("val/", 1))


ROWS = [
    BadInput("data that are neither a name nor a path, to check", f"{_CHECK} scene", _nothing, ("scene", "scenes")),
    BadInput(
        "a limit of nearly equal pictures that is none",
        f"{_CHECK} scenes --distance 65",
        _nothing,
        ("--distance is 65", "0 to 64"),
    ),
    BadInput(
        "pixel values of masks for data without masks of one's own",
        f"{_CHECK} camvid --mask-values 0 255",
        _nothing,
        ("--mask-values", "camvid"),
    ),
    BadInput(
        "a split that is not there, to check",
        f"{_CHECK} image_folder_classification --manual-dir DATA --splits other",
        _labeled,
        ("DATA", "other", "train, val"),
    ),
    BadInput(
        "an experiment that does not exist, to look at its augmentation",
        f"{_LOOK} DATA --like yolo/quick {_WRITE}",
        _pets,
        ("yolo", "yolo_voc"),
    ),
    BadInput(
        "a preset that does not exist, to look at its augmentation",
        f"{_LOOK} DATA --like yolo_voc/quik {_WRITE}",
        _pets,
        ("yolo_voc", "quik", "quick"),
    ),
    BadInput(
        "a folder that is no run, to look at its augmentation",
        f"{_LOOK} DATA --like DATA {_WRITE}",
        _pets,
        ("DATA/config.json", "a run"),
    ),
    BadInput(
        "the augmentation of another task than the data are for",
        f"{_LOOK} DATA --target boxes --like deeplab_voc/quick {_WRITE}",
        _pets,
        ("deeplab_voc/quick", "mask", "boxes", "--like"),
    ),
    BadInput(
        "a class to look at that the data do not have",
        f"{_LOOK} DATA --classes cow --variants 0 {_WRITE}",
        _pets,
        ("cow", "cat"),
    ),
    BadInput(
        "no example to look at",
        f"{_LOOK} DATA --count 0 {_WRITE}",
        _pets,
        ("--count is 0",),
    ),
    BadInput(
        "no label to doubt",
        f"{_DOUBT} DATA/run --count 0 {_WRITE}",
        _nothing,
        ("--count is 0",),
    ),
    BadInput(
        "a run that does not exist, whose labels are in doubt",
        f"{_DOUBT} DATA/run {_WRITE}",
        _nothing,
        ("DATA/run",),
    ),
]
