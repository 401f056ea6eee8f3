"""DenseNet (1608.06993) on ImageNet, or on anything else that has labeled images.

    python -m experiments.densenet_imagenet                ImageNet where it is prepared, else the embedded scenes
    python -m experiments.densenet_imagenet quick --resume continues a run that was stopped
    python -m experiments.densenet_imagenet imagenet --model.name densenet201 --model.checkpoint

| preset | recipe | steps x batch | published |
| --- | --- | --- | --- |
| quick | blocks of 2, 4, 4 and 2 layers, growth 16 | 300 x 32 | 0.46 top-1 in docs/results.md; chance 0.07 |
| imagenet | the paper's: 0.1 divided by ten after 30 and 60 | 450,410 x 256 | 74.98, 76.20, 77.42 (121, 169, 201) |
| cifar10 | the paper's DenseNet-BC, 100 layers, growth 12 | 300 epochs x 64 | 4.51% error with shifts and flips |

torchvision's weights have 74.43, 75.60 and 76.90, and 77.14 for 161 layers.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from experiments._shared import CIFAR10, MUON, QUICK_CLASSIFICATION, imagenet, imagenet_steps

_STEP = OptimizerConfig(name="nesterov", learning_rate=0.1, weight_decay=1e-4, schedule="step")

PRESETS = {
    "quick": replace(
        QUICK_CLASSIFICATION,
        model=ModelConfig("densenet121", block_sizes=(2, 4, 4, 2), growth=16, stem_features=32),
        steps=300,
        optim=MUON,
    ),
    "imagenet": replace(
        imagenet(256, imagenet_steps(90, 256)),
        model=ModelConfig("densenet121"),
        optim=replace(_STEP, milestones=(1 / 3, 2 / 3)),
    ),
    "cifar10": replace(
        CIFAR10,
        batch_size=64,
        epochs=300.0,
        model=ModelConfig("densenet100_k12_cifar"),
        optim=replace(_STEP, milestones=(0.5, 0.75)),
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="imagenet")
