"""The table of commands: `cvjax NAME` runs the function `main` of the module that stands here.

Nothing is imported from here, so that the names are at hand at once. A new command is a module and a row.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Command(NamedTuple):
    """Describes a command.

    Attributes:
      module: Module whose `main(argv)` runs it.
      sentence: Sentence that the list of commands shows.
      examples: Commands that its page of help shows, below its arguments.
    """

    module: str
    sentence: str
    examples: tuple[str, ...] = ()


COMMANDS: Mapping[str, Command] = {
    "train": Command(
        "cvjax.cli.shell.train",
        "Trains an experiment: a preset, and flags that change it.",
        (
            "cvjax train deeplab_voc quick",
            "cvjax train camvid quick --input.manual-dir FOLDER --steps 600",
            "cvjax train deeplab_voc quick --resume",
        ),
    ),
    "evaluate": Command(
        "cvjax.cli.evaluate",
        "Scores a trained run, or somebody's weights, on a data set.",
        (
            "cvjax evaluate runs/deeplab_voc/quick --json report.json",
            "cvjax evaluate --weights resnet50 --data imagenet2012",
        ),
    ),
    "predict": Command(
        "cvjax.cli.predict",
        "Predicts photographs with a trained run or somebody's weights.",
        ("cvjax predict runs/deeplab_voc/quick a.jpg --out predictions", "cvjax predict --weights resnet50 a.jpg"),
    ),
    "convert": Command(
        "cvjax.cli.convert",
        "Writes weights into a file that PyTorch, timm and cvjax read.",
        ("cvjax convert runs/resnet_imagenet/quick mine.safetensors", "cvjax convert resnet50.pth resnet50.npz"),
    ),
    "models": Command(
        "cvjax.cli.models",
        "Lists the models with parameters, multiply-adds, published accuracy and weights.",
        ("cvjax models", "cvjax models resnet* --weights", "cvjax models --task detection --json models.json"),
    ),
    "inspect": Command(
        "cvjax.cli.inspect",
        "Lists a model's layers with shapes, parameters and multiply-adds.",
        (
            "cvjax inspect resnet50 --depth 1",
            "cvjax inspect deeplabv3plus_resnet50 --size 513 --options output_stride=8",
        ),
    ),
    "crf": Command(
        "cvjax.cli.crf",
        "Refines a net's probabilities for a photograph with a dense CRF.",
        ("cvjax crf a.jpg a.npy --crf v2",),
    ),
    "crf-search": Command(
        "cvjax.cli.crf_search",
        "Searches the best dense CRF for a run on a validation split.",
        ("cvjax crf-search runs/deeplab_voc/quick --images 20",),
    ),
    "aot": Command(
        "cvjax.cli.aot",
        "Says what a run needs of chips that are not here.",
        ("cvjax aot resnet_imagenet imagenet --topology v5e:4x4",),
    ),
    "data prepare": Command(
        "cvjax.cli.prepare",
        "Prepares a data set as ArrayRecord files.",
        ("cvjax data prepare voc_segmentation --manual-dir FOLDER", "cvjax data prepare scenes"),
    ),
    "data boxes": Command(
        "cvjax.cli.boxes",
        "Counts and measures the boxes of a data set.",
        ("cvjax data boxes xml_folder_detection --manual-dir FOLDER",),
    ),
    "data propose": Command(
        "cvjax.cli.propose",
        "Proposes boxes for every image of a split, and keeps them.",
        ("cvjax data propose voc_detection --split trainval2007 --mode fast",),
    ),
    "completion": Command(
        "cvjax.cli.shell.completion",
        "Prints what lets bash or zsh complete commands, experiments, presets and flags.",
        ('eval "$(cvjax completion bash)"    # in ~/.bashrc', 'eval "$(cvjax completion zsh)"     # in ~/.zshrc'),
    ),
}
"""Commands by name; a name of two words belongs to a group."""

GROUPS: Mapping[str, str] = {
    "data": "Prepares and measures data sets.",
}
"""Sentence of each group, by the first word of its commands."""


def first_words(commands: Iterable[str] = COMMANDS) -> tuple[str, ...]:
    """Returns the words that may follow `cvjax`, each once, in the table's order."""
    return tuple(dict.fromkeys(name.partition(" ")[0] for name in commands))


def members(group: str) -> dict[str, Command]:
    """Returns the commands of a group by their second word."""
    return {name.partition(" ")[2]: row for name, row in COMMANDS.items() if name.startswith(f"{group} ")}
