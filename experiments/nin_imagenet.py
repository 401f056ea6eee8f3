"""Network in Network (1312.4400) on ImageNet, or on anything else that has labeled images.

    python -m experiments.nin_imagenet                     ImageNet where it is prepared, else the embedded scenes
    python -m experiments.nin_imagenet quick --resume      continues a run that was stopped
    python -m experiments.nin_imagenet cifar10             the paper's own experiment

| preset | recipe | steps x batch | published |
| --- | --- | --- | --- |
| quick | half the width, the embedded scenes | 1,300 x 32 | 0.39 top-1 in docs/results.md; chance 0.07 |
| imagenet | the authors' solver for Caffe | 450,000 x 64 | 59.36 top-1 |
| cifar10 | the paper's net, without its whitening | 164 epochs x 128 | 8.81% error with shifts and flips |
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.classification.config import ClassificationEval
from experiments._shared import ADAMW, CIFAR10, QUICK_CLASSIFICATION, imagenet

_SGD = OptimizerConfig(name="sgd", learning_rate=0.01, weight_decay=5e-4, schedule="step")

PRESETS = {
    "quick": replace(
        QUICK_CLASSIFICATION,
        model=ModelConfig("nin", width=0.5, dropout=0.0),
        steps=1300,
        optim=replace(ADAMW, learning_rate=4e-4),
    ),
    "imagenet": replace(
        imagenet(64, 450_000, log_every=200),
        model=ModelConfig("nin"),
        eval=ClassificationEval(batch_size=128, resize=256),
        optim=replace(_SGD, milestones=(200 / 450, 400 / 450)),
    ),
    "cifar10": replace(
        CIFAR10,
        model=ModelConfig("nin_cifar"),
        optim=replace(_SGD, learning_rate=0.05, weight_decay=1e-4, milestones=(0.6, 0.85), warmup=0.02),
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="imagenet")
