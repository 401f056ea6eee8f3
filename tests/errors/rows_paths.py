"""Folders and names that are not there."""

import pathlib

import numpy as np
from bad_inputs import BadInput


def _nothing(folder: pathlib.Path) -> None:
    """Leaves the folder empty."""


def _config_of_text(folder: pathlib.Path) -> None:
    (folder / "config.json").write_text("model: resnet50\n")


def _darknet_of_another_net(folder: pathlib.Path) -> None:
    (folder / "yolov4.weights").write_bytes(np.array([0, 2, 5, 0, 0], "<i4").tobytes() + bytes(4 * 64))


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
        "a darknet file of a net that we don't have",
        "cvjax.cli.convert DATA/yolov4.weights DATA/yolov4.safetensors",
        _darknet_of_another_net,
        ("DATA/yolov4.weights", "nearest"),
    ),
    BadInput(
        "a darknet file as the weights of another net",
        "cvjax.cli.convert DATA/yolov4.weights DATA/net.safetensors --as resnet50",
        _darknet_of_another_net,
        ("DATA/yolov4.weights", "--as"),
    ),
    BadInput(
        "a configuration that is no JSON",
        "experiments.deeplab_voc --config DATA/config.json --workdir DATA/run",
        _config_of_text,
        ("DATA/config.json",),
    ),
]
