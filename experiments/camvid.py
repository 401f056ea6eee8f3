"""Street scenes of CamVid with U-Net or DeepLab v3+.

    python -m experiments.camvid quick --input.manual-dir FOLDER            a narrow U-Net from scratch, CPU
    python -m experiments.camvid quick_deeplab --input.manual-dir FOLDER    DeepLab v3+ on a ResNet-50, likewise
    python -m experiments.camvid camvid --input.manual-dir FOLDER           U-Net at full size
    python -m experiments.camvid camvid --model.name deeplabv3plus_resnet50 --init resnet50
    python -m experiments.camvid quick --resume                             continues a run that was stopped

FOLDER holds `train`, `trainannot`, `val`, ... as SegNet's authors publish them, or `train/images`, `train/masks`, ...
Without the flag the set is looked for as `camvid` or `CamVid` in the folder of prepared data sets, or as
`python -m cvjax.cli.prepare camvid` wrote it. It has 11 classes, unlabelled pixels do not count, and where there is a
split `test` the papers score that: `--input.eval-split test`.

Presets:

quick          a U-Net of width 16 on images of 180x240; docs/results.md has time and scores, beside the same net in
               PyTorch (`benchmarks/camvid_torch.py`).
quick_deeplab  DeepLab v3+ on a ResNet-50 at full width, on the same images; docs/results.md has time and scores.
camvid         the published size, 360x480, with SegNet's recipe (1511.00561): batches of 12, momentum 0.9 at a
               learning rate of 0.1, median frequency balancing. Of options that are None, the net's own count. On the
               test split 1611.09326 lists 46.4 mIoU for SegNet and 66.9 for its own 103 layers.
"""

import dataclasses
from collections.abc import Sequence

from cvjax.cli._main import run as run_command
from cvjax.engine.commandline import parse_experiment
from cvjax.engine.config import ModelConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.nn import Upsampling
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from cvjax.tasks.segmentation.kind import run


@dataclasses.dataclass(frozen=True)
class CamVidConfig(ModelConfig):
    """A U-Net or a DeepLab and its options; None leaves a choice to the architecture.

    Attributes:
      bn_momentum: decay of BatchNorm's running averages.
      width: channels of the first level, or of the backbone's stem.
      depth: U-Net: how often maps are halved.
      upsampling: U-Net: how the decoder doubles its maps.
      output_stride: DeepLab: 8, 16 or 32.
      aspp_rates: DeepLab: dilations in the pyramid at output stride 16.
      dropout: at the bottom, or after the pyramid.
    """

    name: str = "unet"
    bn_momentum: float = 0.9
    width: int | None = None
    depth: int | None = None
    upsampling: Upsampling | None = None
    output_stride: int | None = None
    aspp_rates: tuple[int, int, int] | None = None
    dropout: float | None = None


@dataclasses.dataclass(frozen=True)
class Config(SegmentationConfig):
    """A run on CamVid."""

    model: CamVidConfig = CamVidConfig()
    workdir: str = "runs/camvid"
    data: str = "camvid"


QUICK = Config(
    workdir="runs/camvid/quick",
    model=CamVidConfig(width=16, depth=4, bn_momentum=0.95),
    steps=1200,
    batch_size=8,
    jaccard_weight=1.0,
    log_every=20,
    eval_every=300,
    checkpoint_every=150,
    # Crops are never larger than the image, and whole cells of the lowest map.
    input=SegmentationData(crop=(160, 208), resize=(180, 240), min_scale=0.9, max_scale=1.5, scale_step=0.0),
    optim=OptimizerConfig(name="muon", learning_rate=0.02, weight_decay=0.01, schedule="cosine", warmup=0.05),
    eval=SegmentationEval(batch_size=8, pad_multiple=1),
)

PRESETS = {
    "quick": QUICK,
    "quick_deeplab": dataclasses.replace(
        QUICK,
        workdir="runs/camvid/quick_deeplab",
        model=CamVidConfig(name="deeplabv3plus_resnet50", output_stride=16, dropout=0.1),
        steps=240,
        eval_every=60,
        checkpoint_every=60,
        input=SegmentationData(crop=(180, 240), resize=(180, 240)),
        optim=OptimizerConfig(name="muon", learning_rate=0.04, weight_decay=0.01, warmup=0.05),
        eval=SegmentationEval(batch_size=4, pad_multiple=1),
    ),
    "camvid": Config(
        workdir="runs/camvid/camvid",
        steps=12_000,
        batch_size=12,
        class_balance=1.0,
        log_every=100,
        eval_every=1_000,
        checkpoint_every=500,
        input=SegmentationData(
            crop=(360, 480), resize=(360, 480), min_scale=0.75, max_scale=1.5, scale_step=0.0, workers=4
        ),
        optim=OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=5e-4, warmup=0.02),
        eval=SegmentationEval(batch_size=4, pad_multiple=1),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line; without a preset it is `quick`."""
    return parse_experiment(
        PRESETS,
        bare=QUICK,
        prog="python -m experiments.camvid",
        description=__doc__.splitlines()[0],
        argv=argv,
    )


def main() -> None:
    """Command line."""
    run(configure())


if __name__ == "__main__":
    run_command(main)
