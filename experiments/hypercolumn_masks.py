"""Hypercolumns as the paper uses them: the masks of objects inside given boxes, on PASCAL VOC 2012 or the scenes.

    python -m experiments.hypercolumn_masks                  VOC where it is unpacked, else the embedded scenes
    python -m experiments.hypercolumn_masks quick            embedded scenes, a narrow net, CPU
    python -m experiments.hypercolumn_masks quick --model.taps fc7          what the top layer alone can tell
    python -m experiments.hypercolumn_masks quick --model.grid 1            one classifier for the whole box
    python -m experiments.hypercolumn_masks voc --init vgg16

Presets:

quick  a narrow VGG with BatchNorm, from scratch on the embedded scenes. An object's pixels are those of its class
       inside its box.
voc    hypercolumns of the second pooling, the fourth stage and fc7 of VGG-16, a grid of 5 x 5 classifiers and masks of
       50 x 50 pixels, as in the paper (1411.5752), on the boxes of VOC's own objects. The paper scores boxes that a
       detector found, by the average precision of their masks at overlaps of 0.5 and 0.7; here boxes are given, so the
       figures are the mean overlap and the shares of objects above 0.5 and 0.7. Its recipe is not public in full; this
       one is that of `hypercolumn_voc`.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from cvjax.cli._main import run as run_command
from cvjax.data.objects import find_voc_objects
from cvjax.engine.commandline import configure_run
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.object_masks.config import ObjectMasksConfig, ObjectMasksData, ObjectMasksEval
from cvjax.tasks.object_masks.kind import run
from experiments.hypercolumn_voc import HypercolumnConfig


@dataclasses.dataclass(frozen=True)
class MasksModel(HypercolumnConfig):
    """Hypercolumns on VGG-16 and their options.

    Attributes: those of `HypercolumnConfig`, and
      grid: classifiers along each side of a box.
      mask_size: pixels along each side of a mask.
    """

    grid: int = 5
    mask_size: int = 50


@dataclasses.dataclass(frozen=True)
class Config(ObjectMasksConfig):
    """A run of hypercolumns inside boxes."""

    model: MasksModel = MasksModel()
    workdir: str = "runs/hypercolumn_masks"


PRESETS = {
    "quick": Config(
        data="scenes",
        workdir="runs/hypercolumn_masks/quick",
        model=MasksModel(
            stage_sizes=(1, 1, 2, 2, 2),
            widths=(16, 32, 64, 128, 128),
            hidden=256,
            batch_norm=True,
            dropout=0.0,
            bn_momentum=0.95,
            mask_size=28,
        ),
        steps=1200,
        batch_size=16,
        log_every=50,
        eval_every=1200,
        checkpoint_every=300,
        input=ObjectMasksData(crop=(112, 112), min_scale=0.8, max_scale=1.25),
        optim=OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.05, schedule="cosine", warmup=0.05),
        eval=ObjectMasksEval(batch_size=10),
    ),
    "voc": Config(
        data="voc_segmentation",
        workdir="runs/hypercolumn_masks/voc",
        steps=30_000,
        batch_size=20,
        eval_every=5_000,
        input=ObjectMasksData(workers=8),
        eval=ObjectMasksEval(batch_size=4, boxes=64, pad_multiple=32),
        optim=OptimizerConfig(
            name="sgd",
            learning_rate=1e-4,
            momentum=0.9,
            weight_decay=5e-4,
            head_multiplier=10.0,
            bias_multiplier=2.0,
            schedule="poly",
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line; without preset and data set, the one that this machine has data for."""
    return configure_run(
        PRESETS,
        lambda where, config: (
            find_voc_objects(where, config.input.manual_dir and pathlib.Path(config.input.manual_dir)) is not None
        ),
        instead="voc",
        what="no VOC 2012 with the masks of its objects is unpacked",
        module="experiments.hypercolumn_masks",
        docstring=__doc__,
        argv=argv,
    )


def main() -> None:
    """Command line."""
    run(configure())


if __name__ == "__main__":
    run_command(main)
