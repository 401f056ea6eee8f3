"""FCN-32s, 16s and 8s on PASCAL VOC 2012, or on anything laid out like it.

    python -m experiments.fcn_voc                      VOC where it is prepared or found, else the embedded scenes
    python -m experiments.fcn_voc quick                embedded scenes, a narrow net, CPU
    python -m experiments.fcn_voc voc --init vgg16     all at once, from ImageNet weights
    python -m experiments.fcn_voc voc_32s --init vgg16, then voc_16s, then voc_8s: each starts from the one before
    python -m experiments.fcn_voc quick --resume       continues a run that was stopped

Any run starts from any other by its folder, which is how to train the narrow nets in stages:

    python -m experiments.fcn_voc quick --model.name fcn32s_vgg16 --workdir runs/fcn_voc/quick_32s
    python -m experiments.fcn_voc quick --model.name fcn16s_vgg16 --init runs/fcn_voc/quick_32s

Presets:

quick      a narrow FCN-8s with BatchNorm, from scratch on the embedded scenes.
voc        the journal version's recipe (1605.06211): one image a step, the loss of its pixels added up and not divided,
           0.99 momentum, FCN-8s at once with its skips scaled down. The paper has 62.7 mIoU for FCN-8s, 62.4 for 16s
           and 59.4 for 32s on its own split (seg11valid); the authors' code 65.5, 65.0 and 63.6.
voc_32s    the same in stages, with voc_16s and voc_8s after it:
voc_16s    from FCN-32s, a hundredth of its learning rate;
voc_8s     from FCN-16s, a hundredth of its learning rate.
voc_batch  the first version's (1411.4038): batches of 20, the mean over their pixels, 0.9 momentum; FCN-32s.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.models.segmentation.fcn import Alignment
from cvjax.nn import Upsampling
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from experiments._segmenters import configure_segmenter, main


@dataclasses.dataclass(frozen=True)
class FCNConfig(ModelConfig):
    """FCN on VGG-16 and its options.

    Attributes:
      alignment: `paper` pads the image by 100 pixels and crops; `same` pads each layer.
      upsampling: of all steps: `transposed` convolution, which starts as bilinear and is learnt, `transposed_fixed`, or
        a convolution after `nearest` or `bilinear` enlarging.
      last_upsampling: of the last step, where it is another.
      skip_scales: factors on the maps that are added on the way up, from deep to shallow.
      stage_sizes: convolutions in each of the backbone's five stages.
      widths: channels of each stage.
      hidden: channels of the two dense layers.
      batch_norm: normalise after every convolution of the backbone.
      dropout: of the dense layers.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: leave BatchNorm as the weights brought it.
    """

    name: str = "fcn8s_vgg16"
    alignment: Alignment = "paper"
    upsampling: Upsampling = "transposed"
    last_upsampling: Upsampling | None = "transposed_fixed"
    skip_scales: tuple[float, float] = (1.0, 1.0)
    stage_sizes: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    batch_norm: bool = False
    dropout: float = 0.5
    bn_momentum: float = 0.9
    freeze_bn: bool = False


@dataclasses.dataclass(frozen=True)
class Config(SegmentationConfig):
    """A run of FCN."""

    model: FCNConfig = FCNConfig()
    workdir: str = "runs/fcn_voc"


# Whole images: none of VOC's is larger than 500 pixels. What a crop reaches beyond its image is not trained on.
_WHOLE = SegmentationData(
    train_split="trainaug", crop=(500, 500), min_scale=1.0, max_scale=1.0, scale_step=0.0, flip=0.0, workers=8
)


def _heavy(name: str, learning_rate: float, skip_scales: tuple[float, float] = (1.0, 1.0)) -> Config:
    """One image a step, 100,000 of them."""
    return Config(
        data="voc_segmentation",
        model=FCNConfig(name=name, skip_scales=skip_scales),
        steps=100_000,
        batch_size=1,
        normalize_loss=False,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=5_000,
        input=_WHOLE,
        eval=SegmentationEval(batch_size=1, pad_multiple=32),
        optim=OptimizerConfig(
            name="sgd",
            learning_rate=learning_rate,
            momentum=0.99,
            weight_decay=5e-4,
            bias_multiplier=2.0,
            schedule="constant",
        ),
    )


PRESETS = {
    "quick": Config(
        data="scenes",
        workdir="runs/fcn_voc/quick",
        model=FCNConfig(
            alignment="same",
            last_upsampling=None,
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
    "voc": dataclasses.replace(_heavy("fcn8s_vgg16", 1e-10, (0.01, 0.0001)), workdir="runs/fcn_voc/voc"),
    "voc_32s": dataclasses.replace(_heavy("fcn32s_vgg16", 1e-10), workdir="runs/fcn_voc/voc_32s"),
    "voc_16s": dataclasses.replace(
        _heavy("fcn16s_vgg16", 1e-12), workdir="runs/fcn_voc/voc_16s", init="runs/fcn_voc/voc_32s"
    ),
    "voc_8s": dataclasses.replace(
        _heavy("fcn8s_vgg16", 1e-14), workdir="runs/fcn_voc/voc_8s", init="runs/fcn_voc/voc_16s"
    ),
    "voc_batch": Config(
        data="voc_segmentation",
        workdir="runs/fcn_voc/voc_batch",
        model=FCNConfig(name="fcn32s_vgg16"),
        steps=90_000,  # the paper's 175 epochs
        batch_size=20,
        eval_every=5_000,
        input=_WHOLE,
        eval=SegmentationEval(batch_size=4, pad_multiple=32),
        optim=OptimizerConfig(
            name="sgd",
            learning_rate=1e-4,
            momentum=0.9,
            weight_decay=5e-4,
            bias_multiplier=2.0,
            schedule="constant",
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line; without preset and data set, the one that this machine has data for."""
    return configure_segmenter(PRESETS, "fcn_voc", __doc__, argv)


if __name__ == "__main__":
    main(configure)
