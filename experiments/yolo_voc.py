"""YOLO v1 (1506.02640) on PASCAL VOC, or on any folder of images with XML boxes.

    python -m experiments.yolo_voc                     VOC 2007 where it is prepared, else the embedded scenes
    python -m experiments.yolo_voc quick               embedded scenes, a narrow net, CPU
    python -m experiments.yolo_voc voc0712 --init runs/darknet_imagenet/imagenet
    python -m experiments.yolo_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.yolo_voc quick --resume      continues a run that was stopped

The first convolutions start from a classifier that was trained at 224 pixels (`experiments.darknet_imagenet`, or
darknet's own file with --init FILE.weights); detection then sees 448.

Presets:

quick       a narrow, fully convolutional YOLO with BatchNorm and 8 x 8 cells, from scratch on the embedded scenes.
voc07       the paper's net and schedule, on VOC 2007 alone.
voc0712     on the trainval of 2007 and 2012, as in the paper: 63.4 mAP on VOC 2007's test, 45 images/s on a Titan X.
tiny        Fast YOLO, likewise: 52.7 mAP, 155 images/s.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval
from experiments._detectors import QUICK, QUICK_OPTIM, configure_detector, main, voc07, voc0712


@dataclasses.dataclass(frozen=True)
class YOLOConfig(ModelConfig):
    """YOLO and its options; None is the architecture's own.

    Attributes:
      features: of the backbone's stages, one 3x3 convolution each, with pooling between them.
      neck: features of the 3x3 convolutions behind it.
      width: multiplies the features of all convolutions.
      grid: rows and columns of cells; a cell is 2 ** (stages - 1) pixels.
      boxes_per_cell: B of the paper.
      hidden: features of the first dense layer.
      fully_convolutional: convolutions in the dense layers' place, for images of any size.
      batch_norm: normalise after every convolution.
      dropout: behind the first dense layer.
      coord_weight, no_object_weight: the loss's lambdas.
      bn_momentum: decay of BatchNorm's running averages.
    """

    name: str = "yolov1"
    features: tuple[int, ...] | None = None
    neck: tuple[int, ...] | None = None
    width: float = 1.0
    grid: tuple[int, int] = (7, 7)
    boxes_per_cell: int = 2
    hidden: int = 4096
    fully_convolutional: bool = False
    batch_norm: bool = False
    dropout: float = 0.5
    coord_weight: float = 5.0
    no_object_weight: float = 0.5
    bn_momentum: float = 0.9

    def options(self) -> dict[str, Any]:
        """The fields as keyword arguments of `cvjax.create_model`."""
        given = super().options()
        features, neck = given.pop("features", None), given.pop("neck", None)
        if features is not None:
            given["stages"] = tuple(((3, count, 1),) for count in features)
        if neck is not None:
            given["neck"] = tuple((3, count, 1) for count in neck)
        return given


@dataclasses.dataclass(frozen=True)
class Config(DetectionConfig):
    """A run of YOLO."""

    model: YOLOConfig = YOLOConfig()
    workdir: str = "runs/yolo_voc"


# Random scaling and shifts by a fifth of the image, exposure and saturation by up to 1.5. Images are stretched.
_READING = DetectionData(
    crop=(448, 448),
    keep_aspect=False,
    shift=0.2,
    min_scale=0.8,
    max_scale=1.2,
    exposure=1.5,
    hsv_saturation=1.5,
    workers=8,
)
_VOC = {
    "epochs": 135.0,
    "batch_size": 64,
    "log_every": 50,
    "eval_every": 2000,
    "checkpoint_every": 1000,
    # Darknet's gradients are half of the paper's loss's, so its 0.01 is 0.005 here; 75, 30 and 30 epochs.
    "optim": OptimizerConfig(
        name="sgd",
        learning_rate=5e-3,
        weight_decay=5e-4,
        schedule="step",
        milestones=(75 / 135, 105 / 135),
        warmup=1 / 135,
    ),
}

PRESETS = {
    "quick": Config(
        **{
            **QUICK,
            "input": dataclasses.replace(
                QUICK["input"], keep_aspect=False, shift=0.15, exposure=1.3, hsv_saturation=1.3, max_scale=1.2
            ),
        },
        workdir="runs/yolo_voc/quick",
        model=YOLOConfig(
            features=(16, 32, 64, 128, 192),
            neck=(192,),
            grid=(8, 8),
            hidden=512,
            # Muon's steps are too long for dense layers, which nothing normalises.
            fully_convolutional=True,
            batch_norm=True,
            dropout=0.2,
            bn_momentum=0.95,
        ),
        steps=1800,
        optim=QUICK_OPTIM,
    ),
    "voc07": Config(**_VOC, **voc07(_READING, DetectionEval(batch_size=32)), workdir="runs/yolo_voc/voc07"),
    "voc0712": Config(**_VOC, **voc0712(_READING, DetectionEval(batch_size=32)), workdir="runs/yolo_voc/voc0712"),
    "tiny": Config(
        **_VOC,
        **voc0712(_READING, DetectionEval(batch_size=32)),
        workdir="runs/yolo_voc/tiny",
        model=YOLOConfig(name="yolov1_tiny"),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_detector(PRESETS, "yolo_voc", __doc__, argv)


if __name__ == "__main__":
    main(configure)
