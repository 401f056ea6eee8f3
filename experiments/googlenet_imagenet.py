"""GoogLeNet (1409.4842) on ImageNet, or on anything else that has labelled images.

    python -m experiments.googlenet_imagenet               ImageNet where it is prepared, else the embedded scenes
    python -m experiments.googlenet_imagenet quick         embedded scenes, a narrow net, CPU
    python -m experiments.googlenet_imagenet imagenet --model.naive True
    python -m experiments.googlenet_imagenet batch_norm
    python -m experiments.googlenet_imagenet cifar10
    python -m experiments.googlenet_imagenet quick --resume  continues a run that was stopped

Presets:

quick       the net with BatchNorm at a quarter of its width, from scratch on the embedded scenes: 0.48 top-1 on val in
            3 to 4 minutes on 2 busy cores (docs/results.md; chance is 0.07).
imagenet    the net of 2014 with the quick solver of the Caffe model: 2.4 million steps of 32 images, the rate falling
            from 0.01 with the square root of what is left. It reports 68.7 top-1. Auxiliary losses weigh 0.3.
batch_norm  torchvision's net: 90 epochs in batches of 256; its weights, which came from TensorFlow, have 69.78 top-1.
cifar10     the net with BatchNorm on images enlarged to 64 pixels.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import CIFAR10_ENLARGED, QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class GoogLeNetConfig(ModelConfig):
    """GoogLeNet and its options; None is as the name says.

    Attributes:
      width: multiplies the channels.
      naive: inception blocks without reduction.
      aux: the two auxiliary classifiers.
      dropout: before the classifier.
      aux_dropout: in the auxiliary classifiers.
      bn_momentum: decay of BatchNorm's running averages.
    """

    name: str = "googlenet_original"
    width: float = 1.0
    naive: bool = False
    aux: bool = True
    dropout: float | None = None
    aux_dropout: float = 0.7
    bn_momentum: float = 0.9


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of GoogLeNet."""

    model: GoogLeNetConfig = GoogLeNetConfig()
    workdir: str = "runs/googlenet_imagenet"


IMAGENET = Config(
    data="imagenet2012",
    workdir="runs/googlenet_imagenet/imagenet",
    steps=2_400_000,
    batch_size=32,
    log_every=500,
    eval_every=imagenet_steps(1, 32),
    checkpoint_every=imagenet_steps(1, 32),
    input=ClassificationData(workers=8),
    eval=ClassificationEval(batch_size=256, resize=256),
    optim=OptimizerConfig(name="sgd", learning_rate=0.01, weight_decay=2e-4, schedule="poly", power=0.5),
)

PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/googlenet_imagenet/quick",
        model=GoogLeNetConfig(name="googlenet", width=0.25, dropout=0.0, aux_dropout=0.0),
        steps=450,
        optim=OptimizerConfig(name="muon", learning_rate=0.01, weight_decay=0.05, schedule="cosine", warmup=0.05),
    ),
    "imagenet": IMAGENET,
    "batch_norm": dataclasses.replace(
        IMAGENET,
        workdir="runs/googlenet_imagenet/batch_norm",
        model=GoogLeNetConfig(name="googlenet"),
        steps=imagenet_steps(90, 256),
        batch_size=256,
        log_every=100,
        eval_every=imagenet_steps(1, 256),
        checkpoint_every=imagenet_steps(1, 256),
        optim=OptimizerConfig(name="nesterov", learning_rate=0.1, weight_decay=1e-4, schedule="cosine", warmup=5 / 90),
    ),
    "cifar10": Config(
        **CIFAR10_ENLARGED,
        workdir="runs/googlenet_imagenet/cifar10",
        model=GoogLeNetConfig(name="googlenet"),
        optim=OptimizerConfig(name="nesterov", learning_rate=0.1, weight_decay=1e-4, schedule="cosine", warmup=0.05),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "googlenet_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
