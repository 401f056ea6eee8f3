"""Defines the configurations of segmentation runs."""

import dataclasses
from typing import ClassVar

from cvjax.engine.config import EvalConfig, RunConfig
from cvjax.errors import ConfigError
from cvjax.models.config import ModelConfig
from cvjax.tasks.segmentation.crf_config import CRFConfig, CRFFlag
from cvjax.tasks.segmentation.loss import LossConfig
from cvjax.tasks.segmentation.transforms import SegmentationData


@dataclasses.dataclass(frozen=True)
class SegmentationEval(EvalConfig):
    """Configures how a split with masks is scored, with every pixel counted at the image's native size.

    Attributes: those of `EvalConfig`, and
      pad_multiple: Divisor of the sides of padded images. Images of one padded size share a batch, and each size
        compiles once. None pads all images to one size, as the papers' evaluation does. Images of a net without padding
        are not padded.
      scales: Scales of the image whose probabilities are averaged.
      flip: Whether to average with the mirrored image at each scale too.
      window: Height and width of a sliding window, or of the logits of a tile of a net without padding; None takes the
        whole image.
      overlap: Fraction of a window that it shares with the next.
      boundary: Whether to score the boundary IoU too (2103.16562), in bands with a width of 2% of an image's diagonal.
      trimap: Distances in pixels. For each, the mean IoU of the pixels within this distance of a border between labels
        is scored too (1210.5644).
      crf: Dense CRF that is applied to the probabilities first.
      em_thresholds: Thresholds of the probability of `input.cells` at which pixel, Rand and warping error are counted.
        Each error is reported at its best threshold, see `cvjax.tasks.segmentation.scores.membranes`. Probabilities are
        the net's own, before any CRF. Empty is off.

    Raises:
      ConfigError: A distance is below 1 pixel.
    """

    pad_multiple: int | None = 64
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 1 / 3
    boundary: bool = False
    trimap: tuple[int, ...] = ()
    crf: CRFFlag = None
    em_thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.crf, dict):  # as a checkpoint has it
            object.__setattr__(self, "crf", CRFConfig(**self.crf))
        if any(distance < 1 for distance in self.trimap):
            raise ConfigError(f"trimap distances are {self.trimap}; give whole numbers of pixels from 1 on")


@dataclasses.dataclass(frozen=True)
class SegmentationConfig(LossConfig, RunConfig):
    """Configures a segmentation run.

    Attributes: those of `RunConfig` and of `LossConfig`, and
      class_balance: Power of median frequency balancing in the loss; 0 gives all pixels the same weight, 1 all classes.
    """

    task: ClassVar[str] = "cvjax.tasks.segmentation.task:Segmentation"

    model: ModelConfig = ModelConfig("deeplabv3plus_resnet50")
    steps: int | None = 30_000
    class_balance: float = 0.0
    input: SegmentationData = SegmentationData()
    eval: SegmentationEval = SegmentationEval()
