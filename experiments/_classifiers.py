"""What the experiments with classifiers share: configurations of the data sets, and the command line."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cvjax.cli._main import run as run_command
from cvjax.datasets.tfds_sets import find_prepared
from cvjax.engine.commandline import configure_run
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from cvjax.tasks.classification.kind import run

Config = TypeVar("Config", bound=ClassificationConfig)

IMAGENET_IMAGES = 1_281_167

QUICK = {
    "data": "scenes",
    "batch_size": 32,
    "label_smoothing": 0.1,
    "log_every": 20,
    "eval_every": 10_000,
    "checkpoint_every": 10_000,
    "input": ClassificationData(crop=(96, 96), min_area=0.5),
    "eval": ClassificationEval(batch_size=30, resize=96),
}
"""Fields of every `quick` preset: the embedded scenes at 96 pixels."""

CIFAR10 = {
    "data": "cifar10",
    "batch_size": 128,
    "epochs": 164.0,  # the paper's 64,000 steps
    "log_every": 50,
    "eval_every": 1955,
    "checkpoint_every": 1955,
    "input": ClassificationData(crop=(32, 32), cut="padded", workers=2),
    "eval": ClassificationEval(batch_size=200),
}
"""Fields of every `cifar10` preset: crops of 32 pixels out of a border of 4, flips."""

CIFAR10_ENLARGED = CIFAR10 | {
    "epochs": 100.0,
    "input": ClassificationData(crop=(64, 64), cut="padded", padding=8, workers=2),
}
"""The same for nets whose strides are made for large images: these are enlarged to 64 pixels."""


def imagenet_steps(epochs: float, batch_size: int) -> int:
    """Steps in so many passes over ImageNet's training split."""
    return round(epochs * IMAGENET_IMAGES / batch_size)


def configure_classifier(
    presets: Mapping[str, Config], name: str, text: str, argv: Sequence[str] | None = None
) -> Config:
    """The configuration of a command line; without a preset, ImageNet where it is prepared, else the scenes.

    Args:
      presets: of the experiment, among them `quick` and `imagenet`.
      name: of its module.
      text: its docstring.
      argv: arguments, those of the process by default.
    """
    return configure_run(
        presets,
        lambda where, _: find_prepared(where, "imagenet2012") is not None,
        instead="imagenet",
        what="ImageNet is not prepared",
        module=f"experiments.{name}",
        docstring=text,
        argv=argv,
    )


def main(configure: Callable[[], ClassificationConfig]) -> None:
    """An experiment's command: reads its command line and trains."""
    run_command(lambda: run(configure()))
