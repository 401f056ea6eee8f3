"""SENet (1709.01507) on ImageNet, or on anything else that has labelled images.

    python -m experiments.senet_imagenet                   ImageNet where it is prepared, else the embedded scenes
    python -m experiments.senet_imagenet quick             embedded scenes, a narrow net, CPU
    python -m experiments.senet_imagenet imagenet --model.name seresnext50_32x4d
    python -m experiments.senet_imagenet cifar10
    python -m experiments.senet_imagenet quick --resume    continues a run that was stopped

Presets:

quick      the net of resnet_imagenet's `quick` with gates, from scratch on the embedded scenes: 0.51 top-1 on val in 2
           minutes on 2 cores (docs/results.md; chance is 0.07).
imagenet   the paper's recipe: 100 epochs in batches of 1024, 0.6 divided by ten every 30, label smoothing. The paper
           reports 76.71 top-1 for SE-ResNet-50 and 78.90 for SE-ResNeXt-50; timm's weights have 77.6 for SE-ResNet-50
           and 81.3 for `legacy_senet154`.
cifar10    an SE-ResNet-18 on images enlarged to 64 pixels.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from experiments._classifiers import CIFAR10_ENLARGED, QUICK, configure_classifier, imagenet_steps, main


@dataclasses.dataclass(frozen=True)
class SENetConfig(ModelConfig):
    """SE-ResNets and their options; None is as the name says.

    Attributes:
      width: channels of the stem.
      stage_sizes: blocks in each stage.
      squeeze_excite: reduction of the gates; 0 leaves them out.
      bn_momentum: decay of BatchNorm's running averages.
    """

    name: str = "seresnet50"
    width: int | None = None
    stage_sizes: tuple[int, ...] | None = None
    squeeze_excite: int | None = None
    bn_momentum: float = 0.9


@dataclasses.dataclass(frozen=True)
class Config(ClassificationConfig):
    """A run of SENet."""

    model: SENetConfig = SENetConfig()
    workdir: str = "runs/senet_imagenet"


PRESETS = {
    "quick": Config(
        **QUICK,
        workdir="runs/senet_imagenet/quick",
        model=SENetConfig(name="seresnet18", width=32, stage_sizes=(1, 1, 1, 1)),
        steps=400,
        optim=OptimizerConfig(name="muon", learning_rate=0.04, weight_decay=0.01, schedule="poly", warmup=0.05),
    ),
    "imagenet": Config(
        data="imagenet2012",
        workdir="runs/senet_imagenet/imagenet",
        steps=imagenet_steps(100, 1024),
        batch_size=1024,
        label_smoothing=0.1,
        log_every=50,
        eval_every=imagenet_steps(1, 1024),
        checkpoint_every=imagenet_steps(1, 1024),
        input=ClassificationData(workers=8),
        eval=ClassificationEval(batch_size=1024, resize=256),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.6, weight_decay=1e-4, schedule="step", milestones=(0.3, 0.6, 0.9)
        ),
    ),
    "cifar10": Config(
        **CIFAR10_ENLARGED,
        workdir="runs/senet_imagenet/cifar10",
        model=SENetConfig(name="seresnet18"),
        optim=OptimizerConfig(name="nesterov", learning_rate=0.1, weight_decay=1e-4, schedule="cosine", warmup=0.05),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line."""
    return configure_classifier(PRESETS, "senet_imagenet", __doc__, argv)


if __name__ == "__main__":
    main(configure)
