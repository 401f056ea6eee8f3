"""Faster R-CNN (1506.01497) on PASCAL VOC and COCO, or on any folder of images with XML boxes.

    python -m experiments.faster_rcnn_voc                        VOC 2007 where it is prepared, else the scenes
    python -m experiments.faster_rcnn_voc quick                  embedded scenes, a narrow net with a pyramid, CPU
    python -m experiments.faster_rcnn_voc quick --model.deformable 3 4
    python -m experiments.faster_rcnn_voc voc07 --init vgg16     the paper's VGG-16, end to end
    python -m experiments.faster_rcnn_voc four_steps --init vgg16
    python -m experiments.faster_rcnn_voc coco --init resnet50   a ResNet-50 with a feature pyramid
    python -m experiments.faster_rcnn_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.faster_rcnn_voc quick --resume         continues a run that was stopped

With `--four-steps` a run is the paper's alternating training: proposals, a detector on them, proposals on the
detector's convolutions, and the detector again, `--steps` each; see `cvjax.tasks.detection.alternating`.

Presets:

quick        a narrow ResNet-18 with a feature pyramid, from scratch on the embedded scenes.
voc07        VGG-16, end to end: 70,000 steps of one image, 0.001 and, after 50,000, a tenth. The paper has 69.9 mAP,
             by four steps.
voc0712      likewise on the trainval of 2007 and 2012, for 110,000 steps: 73.2 in the paper.
four_steps   the paper's own way, on VOC 2007: 80,000 steps of proposals, 40,000 of detection, twice.
coco         a ResNet-50 with a feature pyramid: 37.0 COCO AP with torchvision's recipe, which this is: 26 epochs of
             batches of 16, 0.02, a tenth after 16 and 22.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.cli._main import run as run_command
from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.models.detection.regions import BoxWeights
from cvjax.tasks.detection.alternating import run_four_steps
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval
from cvjax.tasks.detection.kind import run
from experiments._detectors import QUICK, QUICK_OPTIM, coco, configure_detector, voc07, voc0712


@dataclasses.dataclass(frozen=True)
class FasterRCNNConfig(ModelConfig):
    """Faster R-CNN and its options; None is the architecture's own.

    Attributes:
      rpn_channels: of the proposal network, and of a pyramid.
      anchor_sizes: square roots of the anchors' areas in pixels; with a pyramid one for each of its five levels.
      rpn_before, rpn_after: anchors that suppression looks at and proposals that it leaves, in training and evaluation.
      rpn_samples, regions: anchors and regions of an image that train.
      floor: least IoU with an object of regions that are background.
      box_weights: of the second stage's targets.
      train_rpn, train_detector, freeze_backbone: for training by steps.
      hidden: channels of the dense layers.
      stage_sizes, widths, batch_norm: of a VGG.
      depths, width, zero_gamma: of a ResNet; `depths` are the blocks of its stages.
      deformable: stages of a ResNet whose 3x3 convolutions are deformable.
      modulated: with a factor for each sample (version 2).
      dropout: of a VGG's or ZF's dense layers.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: leave BatchNorm as the weights brought it.
    """

    name: str = "faster_rcnn_vgg16"
    rpn_channels: int | None = None
    anchor_sizes: tuple[float, ...] | None = None
    rpn_before: tuple[int, int] | None = None
    rpn_after: tuple[int, int] | None = None
    rpn_samples: int | None = None
    regions: int | None = None
    floor: float | None = None
    box_weights: BoxWeights | None = None
    train_rpn: bool | None = None
    train_detector: bool | None = None
    freeze_backbone: bool | None = None
    hidden: int | None = None
    stage_sizes: tuple[int, int, int, int, int] | None = None
    widths: tuple[int, int, int, int, int] | None = None
    batch_norm: bool | None = None
    depths: tuple[int, int, int, int] | None = None
    width: int | None = None
    zero_gamma: bool | None = None
    deformable: tuple[int, ...] | None = None
    modulated: bool | None = None
    dropout: float | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def options(self) -> dict[str, object]:
        """The fields as keyword arguments of `cvjax.create_model`."""
        given = super().options()
        if "depths" in given:
            given["stage_sizes"] = given.pop("depths")
        if self.name.endswith("_fpn") and "anchor_sizes" in given:
            given["anchor_sizes"] = tuple((size,) for size in given["anchor_sizes"])
        return given


@dataclasses.dataclass(frozen=True)
class Config(DetectionConfig):
    """A run of Faster R-CNN.

    Attributes: those of `DetectionConfig`, and
      four_steps: train by the paper's four steps.
    """

    model: FasterRCNNConfig = FasterRCNNConfig()
    workdir: str = "runs/faster_rcnn_voc"
    four_steps: bool = False


# One shape for all images, whose shorter side is brought to 600 and the longer one to 1000 at most.
_READING = DetectionData(crop=(1000, 1000), short_side=600, long_side=1000, workers=8)
_SCORING = DetectionEval(batch_size=1)
_VOC = {
    "steps": 70_000,
    "batch_size": 1,
    "log_every": 100,
    "eval_every": 10_000,
    "checkpoint_every": 5_000,
    "optim": OptimizerConfig(
        name="sgd",
        learning_rate=1e-3,
        weight_decay=5e-4,
        bias_multiplier=2.0,
        schedule="step",
        milestones=(5 / 7,),
        frozen=("backbone/conv[12]_*",),
    ),
}

PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/faster_rcnn_voc/quick",
        model=FasterRCNNConfig(
            name="fasterrcnn_resnet18_fpn",
            rpn_channels=64,
            anchor_sizes=(12.0, 24.0, 48.0, 72.0, 96.0),
            rpn_before=(400, 200),
            rpn_after=(200, 64),
            rpn_samples=64,
            regions=64,
            hidden=256,
            depths=(1, 1, 1, 1),
            width=32,
            bn_momentum=0.95,
        ),
        steps=900,
        # Muon's steps are too long for layers that nothing normalises: pyramid, proposals and dense layers.
        optim=dataclasses.replace(QUICK_OPTIM, head_multiplier=0.2),
    ),
    "voc07": Config(**_VOC, **voc07(_READING, _SCORING), workdir="runs/faster_rcnn_voc/voc07"),
    "voc0712": Config(
        **_VOC | {"steps": 110_000}, **voc0712(_READING, _SCORING), workdir="runs/faster_rcnn_voc/voc0712"
    ),
    "four_steps": Config(
        **_VOC | {"steps": 80_000},
        **voc07(_READING, _SCORING),
        workdir="runs/faster_rcnn_voc/four_steps",
        model=FasterRCNNConfig(floor=0.1),
        four_steps=True,
    ),
    "coco": Config(
        **coco(dataclasses.replace(_READING, crop=(1333, 1333), short_side=800, long_side=1333), _SCORING),
        workdir="runs/faster_rcnn_voc/coco",
        model=FasterRCNNConfig(name="fasterrcnn_resnet50_fpn", freeze_bn=True),
        epochs=26.0,
        batch_size=16,
        log_every=100,
        eval_every=20_000,
        checkpoint_every=5_000,
        optim=OptimizerConfig(
            name="sgd",
            learning_rate=0.02,
            weight_decay=1e-4,
            schedule="step",
            milestones=(16 / 26, 22 / 26),
            warmup=0.005,
            frozen=("backbone/stem*", "backbone/stage1*", "backbone/*bn*"),
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_detector(PRESETS, "faster_rcnn_voc", __doc__, argv)


def main() -> None:
    """Command line."""
    config = configure()
    run_four_steps(config) if config.four_steps else run(config)


if __name__ == "__main__":
    run_command(main)
