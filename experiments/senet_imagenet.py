"""SENet (1709.01507) on ImageNet, or on anything else that has labeled images.

    python -m experiments.senet_imagenet                   ImageNet where it is prepared, else the embedded scenes
    python -m experiments.senet_imagenet quick --resume    continues a run that was stopped
    python -m experiments.senet_imagenet imagenet --model.name seresnext50_32x4d

| preset | recipe | steps x batch | published top-1 |
| --- | --- | --- | --- |
| quick | the net of `resnet_imagenet quick` with gates | 400 x 32 | 0.51 in docs/results.md; chance 0.07 |
| imagenet | the paper's: 0.6 divided by ten every 30 | 125,114 x 1024 | 76.71 SE-ResNet-50, 78.90 SE-ResNeXt-50 |
| cifar10 | SE-ResNet-18, images enlarged to 64 pixels | 100 epochs x 128 |  |

timm's weights have 77.6 for SE-ResNet-50 and 81.3 for `legacy_senet154`.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.classification.config import ClassificationEval
from experiments._shared import CIFAR10_ENLARGED, MUON, NESTEROV, QUICK_CLASSIFICATION, imagenet, imagenet_steps

PRESETS = {
    "quick": replace(
        QUICK_CLASSIFICATION, model=ModelConfig("seresnet18", width=32, stage_sizes=(1, 1, 1, 1)), steps=400, optim=MUON
    ),
    "imagenet": replace(
        imagenet(1024, imagenet_steps(100, 1024), log_every=50),
        model=ModelConfig("seresnet50"),
        label_smoothing=0.1,
        eval=ClassificationEval(batch_size=1024, resize=256),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.6, weight_decay=1e-4, schedule="step", milestones=(0.3, 0.6, 0.9)
        ),
    ),
    "cifar10": replace(CIFAR10_ENLARGED, model=ModelConfig("seresnet18"), optim=NESTEROV),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="imagenet")
