"""EfficientNet (1905.11946) on ImageNet, or on anything else that has labelled images.

    python -m experiments.efficientnet_imagenet            ImageNet where it is prepared, else the embedded scenes
    python -m experiments.efficientnet_imagenet quick      embedded scenes, a narrow, shallow net, CPU
    python -m experiments.efficientnet_imagenet imagenet --model.name efficientnet_b1 --input.crop 240 240
    python -m experiments.efficientnet_imagenet imagenet --model.phi 1 --input.crop 258 258
    python -m experiments.efficientnet_imagenet modern --model.dtype bfloat16
    python -m experiments.efficientnet_imagenet cifar10
    python -m experiments.efficientnet_imagenet quick --resume

Presets:

quick      B0 of half the width and a third of the depth, from scratch on the embedded scenes: 0.39 to 0.42 top-1 on val
           in 4 minutes on 2 busy cores (docs/results.md; chance is 0.07).
imagenet   the paper's recipe: 350 epochs in batches of 4096, RMSProp, 0.256 after 5 epochs of warm-up, times 0.97
           every 2.4 epochs, averaged weights, drop-connect, AutoAugment. The paper reports 77.1 top-1 for B0.
modern     the recipe of the weights that torchvision carries, which are timm's: 450 epochs in batches of 768,
           RandAugment, erasing; 77.69 top-1 for B0.
cifar10    100 epochs with images enlarged to 64 pixels, the net's strides being made for large ones.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.models.classification.efficientnet import compound_scale
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import CIFAR10_ENLARGED, QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class EfficientNetConfig(ModelConfig):
    """EfficientNet and its options; None is as the name says.

    Attributes:
      width_coefficient: multiplies B0's channels.
      depth_coefficient: multiplies B0's blocks a stage, rounded up.
      phi: scale B0 by the paper's rule instead (`compound_scale`, which also has the image size for --input.crop).
      dropout: before the classifier.
      drop_connect: probability of dropping the last block for an example; earlier ones in proportion.
      bn_momentum: decay of BatchNorm's running averages.
    """

    name: str = "efficientnet_b0"
    width_coefficient: float | None = None
    depth_coefficient: float | None = None
    phi: float | None = None
    dropout: float | None = None
    drop_connect: float = 0.2
    bn_momentum: float = 0.99

    def options(self) -> dict[str, Any]:
        """Those of `create_model`, with `phi` as the coefficients that it stands for."""
        options = super().options()
        phi = options.pop("phi", None)
        if phi is None:
            return options
        scaling = dataclasses.asdict(compound_scale(phi))
        scaling.pop("image_size")
        return options | scaling


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of EfficientNet."""

    model: EfficientNetConfig = EfficientNetConfig()
    workdir: str = "runs/efficientnet_imagenet"


# Magnitude 27 of 30 is what the authors' and timm's code, which count to 10, call 9.
_RAND_AUGMENT = {"policy": "rand", "num_ops": 2, "magnitude": 27, "interpolation": "bicubic"}

IMAGENET = Config(
    data="imagenet2012",
    workdir="runs/efficientnet_imagenet/imagenet",
    steps=imagenet_steps(350, 4096),
    batch_size=4096,
    label_smoothing=0.1,
    log_every=20,
    eval_every=imagenet_steps(1, 4096),
    checkpoint_every=imagenet_steps(1, 4096),
    input=ClassificationData(policy="auto", interpolation="bicubic", workers=16),
    eval=ClassificationEval(batch_size=1024, resize=256),
    optim=OptimizerConfig(
        name="rmsprop",
        learning_rate=0.256,
        weight_decay=1e-5,
        schedule="exponential",
        decay_every=2.4 / 350,
        decay_factor=0.97,
        warmup=5 / 350,
        ema_decay=0.9999,
    ),
)

PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/efficientnet_imagenet/quick",
        model=EfficientNetConfig(
            width_coefficient=0.5, depth_coefficient=0.3, dropout=0.0, drop_connect=0.0, bn_momentum=0.9
        ),
        steps=750,
        optim=OptimizerConfig(name="muon", learning_rate=0.04, weight_decay=0.01, warmup=0.05),
    ),
    "imagenet": IMAGENET,
    "modern": dataclasses.replace(
        IMAGENET,
        workdir="runs/efficientnet_imagenet/modern",
        steps=imagenet_steps(450, 768),
        batch_size=768,
        eval_every=imagenet_steps(1, 768),
        checkpoint_every=imagenet_steps(1, 768),
        input=ClassificationData(**_RAND_AUGMENT, erase=0.2, workers=16),
        optim=dataclasses.replace(IMAGENET.optim, learning_rate=0.048, decay_every=2.4 / 450, warmup=3 / 450),
    ),
    "cifar10": Config(
        **CIFAR10_ENLARGED,
        workdir="runs/efficientnet_imagenet/cifar10",
        optim=OptimizerConfig(name="nesterov", learning_rate=0.1, weight_decay=1e-4, schedule="cosine", warmup=0.05),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "efficientnet_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
