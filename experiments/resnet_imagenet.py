"""ResNet (1512.03385) on ImageNet, or on anything else that has labeled images.

    python -m experiments.resnet_imagenet                  ImageNet where it is prepared, else the embedded scenes
    python -m experiments.resnet_imagenet quick --resume   continues a run that was stopped
    python -m experiments.resnet_imagenet imagenet --model.name plain34 --model.no-zero-gamma
    python -m experiments.resnet_imagenet imagenet --model.deformable 3 4 --model.modulated
    python -m experiments.resnet_imagenet modern --model.dtype bfloat16
    python -m cvjax.cli.aot resnet_imagenet imagenet_pod --topology v5e:4x4      what it needs of each chip

| preset | recipe | steps x batch | published top-1 |
| --- | --- | --- | --- |
| quick | a ResNet-18 of half the width and depth, the scenes | 400 x 32 | 0.52 in docs/results.md |
| imagenet | Flax's example: warm-up, cosine, zero gamma | 112,603 x 1024 | 76.3 to 76.7; torchvision 76.13 |
| imagenet_pod | the same in bfloat16, 128 images on each of 16 chips | 56,301 x 2048 |  |
| modern | torchvision's second: mixup, CutMix, EMA, 176 px | 750,684 x 1024 | 80.86 with ResNet-50 |
| cifar10 | the paper's, ResNet-20 | 164 epochs x 128 | 91.25 |
"""

from dataclasses import replace

from cvjax.experiment import ClusterConfig, ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.classification.config import ClassificationData, ClassificationEval
from experiments._shared import CIFAR10, MUON, NESTEROV, QUICK_CLASSIFICATION, imagenet, imagenet_steps

IMAGENET = replace(
    imagenet(1024, imagenet_steps(90, 1024), log_every=50),
    model=ModelConfig("resnet50", zero_gamma=True),
    eval=ClassificationEval(batch_size=1024, resize=256),
    optim=replace(NESTEROV, learning_rate=0.4, warmup=5 / 90),
)

IMAGENET_POD = replace(
    imagenet(2048, imagenet_steps(90, 2048), log_every=50),
    # The same net, with a quarter fewer bytes through a TPU's memory (docs/aot.md).
    model=IMAGENET.model.replace(dtype="bfloat16", fold_norms=True),
    eval=replace(IMAGENET.eval, batch_size=2048),
    optim=replace(IMAGENET.optim, learning_rate=0.8),
    cluster=ClusterConfig(distributed=True),
)

PRESETS = {
    "quick": replace(
        QUICK_CLASSIFICATION, model=ModelConfig("resnet18", width=32, stage_sizes=(1, 1, 1, 1)), steps=400, optim=MUON
    ),
    "imagenet": IMAGENET,
    "imagenet_pod": IMAGENET_POD,
    "modern": replace(
        IMAGENET,
        model=ModelConfig("resnet50"),
        steps=imagenet_steps(600, 1024),
        label_smoothing=0.1,
        mixup=0.2,
        cutmix=1.0,
        input=ClassificationData(
            crop=(176, 176), auto_augment="trivial", random_erasing=0.1, repeated_aug=4, workers=16
        ),
        eval=ClassificationEval(batch_size=1024, crop=(224, 224), resize=232),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.5, weight_decay=2e-5, schedule="cosine", warmup=5 / 600, ema_decay=0.99997
        ),
    ),
    "cifar10": replace(
        CIFAR10,
        model=ModelConfig("resnet20_cifar"),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.1, weight_decay=1e-4, schedule="step", milestones=(0.5, 0.75)
        ),
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="imagenet")
