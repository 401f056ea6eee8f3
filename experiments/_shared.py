"""Values that several recipes share: the data sets as the papers use them, and small nets for the embedded scenes."""

from dataclasses import replace

from cvjax.experiment import ClusterConfig, OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval


def imagenet_steps(epochs: float, batch_size: int) -> int:
    """Returns the number of steps in so many passes over ImageNet's training split."""
    return round(epochs * 1_281_167 / batch_size)


def imagenet(batch_size: int, steps: int, log_every: int = 100) -> ClassificationConfig:
    """Returns a run on ImageNet, evaluated every epoch on the middle 224 pixels of images of 256."""
    epoch = imagenet_steps(1, batch_size)
    data, scoring = ClassificationData(workers=8), ClassificationEval(batch_size=256, resize=256)
    run = ClassificationConfig(data="imagenet2012", steps=steps, batch_size=batch_size, input=data, eval=scoring)
    return replace(run, log_every=log_every, eval_every=epoch, checkpoint_every=epoch)


MUON = OptimizerConfig(name="muon", learning_rate=0.04, weight_decay=0.01, warmup=0.05)
ADAMW = OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.05, schedule="cosine", warmup=0.05)
NESTEROV = OptimizerConfig(name="nesterov", learning_rate=0.1, weight_decay=1e-4, schedule="cosine", warmup=0.05)

# The embedded scenes at 96 pixels.
QUICK_CLASSIFICATION = ClassificationConfig(
    data="scenes",
    batch_size=32,
    label_smoothing=0.1,
    log_every=20,
    eval_every=10_000,
    checkpoint_every=10_000,
    input=ClassificationData(crop=(96, 96), min_area=0.5),
    eval=ClassificationEval(batch_size=30, resize=96),
)

# The paper of ResNet: 64,000 steps on crops of 32 pixels out of a border of 4, flips.
CIFAR10 = ClassificationConfig(
    data="cifar10",
    batch_size=128,
    epochs=164.0,
    log_every=50,
    eval_every=1955,
    checkpoint_every=1955,
    input=ClassificationData(crop=(32, 32), crop_mode="padded", workers=2),
    eval=ClassificationEval(batch_size=200),
)

# For nets whose strides are made for large images: CIFAR's are enlarged to 64 pixels.
CIFAR10_ENLARGED = replace(
    CIFAR10, epochs=100.0, input=ClassificationData(crop=(64, 64), crop_mode="padded", padding=8, workers=2)
)

# The embedded scenes in crops of 112 pixels.
QUICK_SEGMENTATION = SegmentationConfig(
    data="scenes",
    steps=1200,
    batch_size=16,
    jaccard_weight=1.0,
    loss_stride=2,
    log_every=50,
    eval_every=1200,
    checkpoint_every=300,
    input=SegmentationData(crop=(112, 112), min_scale=0.8, max_scale=1.25, scale_step=0.0),
    optim=ADAMW,
    eval=SegmentationEval(batch_size=10, pad_multiple=64, flip=True),
)

# Muon's steps are too long for layers that nothing normalizes, so the heads of detectors get a fraction.
QUICK_DETECTOR_OPTIM = replace(MUON, learning_rate=0.02, schedule="cosine")

# The embedded scenes at 128 pixels.
QUICK_DETECTION = DetectionConfig(
    data="scenes",
    batch_size=16,
    log_every=20,
    eval_every=10_000,
    checkpoint_every=500,
    input=DetectionData(crop=(128, 128), boxes=16, min_scale=0.8, max_scale=1.25, shift=0.1),
    optim=QUICK_DETECTOR_OPTIM,
    eval=DetectionEval(batch_size=10, boxes=32),
)

QUICK_PROPOSALS = replace(QUICK_DETECTION.input, crop=(160, 160), proposals=300)  # for those that find none

# A VGG for small images, from scratch; its dense layers are not normalized.
NARROW_VGG = {"stage_sizes": (1, 1, 2, 2, 2), "widths": (16, 32, 64, 128, 128), "hidden": 256, "batch_norm": True}
NARROW_REGIONS = NARROW_VGG | {"stage_sizes": (1, 1, 1, 2, 2)}
QUICK_DENSE_OPTIM = replace(QUICK_DETECTOR_OPTIM, head_lr_mult=0.2, lr_mults=(("backbone/head/*", 0.15),))


def voc07(config: DetectionConfig, split: str = "trainval2007") -> DetectionConfig:
    """Returns a run on VOC 2007's trainval ("07+12": trainval0712), scored on its test by 11 points as papers are."""
    data = replace(config.input, train_split=split, eval_split="test2007")
    return replace(config, data="voc_detection", input=data, eval=replace(config.eval, metric="map_voc07"))


def on_a_pod(config: SegmentationConfig, more: int, *, momentum: float) -> SegmentationConfig:
    """Returns a run with so many times the batch by the linear rule (1706.02677), in bfloat16, whose cluster JAX finds.

    The learning rate grows as the batch does, after a warm-up, and steps become fewer. BatchNorm's averages, of so many
    fewer steps, forget as much of the data as with `momentum` before.
    """
    assert config.steps is not None
    return replace(
        config,
        model=config.model.replace(dtype="bfloat16", norm={"momentum": momentum**more}),
        cluster=ClusterConfig(distributed=True),
        steps=config.steps // more,
        batch_size=config.batch_size * more,
        eval=replace(config.eval, batch_size=config.eval.batch_size * more),
        optim=replace(config.optim, learning_rate=config.optim.learning_rate * more, warmup=0.1),
    )
