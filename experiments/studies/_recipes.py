"""How studies train nets, unless the question is about that: a recipe a task, made for minutes on a laptop."""

from cvjax.experiment import OptimizerConfig
from cvjax.tasks.classification.config import ClassificationConfig, ClassificationData, ClassificationEval
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval

# Images of 32 pixels, as CIFAR's are; others are brought to that size. Shifts and flips as in the paper of ResNet.
SMALL_IMAGES = ClassificationConfig(
    batch_size=64,
    input=ClassificationData(crop=(32, 32), crop_mode="padded"),
    optim=OptimizerConfig(name="nesterov", learning_rate=0.05, weight_decay=5e-4, schedule="cosine", warmup=0.05),
    eval=ClassificationEval(batch_size=200),
)

# Crops of the embedded scenes (or of photographs with masks), scored whole.
SMALL_MASKS = SegmentationConfig(
    batch_size=16,
    input=SegmentationData(crop=(96, 96), min_scale=0.8, max_scale=1.25, scale_step=0.0),
    optim=OptimizerConfig(name="adamw", learning_rate=2e-3, weight_decay=0.05, schedule="cosine", warmup=0.05),
    eval=SegmentationEval(batch_size=8, pad_multiple=32),
)
