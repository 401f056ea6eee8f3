"""VGG (1409.1556) on ImageNet, or on anything else that has labelled images.

    python -m experiments.vgg_imagenet                     ImageNet where it is prepared, else the embedded scenes
    python -m experiments.vgg_imagenet quick               embedded scenes, a narrow net, CPU
    python -m experiments.vgg_imagenet imagenet --model.name vgg19_bn
    python -m experiments.vgg_imagenet cifar10
    python -m experiments.vgg_imagenet quick --resume      continues a run that was stopped

Presets:

quick      an 11-layer net with BatchNorm and a quarter of the width, from scratch on the embedded scenes: 0.38 top-1 on
           val in under 3 minutes on 2 cores (docs/results.md; chance is 0.07).
imagenet   the paper's recipe: 74 epochs in batches of 256, 0.01 divided by ten three times, dropout. Nets without
           BatchNorm start from He's initialisation, where the paper starts deep nets from the layers of shallow ones.
           torchvision reports 69.02, 69.93, 71.59 and 72.38 top-1 for 11, 13, 16 and 19 layers, and 70.37, 71.59, 73.36
           and 74.22 with BatchNorm.
cifar10    an 11-layer net with BatchNorm on 32 pixels.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import CIFAR10, QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class VGGConfig(ModelConfig):
    """VGG and its options.

    Attributes:
      widths: channels of each stage.
      hidden: channels of the dense layers.
      dropout: of the dense layers.
      bn_momentum: decay of BatchNorm's running averages.
    """

    name: str = "vgg16"
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    dropout: float = 0.5
    bn_momentum: float = 0.9


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of VGG."""

    model: VGGConfig = VGGConfig()
    workdir: str = "runs/vgg_imagenet"


PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/vgg_imagenet/quick",
        model=VGGConfig(name="vgg11_bn", widths=(16, 32, 64, 128, 128), hidden=128, dropout=0.0),
        steps=500,
        optim=OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.05, schedule="cosine", warmup=0.05),
    ),
    "imagenet": Config(
        data="imagenet2012",
        workdir="runs/vgg_imagenet/imagenet",
        steps=imagenet_steps(74, 256),
        batch_size=256,
        log_every=100,
        eval_every=imagenet_steps(1, 256),
        checkpoint_every=imagenet_steps(1, 256),
        input=ClassificationData(workers=8),
        eval=ClassificationEval(batch_size=256, resize=256),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.01, weight_decay=5e-4, schedule="step", milestones=(0.4, 0.65, 0.85)
        ),
    ),
    "cifar10": Config(
        **CIFAR10,
        workdir="runs/vgg_imagenet/cifar10",
        model=VGGConfig(name="vgg11_bn", hidden=512),
        optim=OptimizerConfig(name="nesterov", learning_rate=0.05, weight_decay=5e-4, schedule="cosine"),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "vgg_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
