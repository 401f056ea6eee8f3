"""AlexNet (Krizhevsky, Sutskever and Hinton, 2012) on ImageNet, or on anything else that has labeled images.

    python -m experiments.alexnet_imagenet                 ImageNet where it is prepared, else the embedded scenes
    python -m experiments.alexnet_imagenet quick --resume  continues a run that was stopped
    python -m experiments.alexnet_imagenet imagenet --model.activation tanh

| preset | recipe | steps x batch | published top-1 |
| --- | --- | --- | --- |
| quick | one tower, narrow dense layers, the scenes | 900 x 32 | 0.37 in docs/results.md; chance 0.07 |
| imagenet | the paper: two groups, LRN, color noise | 900,821 x 128 | 59.3 (top-5 81.8), ten crops |
| torchvision | torchvision's, one tower | 900,821 x 128 | 56.52 |
| cifar10 | images enlarged to 64 pixels | 100 epochs x 128 |  |

The paper cuts crops of random place; here they are of random area too.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.classification.config import ClassificationData, ClassificationEval
from experiments._shared import ADAMW, CIFAR10_ENLARGED, QUICK_CLASSIFICATION, imagenet, imagenet_steps

_STEP = OptimizerConfig(name="sgd", learning_rate=0.01, weight_decay=5e-4, schedule="step")

IMAGENET = replace(
    imagenet(128, imagenet_steps(90, 128)),
    model=ModelConfig("alexnet_grouped"),
    input=ClassificationData(crop=(227, 227), pca_noise=0.1, workers=8),
    eval=ClassificationEval(batch_size=128, resize=256, crops="ten"),
    optim=replace(_STEP, milestones=(0.4, 0.65, 0.85)),
)

PRESETS = {
    "quick": replace(
        QUICK_CLASSIFICATION,
        model=ModelConfig("alexnet", hidden=256, dropout=0.1),
        steps=900,
        optim=replace(ADAMW, learning_rate=5e-4),
    ),
    "imagenet": IMAGENET,
    "torchvision": replace(
        IMAGENET,
        model=ModelConfig("alexnet"),
        input=ClassificationData(workers=8),
        eval=ClassificationEval(batch_size=256, resize=256),
        optim=replace(_STEP, weight_decay=1e-4, milestones=(1 / 3, 2 / 3)),
    ),
    "cifar10": replace(
        CIFAR10_ENLARGED, model=ModelConfig("alexnet", hidden=1024), optim=replace(_STEP, schedule="cosine")
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="imagenet")
