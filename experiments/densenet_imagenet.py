"""DenseNet (1608.06993) on ImageNet, or on anything else that has labelled images.

    python -m experiments.densenet_imagenet                ImageNet where it is prepared, else the embedded scenes
    python -m experiments.densenet_imagenet quick          embedded scenes, a small net, CPU
    python -m experiments.densenet_imagenet imagenet --model.name densenet201 --model.checkpoint True
    python -m experiments.densenet_imagenet cifar10        the paper's DenseNet-BC of 100 layers and growth 12
    python -m experiments.densenet_imagenet quick --resume continues a run that was stopped

Presets:

quick      blocks of 2, 4, 4 and 2 layers with growth 16, from scratch on the embedded scenes: 0.46 top-1 on val in a
           minute and a half on 2 cores (docs/results.md; chance is 0.07).
imagenet   the paper's recipe: 90 epochs in batches of 256, 0.1 divided by ten after 30 and 60. The paper reports 74.98,
           76.20 and 77.42 top-1 for 121, 169 and 201 layers; torchvision 74.43, 75.60, 76.90, and 77.14 for 161.
cifar10    the paper's recipe: 300 epochs in batches of 64, 0.1 divided by ten after half and three quarters: 4.51%
           error with shifts and flips.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import CIFAR10, QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class DenseNetConfig(ModelConfig):
    """DenseNet and its options; None is as the name says.

    Attributes:
      block_sizes: layers in each block.
      growth: channels that a layer adds.
      stem_features: channels of the first convolution.
      checkpoint: compute maps anew in the backward pass instead of keeping them.
      bn_momentum: decay of BatchNorm's running averages.
    """

    name: str = "densenet121"
    block_sizes: tuple[int, ...] | None = None
    growth: int | None = None
    stem_features: int | None = None
    checkpoint: bool = False
    bn_momentum: float = 0.9


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of DenseNet."""

    model: DenseNetConfig = DenseNetConfig()
    workdir: str = "runs/densenet_imagenet"


_OPTIM = OptimizerConfig(name="nesterov", learning_rate=0.1, weight_decay=1e-4, schedule="step")

PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/densenet_imagenet/quick",
        model=DenseNetConfig(block_sizes=(2, 4, 4, 2), growth=16, stem_features=32),
        steps=300,
        optim=OptimizerConfig(name="muon", learning_rate=0.04, weight_decay=0.01, warmup=0.05),
    ),
    "imagenet": Config(
        data="imagenet2012",
        workdir="runs/densenet_imagenet/imagenet",
        steps=imagenet_steps(90, 256),
        batch_size=256,
        log_every=100,
        eval_every=imagenet_steps(1, 256),
        checkpoint_every=imagenet_steps(1, 256),
        input=ClassificationData(workers=8),
        eval=ClassificationEval(batch_size=256, resize=256),
        optim=dataclasses.replace(_OPTIM, milestones=(1 / 3, 2 / 3)),
    ),
    "cifar10": Config(
        **CIFAR10 | {"batch_size": 64, "epochs": 300.0},
        workdir="runs/densenet_imagenet/cifar10",
        model=DenseNetConfig(name="densenet100_k12_cifar"),
        optim=dataclasses.replace(_OPTIM, milestones=(0.5, 0.75)),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "densenet_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
