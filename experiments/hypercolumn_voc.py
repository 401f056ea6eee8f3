"""Hypercolumns as a classifier of pixels on PASCAL VOC 2012, or on anything laid out like it.

    python -m experiments.hypercolumn_voc                  VOC where it is prepared or found, else the embedded scenes
    python -m experiments.hypercolumn_voc quick            embedded scenes, a narrow net, CPU
    python -m experiments.hypercolumn_voc voc --init vgg16
    python -m experiments.hypercolumn_voc quick --resume   continues a run that was stopped

Presets:

quick  a narrow VGG with BatchNorm, from scratch on the embedded scenes.
voc    hypercolumns of the second pooling, the fourth stage and fc7 of VGG-16. The paper (1411.5752) scores masks inside
       of detected boxes (see `hypercolumn_masks`) and parts of persons, so it has neither a figure nor a recipe for
       this; the recipe is FCN's in batches of 20 (1411.4038), with the new layers at ten times the rate.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.nn import Upsampling
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from experiments._segmenters import configure_segmenter, main


@dataclasses.dataclass(frozen=True)
class HypercolumnConfig(ModelConfig):
    """Hypercolumns on VGG-16 and their options.

    Attributes:
      taps: the maps that a hypercolumn is made of: `stage1` to `stage5`, `pool1` to `pool5`, `fc7`.
      kernel_size: side of what each classifier sees of a map, in its pixels.
      upsampling: of the scores; None interpolates them, as the paper does.
      stage_sizes: convolutions in each of the backbone's five stages.
      widths: channels of each stage.
      hidden: channels of the two dense layers.
      batch_norm: normalise after every convolution of the backbone.
      dropout: of the dense layers.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: leave BatchNorm as the weights brought it.
    """

    name: str = "hypercolumn_vgg16"
    taps: tuple[str, ...] = ("pool2", "stage4", "fc7")
    kernel_size: int = 1
    upsampling: Upsampling | None = None
    stage_sizes: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    batch_norm: bool = False
    dropout: float = 0.5
    bn_momentum: float = 0.9
    freeze_bn: bool = False


@dataclasses.dataclass(frozen=True)
class Config(SegmentationConfig):
    """A run of hypercolumns."""

    model: HypercolumnConfig = HypercolumnConfig()
    workdir: str = "runs/hypercolumn_voc"


PRESETS = {
    "quick": Config(
        data="scenes",
        workdir="runs/hypercolumn_voc/quick",
        model=HypercolumnConfig(
            stage_sizes=(1, 1, 2, 2, 2),
            widths=(16, 32, 64, 128, 128),
            hidden=256,
            batch_norm=True,
            dropout=0.0,
            bn_momentum=0.95,
        ),
        steps=1200,
        batch_size=16,
        jaccard_weight=1.0,
        loss_stride=2,
        log_every=50,
        eval_every=1200,
        checkpoint_every=300,
        input=SegmentationData(crop=(112, 112), min_scale=0.8, max_scale=1.25, scale_step=0.0),
        optim=OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.05, schedule="cosine", warmup=0.05),
        eval=SegmentationEval(batch_size=10, pad_multiple=64, flip=True),
    ),
    "voc": Config(
        data="voc_segmentation",
        workdir="runs/hypercolumn_voc/voc",
        steps=30_000,
        batch_size=20,
        eval_every=5_000,
        input=SegmentationData(train_split="trainaug", crop=(321, 321), workers=8),
        eval=SegmentationEval(batch_size=4, pad_multiple=32),
        optim=OptimizerConfig(
            name="sgd",
            learning_rate=1e-4,
            momentum=0.9,
            weight_decay=5e-4,
            head_multiplier=10.0,
            bias_multiplier=2.0,
            schedule="poly",
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line; without preset and data set, the one that this machine has data for."""
    return configure_segmenter(PRESETS, "hypercolumn_voc", __doc__, argv)


if __name__ == "__main__":
    main(configure)
