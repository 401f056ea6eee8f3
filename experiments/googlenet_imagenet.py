"""GoogLeNet (1409.4842) on ImageNet, or on anything else that has labeled images.

    python -m experiments.googlenet_imagenet               ImageNet where it is prepared, else the embedded scenes
    python -m experiments.googlenet_imagenet quick --resume  continues a run that was stopped
    python -m experiments.googlenet_imagenet imagenet --model.naive

| preset | recipe | steps x batch | published top-1 |
| --- | --- | --- | --- |
| quick | BatchNorm, a quarter of the width, the scenes | 450 x 32 | 0.48 in docs/results.md |
| imagenet | the net of 2014, the quick solver of Caffe's model | 2,400,000 x 32 | 68.7 |
| batch_norm | torchvision's net | 450,410 x 256 | 69.78 (weights from TensorFlow) |
| cifar10 | BatchNorm, images enlarged to 64 pixels | 100 epochs x 128 |  |

Auxiliary losses weigh 0.3.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from experiments._shared import CIFAR10_ENLARGED, MUON, NESTEROV, QUICK_CLASSIFICATION, imagenet, imagenet_steps

PRESETS = {
    "quick": replace(
        QUICK_CLASSIFICATION,
        model=ModelConfig("googlenet", width=0.25, dropout=0.0, aux_dropout=0.0),
        steps=450,
        optim=replace(MUON, learning_rate=0.01, weight_decay=0.05, schedule="cosine"),
    ),
    "imagenet": replace(
        imagenet(32, 2_400_000, log_every=500),
        model=ModelConfig("googlenet_original"),
        optim=OptimizerConfig(name="sgd", learning_rate=0.01, weight_decay=2e-4, schedule="poly", power=0.5),
    ),
    "batch_norm": replace(
        imagenet(256, imagenet_steps(90, 256)), model=ModelConfig("googlenet"), optim=replace(NESTEROV, warmup=5 / 90)
    ),
    "cifar10": replace(CIFAR10_ENLARGED, model=ModelConfig("googlenet"), optim=NESTEROV),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="imagenet")
