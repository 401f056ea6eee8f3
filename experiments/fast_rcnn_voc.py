"""Fast R-CNN (1504.08083) on PASCAL VOC, or on any folder of images with XML boxes.

    python -m experiments.fast_rcnn_voc                       VOC 2007 where it is prepared, else the scenes
    python -m experiments.fast_rcnn_voc quick                 embedded scenes, a narrow net, CPU
    python -m experiments.fast_rcnn_voc voc07 --init vgg16
    python -m experiments.fast_rcnn_voc voc07 --init alexnet --model.name fast_rcnn_alexnet
    python -m experiments.fast_rcnn_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.fast_rcnn_voc quick --resume        continues a run that was stopped

Boxes to look at are selective search's; what is not on disk yet is made before the run (`python -m cvjax.cli.propose`
does it beforehand). `--input.proposal-mode grid` has boxes that are the same for all images.

Presets:

quick     a narrow VGG with BatchNorm on 300 boxes an image, from scratch on the embedded scenes.
voc07     VGG-16: 64 regions of each of two images a step, 30,000 steps at 0.001 and 10,000 at a tenth. The paper has
          66.9 mAP.
voc0712   likewise on the trainval of 2007 and 2012, for 60,000 steps: 70.0 in the paper.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval
from experiments._detectors import (
    NARROW_VGG,
    QUICK,
    QUICK_DENSE,
    QUICK_PROPOSALS,
    EncoderConfig,
    configure_detector,
    main,
    voc07,
    voc0712,
)


@dataclasses.dataclass(frozen=True)
class FastRCNNConfig(EncoderConfig):
    """Fast R-CNN and its options.

    Attributes: those of `EncoderConfig`, and
      floor: least IoU with an object of regions that are background.
      svd_ranks: of the two dense layers, for a compressed net, see `cvjax.weights.compress`.
    """

    name: str = "fast_rcnn_vgg16"
    floor: float = 0.1
    svd_ranks: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Config(DetectionConfig):
    """A run of Fast R-CNN."""

    model: FastRCNNConfig = FastRCNNConfig()
    workdir: str = "runs/fast_rcnn_voc"


_READING = DetectionData(crop=(1000, 1000), short_side=600, long_side=1000, proposals=2000, workers=8)
_VOC = {
    "steps": 40_000,
    "batch_size": 2,
    "log_every": 100,
    "eval_every": 10_000,
    "checkpoint_every": 5_000,
    "optim": OptimizerConfig(
        name="sgd",
        learning_rate=1e-3,
        weight_decay=5e-4,
        bias_multiplier=2.0,
        schedule="step",
        milestones=(0.75,),
        frozen=("backbone/conv[12]_*",),
    ),
}

PRESETS = {
    "quick": Config(
        **{**QUICK, "input": QUICK_PROPOSALS},
        workdir="runs/fast_rcnn_voc/quick",
        model=FastRCNNConfig(**NARROW_VGG, regions=32, floor=0.0),
        steps=1200,
        optim=QUICK_DENSE,
    ),
    "voc07": Config(**_VOC, **voc07(_READING, DetectionEval(batch_size=1)), workdir="runs/fast_rcnn_voc/voc07"),
    "voc0712": Config(
        **_VOC | {"steps": 60_000},
        **voc0712(_READING, DetectionEval(batch_size=1)),
        workdir="runs/fast_rcnn_voc/voc0712",
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_detector(PRESETS, "fast_rcnn_voc", __doc__, argv)


if __name__ == "__main__":
    main(configure)
