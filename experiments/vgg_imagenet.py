"""VGG (1409.1556) on ImageNet, or on anything else that has labeled images.

    python -m experiments.vgg_imagenet                     ImageNet where it is prepared, else the embedded scenes
    python -m experiments.vgg_imagenet quick --resume      continues a run that was stopped
    python -m experiments.vgg_imagenet imagenet --model.name vgg19_bn

| preset | recipe | steps x batch | published top-1 |
| --- | --- | --- | --- |
| quick | 11 layers, BatchNorm, a quarter of the width | 500 x 32 | 0.38 in docs/results.md; chance 0.07 |
| imagenet | the paper: 0.01 divided by ten three times | 370,337 x 256 | see below |
| cifar10 | 11 layers, BatchNorm, on 32 pixels | 164 epochs x 128 |  |

torchvision reports 69.02, 69.93, 71.59, 72.38 for 11, 13, 16, 19 layers, and 70.37, 71.59, 73.36, 74.22 with BatchNorm.
Nets without BatchNorm start from He's initialization, where the paper starts deep nets from the layers of shallow ones.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from experiments._shared import ADAMW, CIFAR10, NESTEROV, QUICK_CLASSIFICATION, imagenet, imagenet_steps

PRESETS = {
    "quick": replace(
        QUICK_CLASSIFICATION,
        model=ModelConfig("vgg11_bn", widths=(16, 32, 64, 128, 128), hidden=128, dropout=0.0),
        steps=500,
        optim=ADAMW,
    ),
    "imagenet": replace(
        imagenet(256, imagenet_steps(74, 256)),
        model=ModelConfig("vgg16"),
        optim=OptimizerConfig(
            name="sgd", learning_rate=0.01, weight_decay=5e-4, schedule="step", milestones=(0.4, 0.65, 0.85)
        ),
    ),
    "cifar10": replace(
        CIFAR10,
        model=ModelConfig("vgg11_bn", hidden=512),
        optim=replace(NESTEROV, learning_rate=0.05, weight_decay=5e-4, warmup=0.0),
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="imagenet")
