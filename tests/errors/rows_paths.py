"""Folders and names that are not there."""

import pathlib

from bad_inputs import BadInput


def _nothing(folder: pathlib.Path) -> None:
    """Leaves the folder empty."""


def _config_of_text(folder: pathlib.Path) -> None:
    (folder / "config.json").write_text("model: resnet50\n")


ROWS = [
    BadInput(
        "a folder without images, to train a segmentation net on",
        "experiments.deeplab_voc quick --data image_folder_segmentation --input.manual-dir DATA --workdir DATA/run",
        _nothing,
        ("DATA", "train/images"),
    ),
    BadInput(
        "an empty folder as the run to evaluate",
        "cvjax.cli.evaluate DATA",
        _nothing,
        ("DATA",),
    ),
    BadInput(
        "neither a run nor weights to evaluate",
        "cvjax.cli.evaluate --data scenes",
        _nothing,
        ("--weights",),
    ),
    BadInput(
        "a run and weights to evaluate",
        "cvjax.cli.evaluate DATA --weights DATA/resnet50.pth --data scenes",
        _nothing,
        ("DATA", "--weights"),
    ),
    BadInput(
        "the folder of a run as weights",
        "cvjax.cli.evaluate --weights DATA --data scenes",
        _nothing,
        ("DATA", "--weights"),
    ),
    BadInput(
        "weights to evaluate that are not there",
        "cvjax.cli.evaluate --weights DATA/resnet50.pth --data scenes",
        _nothing,
        ("DATA/resnet50.pth",),
    ),
    BadInput(
        "a configuration that is no JSON",
        "experiments.deeplab_voc --config DATA/config.json --workdir DATA/run",
        _config_of_text,
        ("DATA/config.json",),
    ),
]
