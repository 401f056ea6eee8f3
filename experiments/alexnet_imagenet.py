"""AlexNet (2012) on ImageNet, or on anything else that has labelled images.

    python -m experiments.alexnet_imagenet                 ImageNet where it is prepared, else the embedded scenes
    python -m experiments.alexnet_imagenet quick           embedded scenes, narrow dense layers, CPU
    python -m experiments.alexnet_imagenet imagenet --model.activation tanh
    python -m experiments.alexnet_imagenet torchvision
    python -m experiments.alexnet_imagenet cifar10
    python -m experiments.alexnet_imagenet quick --resume  continues a run that was stopped

Presets:

quick        the one-tower net with narrow dense layers, from scratch on the embedded scenes: 0.37 top-1 on val in under
             3 minutes on 2 cores (docs/results.md; chance is 0.07).
imagenet     the paper: two groups, local response normalisation, 90 epochs in batches of 128, the rate divided by ten
             three times, colour noise along the principal components, ten crops in the test: 59.3 top-1, 81.8 top-5.
             Crops are of random area here, where the paper's are of random place alone.
torchvision  the one-tower net with torchvision's recipe, which reports 56.52 top-1.
cifar10      the one-tower net on images enlarged to 64 pixels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import CIFAR10_ENLARGED, QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class AlexNetConfig(ModelConfig):
    """AlexNet and its options.

    Attributes:
      activation: the paper's rectifier, or what it is compared with.
      hidden: channels of the dense layers.
      dropout: of the dense layers.
    """

    name: str = "alexnet_grouped"
    activation: Literal["relu", "sigmoid", "tanh"] = "relu"
    hidden: int = 4096
    dropout: float = 0.5


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of AlexNet."""

    model: AlexNetConfig = AlexNetConfig()
    workdir: str = "runs/alexnet_imagenet"


IMAGENET = Config(
    data="imagenet2012",
    workdir="runs/alexnet_imagenet/imagenet",
    steps=imagenet_steps(90, 128),
    batch_size=128,
    log_every=100,
    eval_every=imagenet_steps(1, 128),
    checkpoint_every=imagenet_steps(1, 128),
    input=ClassificationData(crop=(227, 227), pca_noise=0.1, workers=8),
    eval=ClassificationEval(batch_size=128, resize=256, crops="ten"),
    optim=OptimizerConfig(
        name="sgd", learning_rate=0.01, weight_decay=5e-4, schedule="step", milestones=(0.4, 0.65, 0.85)
    ),
)

PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/alexnet_imagenet/quick",
        model=AlexNetConfig(name="alexnet", hidden=256, dropout=0.1),
        steps=900,
        optim=OptimizerConfig(name="adamw", learning_rate=5e-4, weight_decay=0.05, schedule="cosine", warmup=0.05),
    ),
    "imagenet": IMAGENET,
    "torchvision": dataclasses.replace(
        IMAGENET,
        workdir="runs/alexnet_imagenet/torchvision",
        model=AlexNetConfig(name="alexnet"),
        input=ClassificationData(workers=8),
        eval=ClassificationEval(batch_size=256, resize=256),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.01, weight_decay=1e-4, schedule="step", milestones=(1 / 3, 2 / 3)
        ),
    ),
    "cifar10": Config(
        **CIFAR10_ENLARGED,
        workdir="runs/alexnet_imagenet/cifar10",
        model=AlexNetConfig(name="alexnet", hidden=1024),
        optim=OptimizerConfig(name="sgd", learning_rate=0.01, weight_decay=5e-4, schedule="cosine"),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "alexnet_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
