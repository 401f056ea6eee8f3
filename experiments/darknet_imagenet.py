"""The classifiers that YOLO v1 starts from (1506.02640, section 2.2), on ImageNet or on anything with labelled images.

    python -m experiments.darknet_imagenet                     ImageNet where it is prepared, else the embedded scenes
    python -m experiments.darknet_imagenet quick               embedded scenes, CPU
    python -m experiments.darknet_imagenet imagenet            20 convolutions, at 224 pixels
    python -m experiments.darknet_imagenet tiny                those of Fast YOLO
    python -m experiments.yolo_voc voc0712 --init runs/darknet_imagenet/imagenet      detection, from there

Presets:

quick      a narrow net of five stages with BatchNorm, the backbone of `yolo_voc quick`.
imagenet   the paper trains for a week and has 88% top-5 on one crop. Its recipe is not in the paper; this one is
           darknet's for its classifiers: polynomial decay of order 4 from 0.1, batches of 128.
tiny       likewise for the small net.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class DarknetConfig(ModelConfig):
    """A classifier of YOLO's and its options.

    Attributes:
      features: of the stages, one 3x3 convolution each; None is the architecture's own.
      width: multiplies the features of all convolutions.
      batch_norm: normalise after every convolution.
      bn_momentum: decay of BatchNorm's running averages.
    """

    name: str = "darknet_yolov1"
    features: tuple[int, ...] | None = None
    width: float = 1.0
    batch_norm: bool = False
    bn_momentum: float = 0.9

    def options(self) -> dict[str, Any]:
        """The fields as keyword arguments of `cvjax.create_model`."""
        given = super().options()
        features = given.pop("features", None)
        return given if features is None else given | {"stages": tuple(((3, count, 1),) for count in features)}


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of a classifier of YOLO's."""

    model: DarknetConfig = DarknetConfig()
    workdir: str = "runs/darknet_imagenet"


_IMAGENET = {
    "data": "imagenet2012",
    "steps": 1_600_000,
    "batch_size": 128,
    "log_every": 200,
    "eval_every": imagenet_steps(1, 128),
    "checkpoint_every": imagenet_steps(1, 128),
    "input": ClassificationData(workers=8),
    "eval": ClassificationEval(batch_size=128, resize=256),
    "optim": OptimizerConfig(
        name="sgd", learning_rate=0.1, weight_decay=5e-4, schedule="poly", power=4.0, warmup=0.001
    ),
}

PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/darknet_imagenet/quick",
        model=DarknetConfig(features=(16, 32, 64, 128, 192), batch_norm=True, bn_momentum=0.95),
        steps=400,
        optim=OptimizerConfig(name="muon", learning_rate=0.02, weight_decay=0.01, schedule="cosine", warmup=0.05),
    ),
    "imagenet": Config(**_IMAGENET, workdir="runs/darknet_imagenet/imagenet", model=DarknetConfig(batch_norm=True)),
    "tiny": Config(
        **_IMAGENET,
        workdir="runs/darknet_imagenet/tiny",
        model=DarknetConfig(name="darknet_yolov1_tiny", batch_norm=True),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "darknet_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
