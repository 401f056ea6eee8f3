"""The classifiers that YOLO v1 starts from (1506.02640, section 2.2), on ImageNet or on anything with labeled images.

    python -m experiments.darknet_imagenet                     ImageNet where it is prepared, else the embedded scenes
    python -m experiments.darknet_imagenet tiny                those of Fast YOLO
    python -m experiments.yolo_voc voc0712 --init runs/darknet_imagenet/imagenet      detection, from there

| preset | recipe | steps x batch | published |
| --- | --- | --- | --- |
| quick | five narrow stages, the backbone of `yolo_voc quick` | 400 x 32 |  |
| imagenet | 20 convolutions at 224 pixels, poly of order 4 | 1,600,000 x 128 | 88% top-5 on one crop |
| tiny | likewise for the small net | 1,600,000 x 128 |  |

The paper trains for a week and names no recipe; this one is darknet's for its classifiers.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.classification.config import ClassificationEval
from experiments._shared import QUICK_CLASSIFICATION, QUICK_DETECTOR_OPTIM, imagenet

IMAGENET = replace(
    imagenet(128, 1_600_000, log_every=200),
    model=ModelConfig("darknet_yolov1", batch_norm=True),
    eval=ClassificationEval(batch_size=128, resize=256),
    optim=OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=5e-4, schedule="poly", power=4.0, warmup=0.001),
)
NARROW_STAGES = tuple(((3, features, 1),) for features in (16, 32, 64, 128, 192))

PRESETS = {
    "quick": replace(
        QUICK_CLASSIFICATION,
        model=ModelConfig("darknet_yolov1", stages=NARROW_STAGES, batch_norm=True, norm={"momentum": 0.95}),
        steps=400,
        optim=QUICK_DETECTOR_OPTIM,
    ),
    "imagenet": IMAGENET,
    "tiny": replace(IMAGENET, model=ModelConfig("darknet_yolov1_tiny", batch_norm=True)),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="imagenet")
