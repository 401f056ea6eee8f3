"""What the experiments with detectors share: configurations of the data sets, and the command line."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from cvjax.tasks.detection.kind import run

from cvjax.cli._main import run as run_command
from cvjax.datasets.voc.detection import open_voc_detection
from cvjax.engine.commandline import configure_run
from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.errors import DataError
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval

Config = TypeVar("Config", bound=DetectionConfig)

QUICK = {
    "data": "scenes",
    "batch_size": 16,
    "log_every": 20,
    "eval_every": 10_000,
    "checkpoint_every": 500,
    "input": DetectionData(crop=(128, 128), boxes=16, min_scale=0.8, max_scale=1.25, shift=0.1),
    "eval": DetectionEval(batch_size=10, boxes=32),
}
"""Fields of every `quick` preset: the embedded scenes at 128 pixels."""

QUICK_PROPOSALS = dataclasses.replace(QUICK["input"], crop=(160, 160), proposals=300)
"""How the `quick` presets of detectors without proposals of their own read."""

QUICK_OPTIM = OptimizerConfig(name="muon", learning_rate=0.02, weight_decay=0.01, schedule="cosine", warmup=0.05)
"""How the `quick` presets learn where BatchNorm follows convolutions: Muon's steps are too long for other layers."""

QUICK_DENSE = dataclasses.replace(QUICK_OPTIM, head_multiplier=0.2, multipliers=(("backbone/head/*", 0.15),))
"""The same for a VGG, whose dense layers nothing normalises."""

NARROW_VGG = {
    "stage_sizes": (1, 1, 1, 2, 2),
    "widths": (16, 32, 64, 128, 128),
    "hidden": 256,
    "batch_norm": True,
    "dropout": 0.2,
    "bn_momentum": 0.95,
    "encoder": "vgg11",
}
"""Fields of an `EncoderConfig` for small images, from scratch."""


@dataclasses.dataclass(frozen=True)
class EncoderConfig(ModelConfig):
    """What detectors on a classifier with dense layers share; None is the architecture's own.

    Attributes:
      encoder: name of the classifier.
      stage_sizes, widths, batch_norm: of a VGG.
      channels: of an AlexNet's or ZF-5's five convolutions.
      hidden: channels of the two dense layers.
      dropout: of these, in training.
      regions: of an image that train.
      positive_share: most of them that are objects.
      bn_momentum: decay of BatchNorm's running averages.
    """

    encoder: str | None = None
    stage_sizes: tuple[int, int, int, int, int] | None = None
    widths: tuple[int, int, int, int, int] | None = None
    batch_norm: bool | None = None
    channels: tuple[int, int, int, int, int] | None = None
    hidden: int | None = None
    dropout: float = 0.5
    regions: int = 64
    positive_share: float = 0.25
    bn_momentum: float = 0.9

    def options(self) -> dict[str, Any]:
        """The fields as keyword arguments of `cvjax.create_model`."""
        given = super().options()
        names = ("stage_sizes", "widths", "batch_norm", "channels", "hidden")
        of_encoder = {name: given.pop(name) for name in names if name in given}
        return given | {"encoder_options": of_encoder} if of_encoder else given


@dataclasses.dataclass(frozen=True)
class StagedModel(EncoderConfig):
    """R-CNN's and SPPnet's options; attributes are those of `EncoderConfig`, and

    scorer: `svm`, or `softmax` for the fine-tuned net alone, without the later stages.
    """

    scorer: Literal["svm", "softmax"] = "svm"


def voc07(reading: DetectionData, scoring: DetectionEval) -> dict[str, Any]:
    """Fields of a `voc07` preset: trained on VOC 2007's trainval, scored on its test by 11 points, as the papers are.

    Args:
      reading: how the system sees images.
      scoring: likewise, and its batch.
    """
    return _voc("trainval2007", reading, scoring)


def voc0712(reading: DetectionData, scoring: DetectionEval) -> dict[str, Any]:
    """Fields of a `voc0712` preset: as `voc07`, trained on the trainval of 2007 and 2012 ("07+12")."""
    return _voc("trainval0712", reading, scoring)


def coco(reading: DetectionData, scoring: DetectionEval) -> dict[str, Any]:
    """Fields of a `coco` preset: train2017 and val2017 (or 2014's), COCO's scores, its few empty boxes dropped.

    Arguments are those of `voc07`.
    """
    return {
        "data": "coco",
        "input": dataclasses.replace(reading, train_split="train", eval_split="val", on_bad_boxes="drop"),
        "eval": dataclasses.replace(scoring, coco=True),
    }


def _voc(split: str, reading: DetectionData, scoring: DetectionEval) -> dict[str, Any]:
    return {
        "data": "voc_detection",
        "input": dataclasses.replace(reading, train_split=split, eval_split="test2007"),
        "eval": dataclasses.replace(scoring, metric="map_voc07"),
    }


def configure_detector(
    presets: Mapping[str, Config], name: str, text: str, argv: Sequence[str] | None = None
) -> Config:
    """The configuration of a command line; without a preset, that of VOC 2007 where it is, else of the scenes.

    Args:
      presets: of the experiment, among them `quick` and `voc07`.
      name: of its module.
      text: its docstring.
      argv: arguments, those of the process by default.
    """
    return configure_run(
        presets,
        _has_voc,
        instead="voc07",
        what="no VOC 2007 is prepared",
        module=f"experiments.{name}",
        docstring=text,
        argv=argv,
    )


def main(configure: Callable[[], DetectionConfig]) -> None:
    """An experiment's command: reads its command line and trains."""
    run_command(lambda: run(configure()))


def _has_voc(where: pathlib.Path, config: DetectionConfig) -> bool:
    manual = config.input.manual_dir and pathlib.Path(config.input.manual_dir)
    try:
        for split in ("trainval2007", "test2007"):
            open_voc_detection(split, where, manual or None)
    except DataError:
        return False
    return True
