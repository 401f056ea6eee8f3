"""ResNet (1512.03385) on ImageNet, or on anything else that has labelled images.

    python -m experiments.resnet_imagenet                  ImageNet where it is prepared, else the embedded scenes
    python -m experiments.resnet_imagenet quick            embedded scenes, a narrow net, CPU
    python -m experiments.resnet_imagenet imagenet --model.name resnet101
    python -m experiments.resnet_imagenet imagenet --model.name plain34 --model.zero-gamma False
    python -m experiments.resnet_imagenet imagenet --model.deformable 3 4 --model.modulated True
    python -m experiments.resnet_imagenet modern --parallel jit --model.dtype bfloat16
    python -m experiments.resnet_imagenet cifar10
    python -m experiments.resnet_imagenet quick --resume   continues a run that was stopped

Presets:

quick      a ResNet-18 of a quarter of the width, from scratch on the embedded scenes: 0.52 top-1 on val in 2 minutes on
           2 cores (docs/results.md; chance is 0.07).
imagenet   90 epochs with the recipe of Flax's example: batch 1024, Nesterov, 0.1 for every 256 images, 5 epochs of
           warm-up, cosine, the last BatchNorm of each block started at zero. ResNet-50 is reported at 76.3 to 76.7
           top-1 with it (Flax), torchvision's first weights at 76.13.
modern     torchvision's second recipe, 600 epochs with TrivialAugment, mixup, CutMix, erasing and averaged weights,
           each image drawn four times an epoch, trained at 176 pixels, tested at 224 out of 232: 80.86 top-1 with
           ResNet-50.
cifar10    164 epochs in batches of 128 with the paper's schedule and augmentation.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import CIFAR10, QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class ResNetConfig(ModelConfig):
    """ResNet and its options; None is as the name says. CIFAR's nets have no stage sizes and no deformable stages.

    Attributes:
      width: channels of the stem.
      stage_sizes: blocks in each stage.
      zero_gamma: the last BatchNorm of every block starts at zero.
      shortcut: the paper's options A, B and C, or none.
      norm_after: the last BatchNorm of every block comes after the addition.
      deformable: stages, of 1 to 4, with deformable 3x3 convolutions.
      modulated: these are of version 2.
      bn_momentum: decay of BatchNorm's running averages.
    """

    name: str = "resnet50"
    width: int | None = None
    stage_sizes: tuple[int, ...] | None = None
    zero_gamma: bool | None = None
    shortcut: Literal["A", "B", "C", "none"] | None = None
    norm_after: bool | None = None
    deformable: tuple[int, ...] | None = None
    modulated: bool | None = None
    bn_momentum: float = 0.9


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of ResNet."""

    model: ResNetConfig = ResNetConfig()
    workdir: str = "runs/resnet_imagenet"


IMAGENET = Config(
    data="imagenet2012",
    workdir="runs/resnet_imagenet/imagenet",
    model=ResNetConfig(zero_gamma=True),
    steps=imagenet_steps(90, 1024),
    batch_size=1024,
    log_every=50,
    eval_every=imagenet_steps(1, 1024),
    checkpoint_every=imagenet_steps(1, 1024),
    input=ClassificationData(workers=8),
    eval=ClassificationEval(batch_size=1024, resize=256),
    optim=OptimizerConfig(name="nesterov", learning_rate=0.4, weight_decay=1e-4, schedule="cosine", warmup=5 / 90),
)

PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/resnet_imagenet/quick",
        model=ResNetConfig(name="resnet18", width=32, stage_sizes=(1, 1, 1, 1)),
        steps=400,
        optim=OptimizerConfig(name="muon", learning_rate=0.04, weight_decay=0.01, schedule="poly", warmup=0.05),
    ),
    "imagenet": IMAGENET,
    "modern": dataclasses.replace(
        IMAGENET,
        workdir="runs/resnet_imagenet/modern",
        model=ResNetConfig(),
        steps=imagenet_steps(600, 1024),
        label_smoothing=0.1,
        mixup=0.2,
        cutmix=1.0,
        input=ClassificationData(crop=(176, 176), policy="trivial", erase=0.1, repeats=4, workers=16),
        eval=ClassificationEval(batch_size=1024, crop=(224, 224), resize=232),
        optim=OptimizerConfig(
            name="sgd",
            learning_rate=0.5,
            weight_decay=2e-5,
            schedule="cosine",
            warmup=5 / 600,
            ema_decay=0.99997,
        ),
    ),
    "cifar10": Config(
        **CIFAR10,
        workdir="runs/resnet_imagenet/cifar10",
        model=ResNetConfig(name="resnet20_cifar"),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.1, weight_decay=1e-4, schedule="step", milestones=(0.5, 0.75)
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "resnet_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
