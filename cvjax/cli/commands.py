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
    """

    module: str
    sentence: str


COMMANDS: Mapping[str, Command] = {
    "train": Command("cvjax.cli.shell.train", "Trains an experiment: a preset, and flags that change it."),
    "lr": Command("cvjax.cli.training.lr", "Finds a learning rate for an experiment, with a picture."),
    "evaluate": Command("cvjax.cli.evaluate", "Scores a trained run, or somebody's weights, on a data set."),
    "predict": Command("cvjax.cli.predict", "Predicts photographs and videos with a run or somebody's weights."),
    "compare": Command("cvjax.cli.compare", "Puts runs side by side: scores, curves, settings, and single images."),
    "sweep": Command("cvjax.cli.sweeping.sweep", "Searches settings of a run by many runs."),
    "study": Command("cvjax.cli.studying.study", "Lists studies of the field's claims, and runs them."),
    "convert": Command("cvjax.cli.convert", "Writes weights into a file that PyTorch, timm and cvjax read."),
    "models": Command("cvjax.cli.models", "Lists the models with parameters, multiply-adds, accuracy and weights."),
    "inspect": Command("cvjax.cli.inspect", "Lists a model's layers with shapes, parameters and multiply-adds."),
    "crf": Command("cvjax.cli.crf", "Refines a net's probabilities for a photograph with a dense CRF."),
    "crf-search": Command("cvjax.cli.crf_search", "Searches the best dense CRF for a run on a validation split."),
    "aot": Command("cvjax.cli.aot", "Says what a run needs of chips that are not here."),
    "completion": Command("cvjax.cli.shell.completion", "Prints what bash or zsh needs to complete names and flags."),
    "data prepare": Command("cvjax.cli.prepare", "Prepares a data set as ArrayRecord files."),
    "data boxes": Command("cvjax.cli.boxes", "Counts and measures the boxes of a data set."),
    "data look": Command("cvjax.cli.data.look", "Shows examples with their labels, before and after augmentation."),
    "data check": Command(
        "cvjax.cli.data.check", "Counts a data set and reports faults: files, boxes, labels, duplicates."
    ),
    "data doubt": Command("cvjax.cli.data.doubt", "Shows the labels that a trained run finds least likely."),
    "data convert": Command("cvjax.cli.data.convert", "Writes your own data of any format as COCO JSON or YOLO text."),
    "data propose": Command("cvjax.cli.propose", "Proposes boxes for every image of a split, and keeps them."),
}
"""Commands by name; a name of two words belongs to a group."""

GROUPS: Mapping[str, str] = {
    "data": "Looks at data sets, checks, converts and prepares them.",
}
"""Sentence of each group, by the first word of its commands."""


def first_words(commands: Iterable[str] = COMMANDS) -> tuple[str, ...]:
    """Returns the words that may follow `cvjax`, each once, in the table's order."""
    return tuple(dict.fromkeys(name.partition(" ")[0] for name in commands))


def members(group: str) -> dict[str, Command]:
    """Returns the commands of a group by their second word."""
    return {name.partition(" ")[2]: row for name, row in COMMANDS.items() if name.startswith(f"{group} ")}
