"""Network in Network (1312.4400) on ImageNet, or on anything else that has labelled images.

    python -m experiments.nin_imagenet                     ImageNet where it is prepared, else the embedded scenes
    python -m experiments.nin_imagenet quick               embedded scenes, CPU
    python -m experiments.nin_imagenet imagenet
    python -m experiments.nin_imagenet cifar10             the paper's own experiment
    python -m experiments.nin_imagenet quick --resume      continues a run that was stopped

Presets:

quick      the ImageNet net at half its width, from scratch on the embedded scenes: 0.39 top-1 on val in two and a half
           minutes on 2 cores (docs/results.md; chance is 0.07).
imagenet   the solver that the authors published for Caffe: 450,000 steps of 64 images, 0.01 divided by ten every
           200,000. They report 59.36 top-1.
cifar10    the paper's net, whose test error on CIFAR-10 is 8.81% with shifts and flips, after whitening, which is left
           out here.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import CIFAR10, QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class NINConfig(ModelConfig):
    """NIN and its options.

    Attributes:
      width: multiplies the features of all convolutions.
      dropout: of maps.
    """

    name: str = "nin"
    width: float = 1.0
    dropout: float = 0.5


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of NIN."""

    model: NINConfig = NINConfig()
    workdir: str = "runs/nin_imagenet"


PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/nin_imagenet/quick",
        model=NINConfig(width=0.5, dropout=0.0),
        steps=1300,
        optim=OptimizerConfig(name="adamw", learning_rate=4e-4, weight_decay=0.05, schedule="cosine", warmup=0.05),
    ),
    "imagenet": Config(
        data="imagenet2012",
        workdir="runs/nin_imagenet/imagenet",
        steps=450_000,
        batch_size=64,
        log_every=200,
        eval_every=imagenet_steps(1, 64),
        checkpoint_every=imagenet_steps(1, 64),
        input=ClassificationData(workers=8),
        eval=ClassificationEval(batch_size=128, resize=256),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.01, weight_decay=5e-4, schedule="step", milestones=(200 / 450, 400 / 450)
        ),
    ),
    "cifar10": Config(
        **CIFAR10,
        workdir="runs/nin_imagenet/cifar10",
        model=NINConfig(name="nin_cifar"),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.05, weight_decay=1e-4, schedule="step", milestones=(0.6, 0.85), warmup=0.02
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "nin_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
