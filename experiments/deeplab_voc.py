"""DeepLab v1 to v3+ on PASCAL VOC 2012, or on anything laid out like it.

    python -m experiments.deeplab_voc                  VOC where it is prepared or found, else the embedded scenes
    python -m experiments.deeplab_voc quick            embedded scenes, small crops, CPU
    python -m experiments.deeplab_voc voc --init resnet101.safetensors
    python -m experiments.deeplab_voc v1 --init vgg16  LargeFOV from ImageNet weights, its dense layers thinned out
    python -m experiments.deeplab_voc voc_pod          the same as voc on every host of a TPU pod
    python -m experiments.deeplab_voc quick --resume   continues a run that was stopped

Presets:

quick         a v3+ on a narrow, shallow ResNet, from scratch on the embedded scenes; docs/results.md has time and mIoU.
voc           the recipe of DeepLab v3 (1706.05587): trainaug, crop 513, batch 16, 30k steps, poly from 0.007. From
              ImageNet weights the papers and reference code report 77.2 mIoU for v3 and 78.9 for v3+ with ResNet-101
              at output stride 16.
voc_pod       the same schedule in bfloat16, the cluster found by JAX.

Each generation with its paper's recipe, and what that reports on val:

v1            LargeFOV on VGG-16 (1412.7062): batch 20, 6k steps, the rate divided by 10 every 2k, the loss on every
              eighth pixel; 62.3 mIoU, with the CRF that evaluation has 67.6.
v2_vgg16      ASPP-L (1606.00915): batch 10, 20k steps, poly; 69.0, with the CRF 71.6.
v2_resnet101  ASPP, three scales, frozen BatchNorm, poly from 2.5e-4; 76.4, with the CRF 77.7, both from COCO's weights.
v3            `voc` with DeepLab v3, 77.2.
v3plus        `voc` by its name, 78.9.

Narrow counterparts of `quick`, with its crops, batches and steps, from scratch on the embedded scenes:

quick_v1      LargeFOV on a narrow VGG with BatchNorm; `--model.output-stride 32` strides instead of dilating.
quick_v2      v2's summed branches and fused scales on the backbone of `quick`.
quick_v3      `quick` with the head of v3.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cvjax.engine.config import ModelConfig
from cvjax.engine.distributed import ClusterConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.nn import Upsampling
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from cvjax.tasks.segmentation.crf import CRFS
from experiments._segmenters import configure_segmenter, main


@dataclasses.dataclass(frozen=True)
class DeepLabConfig(ModelConfig):
    """DeepLab v3 or v3+ and their options.

    Attributes:
      output_stride: 8, 16 or 32; atrous rates follow it.
      multi_grid: factors on the dilations of the last stage's blocks.
      aux: a second head on stage 3, in training only.
      width: channels of the backbone's stem; 64 is the published one.
      stage_sizes: blocks in each of the backbone's four stages; None is as the name says.
      deep_stem: three 3x3 convolutions instead of the 7x7.
      separable_decoder: depthwise separable convolutions in v3+'s decoder; None leaves it to the architecture.
      low_level_features: channels of the first stage's map in v3+'s decoder; None is the paper's 48.
      upsampling: of v3+'s decoder: `transposed` convolution, `transposed_fixed`, or a convolution after `nearest` or
        `bilinear` enlarging; None stretches bilinearly, as published.
      aspp_features: channels of the pyramid and of the decoder.
      aspp_rates: dilations in the pyramid at output stride 16; the paper's are for crops of about 513 pixels.
      dropout: after the pyramid's projection.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: leave BatchNorm as the weights brought it.
    """

    name: str = "deeplabv3plus_resnet101"
    output_stride: int = 16
    multi_grid: tuple[int, int, int] = (1, 2, 4)
    aux: bool = False
    width: int = 64
    stage_sizes: tuple[int, int, int, int] | None = None
    deep_stem: bool = False
    separable_decoder: bool | None = None
    low_level_features: int | None = None
    upsampling: Upsampling | None = None
    aspp_features: int = 256
    aspp_rates: tuple[int, int, int] = (6, 12, 18)
    dropout: float = 0.1
    bn_momentum: float = 0.9997
    freeze_bn: bool = False


@dataclasses.dataclass(frozen=True)
class EarlyDeepLabConfig(ModelConfig):
    """DeepLab v1 or v2 and their options; None leaves a choice to the architecture.

    Attributes:
      output_stride: 8, 16 or 32; atrous rates follow it.
      aspp_rates: dilations at output stride 8, a branch for each: 12 in LargeFOV, 6 12 18 24 in ASPP-L.
      scales: of the image, v2: their scores are fused by the maximum.
      stage_sizes: convolutions or blocks in each of the backbone's stages, five of a VGG and four of a ResNet.
      widths: channels of a VGG's stages.
      width: channels of a ResNet's stem.
      hidden: channels of a VGG's fc6 and fc7.
      kernel_size: side of fc6's kernel.
      batch_norm: normalise after every convolution of a VGG.
      dropout: of fc6 and fc7.
      multi_grid: factors on the dilations of a ResNet's last blocks.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: leave BatchNorm as the weights brought it.
    """

    name: str = "deeplabv1_largefov_vgg16"
    output_stride: int = 8
    aspp_rates: tuple[int, ...] | None = None
    scales: tuple[float, ...] | None = None
    stage_sizes: tuple[int, ...] | None = None
    widths: tuple[int, int, int, int, int] | None = None
    width: int | None = None
    hidden: int | None = None
    kernel_size: int | None = None
    batch_norm: bool | None = None
    dropout: float | None = None
    multi_grid: tuple[int, int, int] | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False


@dataclasses.dataclass(frozen=True)
class Config(SegmentationConfig):
    """A run of DeepLab v3 or v3+."""

    model: DeepLabConfig = DeepLabConfig()
    workdir: str = "runs/deeplab_voc"


@dataclasses.dataclass(frozen=True)
class EarlyConfig(SegmentationConfig):
    """A run of DeepLab v1 or v2."""

    model: EarlyDeepLabConfig = EarlyDeepLabConfig()
    workdir: str = "runs/deeplab_voc"


VOC = Config(
    data="voc_segmentation",
    workdir="runs/deeplab_voc/voc",
    input=SegmentationData(train_split="trainaug", workers=8),
    eval=SegmentationEval(batch_size=16, pad_multiple=None),
    optim=OptimizerConfig(learning_rate=0.007, weight_decay=1e-4, schedule="poly"),
)

QUICK = Config(
    data="scenes",
    workdir="runs/deeplab_voc/quick",
    model=DeepLabConfig(
        name="deeplabv3plus_resnet18",
        multi_grid=(1, 1, 1),
        width=32,
        stage_sizes=(2, 1, 1, 1),
        aspp_features=48,
        aspp_rates=(2, 4, 6),
        low_level_features=16,
        separable_decoder=False,
        dropout=0.0,
        bn_momentum=0.95,
    ),
    steps=1210,
    batch_size=16,
    jaccard_weight=1.0,
    loss_stride=2,
    log_every=50,
    eval_every=1210,
    checkpoint_every=250,
    input=SegmentationData(crop=(112, 112), min_scale=0.8, max_scale=1.25, scale_step=0.0),
    optim=OptimizerConfig(name="muon", learning_rate=0.04, weight_decay=0.01, warmup=0.05),
    eval=SegmentationEval(batch_size=10, pad_multiple=64, flip=True),
)


def _early(name: str, model: EarlyDeepLabConfig, crf: str, optim: OptimizerConfig, **fields: Any) -> EarlyConfig:
    """v1 and v2: crops of 321 pixels, ten times the learning rate for the classifier and twice that for biases."""
    defaults = {
        "data": "voc_segmentation",
        "workdir": f"runs/deeplab_voc/{name}",
        "loss_stride": 8,
        "input": SegmentationData(train_split="trainaug", crop=(321, 321), min_scale=1.0, max_scale=1.0, workers=8),
    }
    optim = dataclasses.replace(optim, momentum=0.9, weight_decay=5e-4, head_multiplier=10.0, bias_multiplier=2.0)
    scoring = SegmentationEval(batch_size=8, pad_multiple=None, crf=CRFS[crf])
    return EarlyConfig(model=model, optim=optim, eval=scoring, **defaults | fields)


def _early_quick(name: str, model: EarlyDeepLabConfig, **fields: Any) -> EarlyConfig:
    """As `quick` but for the model."""
    same = {f.name: getattr(QUICK, f.name) for f in dataclasses.fields(SegmentationConfig)}
    return EarlyConfig(**same | {"model": model, "workdir": f"runs/deeplab_voc/{name}"} | fields)


PRESETS = {
    "quick": QUICK,
    "voc": VOC,
    "voc_pod": dataclasses.replace(
        VOC,
        workdir="runs/deeplab_voc/voc_pod",
        model=DeepLabConfig(dtype="bfloat16"),
        cluster=ClusterConfig(distributed=True),
    ),
    "v1": _early(
        "v1",
        EarlyDeepLabConfig(),
        "v1",
        OptimizerConfig(name="sgd", learning_rate=1e-3, schedule="step", milestones=(1 / 3, 2 / 3)),
        steps=6_000,
        batch_size=20,
    ),
    "v2_vgg16": _early(
        "v2_vgg16",
        EarlyDeepLabConfig(name="deeplabv2_vgg16"),
        "v2",
        OptimizerConfig(name="sgd", learning_rate=1e-3, schedule="poly"),
        steps=20_000,
        batch_size=10,
    ),
    "v2_resnet101": _early(
        "v2_resnet101",
        EarlyDeepLabConfig(name="deeplabv2_resnet101", freeze_bn=True),
        "v2",
        OptimizerConfig(name="sgd", learning_rate=2.5e-4, schedule="poly"),
        steps=20_000,
        batch_size=10,
        aux_weight=1.0,
        input=SegmentationData(
            train_split="trainaug", crop=(321, 321), min_scale=0.5, max_scale=1.5, scale_step=0.0, workers=8
        ),
    ),
    "v3": dataclasses.replace(
        VOC, workdir="runs/deeplab_voc/v3", model=dataclasses.replace(VOC.model, name="deeplabv3_resnet101")
    ),
    "v3plus": dataclasses.replace(VOC, workdir="runs/deeplab_voc/v3plus"),
    "quick_v1": _early_quick(
        "quick_v1",
        EarlyDeepLabConfig(
            aspp_rates=(4,),  # the crops are a third as large as the paper's
            stage_sizes=(1, 1, 2, 2, 2),
            widths=(16, 32, 64, 128, 128),
            hidden=256,
            batch_norm=True,
            dropout=0.0,
            bn_momentum=0.95,
        ),
        optim=OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.05, schedule="cosine", warmup=0.05),
    ),
    "quick_v2": _early_quick(
        "quick_v2",
        EarlyDeepLabConfig(
            name="deeplabv2_resnet18",
            output_stride=16,
            aspp_rates=(4, 8, 12, 16),  # 2, 4, 6 and 8 at this output stride
            width=32,
            stage_sizes=(2, 1, 1, 1),
            bn_momentum=0.95,
        ),
        aux_weight=1.0,
    ),
    "quick_v3": dataclasses.replace(
        QUICK,
        workdir="runs/deeplab_voc/quick_v3",
        model=dataclasses.replace(
            QUICK.model, name="deeplabv3_resnet18", low_level_features=None, separable_decoder=None
        ),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config | EarlyConfig:
    """The configuration of a command line; without preset and data set, the one that this machine has data for."""
    return configure_segmenter(PRESETS, "deeplab_voc", __doc__, argv)


if __name__ == "__main__":
    main(configure)
