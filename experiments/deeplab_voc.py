"""DeepLab v3 and v3+ on PASCAL VOC 2012, or on anything laid out like it.

    python -m experiments.deeplab_voc                  VOC where it is prepared or found, else the embedded scenes
    python -m experiments.deeplab_voc quick            embedded scenes, small crops, CPU
    python -m experiments.deeplab_voc voc --init resnet101.safetensors
    python -m experiments.deeplab_voc voc_pod          the same on every host of a TPU pod
    python -m experiments.deeplab_voc quick --resume   continues a run that was stopped

Presets:

quick     a v3+ on a narrow, shallow ResNet, from scratch on the embedded scenes; docs/results.md has time and mIoU.
voc       the recipe of DeepLab v3 (1706.05587): trainaug, crop 513, batch 16, 30k steps, poly from 0.007. From
          ImageNet weights the papers and reference code report 77.2 mIoU for v3 and 78.9 for v3+ with ResNet-101
          at output stride 16.
voc_pod   the same schedule in bfloat16, the cluster found by JAX.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from cvjax.cli._main import run as run_command
from cvjax.data.voc import find_voc
from cvjax.runs.commandline import configure_run
from cvjax.runs.config import EvalConfig, InputConfig, ModelConfig, SegmentationConfig
from cvjax.runs.segmentation import run
from cvjax.training.distributed import ClusterConfig
from cvjax.training.optimizer import OptimizerConfig


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
    aspp_features: int = 256
    aspp_rates: tuple[int, int, int] = (6, 12, 18)
    dropout: float = 0.1
    bn_momentum: float = 0.9997
    freeze_bn: bool = False


@dataclasses.dataclass(frozen=True)
class Config(SegmentationConfig):
    """A run of DeepLab."""

    model: DeepLabConfig = DeepLabConfig()
    workdir: str = "runs/deeplab_voc"


VOC = Config(
    data="voc_segmentation",
    workdir="runs/deeplab_voc/voc",
    input=InputConfig(train_split="trainaug", workers=8),
    eval=EvalConfig(batch_size=16, pad_multiple=None),
    optim=OptimizerConfig(learning_rate=0.007, weight_decay=1e-4, schedule="poly"),
)

PRESETS = {
    "quick": Config(
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
        input=InputConfig(crop=(112, 112), min_scale=0.8, max_scale=1.25, scale_step=0.0),
        optim=OptimizerConfig(name="muon", learning_rate=0.04, weight_decay=0.01, warmup=0.05),
        eval=EvalConfig(batch_size=10, pad_multiple=64, flip=True),
    ),
    "voc": VOC,
    "voc_pod": dataclasses.replace(
        VOC,
        workdir="runs/deeplab_voc/voc_pod",
        model=DeepLabConfig(dtype="bfloat16"),
        cluster=ClusterConfig(distributed=True),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line; without preset and data set, the one that this machine has data for."""
    return configure_run(
        PRESETS,
        lambda where, config: (
            find_voc(where, config.input.manual_dir and pathlib.Path(config.input.manual_dir)) is not None
        ),
        instead="voc",
        what="no VOC 2012 is prepared or unpacked",
        module="experiments.deeplab_voc",
        docstring=__doc__,
        argv=argv,
    )


def main() -> None:
    """Command line."""
    run(configure())


if __name__ == "__main__":
    run_command(main)
