"""R-CNN (1311.2524) on PASCAL VOC, or on any folder of images with XML boxes.

    python -m experiments.rcnn_voc                            VOC 2007 where it is prepared, else the scenes
    python -m experiments.rcnn_voc quick                      embedded scenes, a narrow net, CPU
    python -m experiments.rcnn_voc voc07 --init alexnet       as in the paper; then fc7's machines and the regression
    python -m experiments.rcnn_voc voc07 --init vgg16 --model.name rcnn_vgg16
    python -m experiments.rcnn_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.rcnn_voc quick --resume             continues a run that was stopped

A run has three stages: the net is fine-tuned into WORKDIR/net; then a linear support vector machine for each class
learns from its second dense layer, with hard negatives; and a ridge regression for each class learns to move boxes. The
finished detector is in WORKDIR, see `cvjax.tasks.detection.staged.run`.

Presets:

quick     a narrow VGG on windows of 48 pixels and 300 boxes an image, from scratch on the embedded scenes.
voc07     AlexNet on selective search's boxes: 50,000 steps of 128 windows, a quarter of them objects. The paper has
          54.2 mAP, 58.5 with boxes moved, and 66.0 with VGG-16.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.cli._main import run as run_command
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.detection.config import DetectionData, DetectionEval
from cvjax.tasks.detection.staged.run import StagedConfig, run
from experiments._detectors import (
    NARROW_VGG,
    QUICK,
    QUICK_DENSE,
    QUICK_PROPOSALS,
    StagedModel,
    configure_detector,
    voc07,
)


@dataclasses.dataclass(frozen=True)
class RCNNConfig(StagedModel):
    """R-CNN and its options.

    Attributes: those of `StagedModel`, and
      window_size: side that windows are warped to, in pixels.
      context: pixels of surroundings in it, on every side.
    """

    name: str = "rcnn_alexnet"
    window_size: int | None = None
    context: int = 16


@dataclasses.dataclass(frozen=True)
class Config(StagedConfig):
    """A run of R-CNN."""

    model: RCNNConfig = RCNNConfig()
    workdir: str = "runs/rcnn_voc"


PRESETS = {
    "quick": Config(
        **{**QUICK, "input": QUICK_PROPOSALS},
        workdir="runs/rcnn_voc/quick",
        model=RCNNConfig(**NARROW_VGG, regions=12, positive_share=0.4, window_size=48, context=4),
        steps=900,
        images=300,
        optim=QUICK_DENSE,
    ),
    "voc07": Config(
        # Windows are cut out of the images as they are: none of VOC's is larger than 500 pixels.
        **voc07(DetectionData(crop=(500, 500), proposals=2000, workers=8), DetectionEval(batch_size=1)),
        workdir="runs/rcnn_voc/voc07",
        model=RCNNConfig(regions=16),
        steps=50_000,
        batch_size=8,
        log_every=100,
        eval_every=50_000,
        checkpoint_every=5_000,
        optim=OptimizerConfig(
            name="sgd",
            learning_rate=1e-3,
            weight_decay=5e-4,
            bias_multiplier=2.0,
            schedule="step",
            milestones=(0.4, 0.8),
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_detector(PRESETS, "rcnn_voc", __doc__, argv)


if __name__ == "__main__":
    run_command(lambda: run(configure()))
