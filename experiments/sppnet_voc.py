"""SPPnet (1406.4729) on PASCAL VOC, or on any folder of images with XML boxes.

    python -m experiments.sppnet_voc                          VOC 2007 where it is prepared, else the scenes
    python -m experiments.sppnet_voc quick                    embedded scenes, a narrow net, CPU
    python -m experiments.sppnet_voc voc07 --init runs/CLASSIFIER
    python -m experiments.sppnet_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.sppnet_voc quick --resume           continues a run that was stopped

One pass of the convolutions serves all boxes of an image; the dense layers are fine-tuned on pyramids of windows into
WORKDIR/net, then come support vector machines and a regression as in R-CNN; the finished detector is in WORKDIR.

Presets:

quick     a narrow ZF-5 on images of 160 pixels, 300 boxes each, from scratch on the embedded scenes; here gradients
          reach the convolutions, as no ImageNet has taught them.
voc07     ZF-5 on five scales, dense layers alone: the paper has 59.2 mAP with boxes moved. It starts from a ZF-5 with a
          pyramid that was trained on ImageNet; `zfnet_spp` is that classifier.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.cli._main import run as run_command
from cvjax.engine.optim import OptimizerConfig
from cvjax.models.detection.sppnet import PAPER_SCALES
from cvjax.tasks.detection.config import DetectionData, DetectionEval
from cvjax.tasks.detection.staged.run import StagedConfig, run
from experiments._detectors import QUICK, QUICK_OPTIM, QUICK_PROPOSALS, StagedModel, configure_detector, voc07


@dataclasses.dataclass(frozen=True)
class SPPNetConfig(StagedModel):
    """SPPnet and its options.

    Attributes: those of `StagedModel`, and
      scales: that the shorter side is brought to, in pixels.
      canonical_size: side of the square that a window's area should come near to, in pixels.
      train_convolutions: let gradients into the convolutions.
    """

    name: str = "sppnet_zf5"
    floor: float = 0.1
    scales: tuple[int, ...] = PAPER_SCALES
    canonical_size: float = 224.0
    train_convolutions: bool = False


@dataclasses.dataclass(frozen=True)
class Config(StagedConfig):
    """A run of SPPnet."""

    model: SPPNetConfig = SPPNetConfig()
    workdir: str = "runs/sppnet_voc"


PRESETS = {
    "quick": Config(
        **{**QUICK, "input": QUICK_PROPOSALS},
        workdir="runs/sppnet_voc/quick",
        model=SPPNetConfig(
            channels=(32, 64, 96, 96, 64),
            hidden=256,
            dropout=0.2,
            regions=32,
            floor=0.0,
            scales=(192, 288),
            canonical_size=128.0,
            train_convolutions=True,
        ),
        steps=700,
        images=600,
        optim=dataclasses.replace(QUICK_OPTIM, learning_rate=4e-3),
    ),
    "voc07": Config(
        **voc07(DetectionData(crop=(500, 500), proposals=2000, workers=8), DetectionEval(batch_size=1)),
        workdir="runs/sppnet_voc/voc07",
        steps=40_000,
        batch_size=2,
        log_every=100,
        eval_every=40_000,
        checkpoint_every=5_000,
        optim=OptimizerConfig(
            name="sgd", learning_rate=1e-3, weight_decay=5e-4, bias_multiplier=2.0, schedule="step", milestones=(0.75,)
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_detector(PRESETS, "sppnet_voc", __doc__, argv)


if __name__ == "__main__":
    run_command(lambda: run(configure()))
