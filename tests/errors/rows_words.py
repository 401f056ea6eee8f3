"""Command lines with words that no command knows."""

import pathlib

from bad_inputs import BadInput


def _nothing(folder: pathlib.Path) -> None:
    del folder


_CVJAX = "cvjax.__main__"

ROWS = [
    BadInput("a command that does not exist", f"{_CVJAX} trian deeplab_voc", _nothing, ("trian", "train", "--help")),
    BadInput("a command of data that does not exist", f"{_CVJAX} data prepar", _nothing, ("prepar", "prepare")),
    BadInput("a command without its group", f"{_CVJAX} prepare scenes", _nothing, ("data prepare",)),
    BadInput(
        "an experiment that does not exist", f"{_CVJAX} train camvit", _nothing, ("camvit", "camvid", "cvjax train")
    ),
    BadInput("no name of an experiment", f"{_CVJAX} train --steps 3", _nothing, ("--steps", "cvjax train")),
    BadInput("a shell that is not completed", f"{_CVJAX} completion fish", _nothing, ("fish", "--help")),
    BadInput(
        "a model that nobody has", f"{_CVJAX} models resnett50", _nothing, ("resnett50", "resnet50", "cvjax models")
    ),
    BadInput(
        "a flag that does not exist",
        "cvjax.cli.evaluate DATA/run --batch-sise 8",
        _nothing,
        ("--batch-sise", "--batch-size", "cvjax evaluate --help"),
    ),
    BadInput(
        "a word too many", "cvjax.cli.evaluate DATA/run DATA/other", _nothing, ("DATA/other", "one word too many")
    ),
    BadInput(
        "a flag whose value is no number", "cvjax.cli.evaluate DATA/run --batch-size all", _nothing, ("INT", "all")
    ),
    BadInput(
        "a flag whose value is none of its own",
        "cvjax.cli.evaluate DATA/run --parallel jet",
        _nothing,
        ("--parallel", "jet", "jit, pmap, fsdp, spatial"),
    ),
    BadInput("an argument that is missing", "cvjax.cli.convert DATA/run", _nothing, ("TARGET", "cvjax convert --help")),
]
