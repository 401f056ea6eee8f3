"""U-Net on the membranes of the ISBI 2012 challenge, or on any cells that are laid out like them.

    python -m experiments.unet_isbi quick --input.manual-dir FOLDER    a narrow net, CPU
    python -m experiments.unet_isbi isbi --input.manual-dir FOLDER     the paper's recipe
    python -m experiments.unet_isbi isbi --input.train-split all       trains on all thirty sections
    python -m experiments.unet_isbi quick --resume                     continues a run that was stopped

FOLDER holds `images` and `labels`, thirty pictures each; without the flag it is looked for as `isbi_membrane` in the
folder of prepared data sets. There is no official validation split, so the last six sections are held out; the other
folds are `--input.train-split train1 --input.eval-split val1` and so on (see `cvjax.datasets.isbi`).

Presets:

quick  the unpadded net at a quarter of its width, halved three times, on small tiles from scratch; docs/results.md has
       time and scores.
isbi   the paper's (1505.04597): one large tile a step, momentum 0.99, elastic deformation by 10 pixels on a grid of
       3x3, dropout at the end of the contracting path, borders between cells weighed by w0 = 10 and sigma = 5. The
       learning rate and the length are ours, as the paper names none. On the challenge's own test sections the paper
       has a warping error of 0.000353, a Rand error of 0.0382 and a pixel error of 0.0611.
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
class UNetConfig(ModelConfig):
    """The published U-Net and its options.

    Attributes:
      width: channels of the first level; doubled from level to level.
      depth: how often maps are halved.
      upsampling: how the decoder doubles its maps: `transposed`, or a convolution after `nearest` or `bilinear`.
      dropout: rate at the end of the contracting path.
    """

    name: str = "unet_original"
    width: int = 64
    depth: int = 4
    upsampling: Upsampling = "transposed"
    dropout: float = 0.5


@dataclasses.dataclass(frozen=True)
class Config(SegmentationConfig):
    """A run of U-Net on membranes."""

    model: UNetConfig = UNetConfig()
    workdir: str = "runs/unet_isbi"
    data: str = "isbi_membrane"


_THRESHOLDS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
"""Of the probability of a cell; each error is reported at its best, as the challenge does."""

_INPUT = SegmentationData(
    crop=(572, 572),
    min_scale=1.0,
    max_scale=1.0,
    scale_step=0.0,
    flip=0.5,
    flip_vertical=0.5,
    rotate=True,
    elastic=10.0,
    brightness=0.2,
    contrast=0.2,
    border_weight=10.0,
    border_sigma=5.0,
)

PRESETS = {
    "quick": Config(
        workdir="runs/unet_isbi/quick",
        model=UNetConfig(width=16, depth=3, dropout=0.2),
        steps=2400,
        batch_size=4,
        class_balance=0.5,
        log_every=50,
        eval_every=800,
        checkpoint_every=200,
        input=dataclasses.replace(_INPUT, crop=(220, 220)),
        optim=OptimizerConfig(name="adamw", learning_rate=2e-3, weight_decay=1e-4, schedule="cosine", warmup=0.03),
        eval=SegmentationEval(batch_size=1, window=(260, 260), em_thresholds=_THRESHOLDS),
    ),
    "isbi": Config(
        workdir="runs/unet_isbi/isbi",
        steps=30_000,
        batch_size=1,
        class_balance=1.0,
        log_every=100,
        eval_every=3_000,
        checkpoint_every=1_000,
        input=_INPUT,
        optim=OptimizerConfig(name="sgd", learning_rate=1e-3, momentum=0.99, weight_decay=0.0, schedule="poly"),
        eval=SegmentationEval(batch_size=1, em_thresholds=_THRESHOLDS),
    ),
}


def configure(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line; without a preset it is `quick`."""
    return parse_experiment(
        PRESETS,
        bare=PRESETS["quick"],
        prog="python -m experiments.unet_isbi",
        description=__doc__.splitlines()[0],
        argv=argv,
    )


def main() -> None:
    """Command line."""
    run(configure())


if __name__ == "__main__":
    run_command(main)
