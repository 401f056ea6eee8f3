"""Compilations ahead of time that cannot be: experiments, chips, layouts and data that nobody knows."""

import pathlib

from bad_inputs import BadInput


def _nothing(folder: pathlib.Path) -> None:
    del folder


_AOT = "cvjax.cli.aot"

ROWS = [
    BadInput(
        "a chip that nobody knows, to compile for",
        f"{_AOT} deeplab_voc quick --topology v5x:2x2",
        _nothing,
        ("v5x:2x2", "v5e:2x2"),
    ),
    BadInput(
        "a topology without the numbers of chips",
        f"{_AOT} deeplab_voc quick --topology v5e",
        _nothing,
        ("--topology v5e", "v5e:2x2"),
    ),
    BadInput(
        "a topology with an axis too many",
        f"{_AOT} deeplab_voc quick --topology v5e:2x2x2",
        _nothing,
        ("v5e:2x2x2", "2 axes", "v5e:16x16"),
    ),
    BadInput(
        "an experiment that does not exist, to compile",
        f"{_AOT} resnet_imagnet imagenet --topology v5e:2x2",
        _nothing,
        ("resnet_imagnet", "resnet_imagenet"),
    ),
    BadInput(
        "a layout that does not exist",
        f"{_AOT} deeplab_voc quick --topology v5e:2x2 --layout rows",
        _nothing,
        ("rows", "jit, fsdp, spatial"),
    ),
    BadInput(
        "a batch of no image on each chip",
        f"{_AOT} deeplab_voc quick --topology v5e:2x2 --batch-per-chip 0",
        _nothing,
        ("--batch-per-chip", "0"),
    ),
    BadInput(
        "a user's own folder to compile for, without its number of classes",
        f"{_AOT} deeplab_voc quick --topology v5e:2x2 --data image_folder_segmentation",
        _nothing,
        ("image_folder_segmentation", "--num-classes"),
    ),
    BadInput(
        "a run of four nets to compile as one step",
        f"{_AOT} faster_rcnn_voc four_steps --topology v5e:2x2",
        _nothing,
        ("four_steps", "--no-four-steps"),
    ),
]
