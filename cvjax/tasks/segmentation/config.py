"""Configurations of segmentation runs."""

import dataclasses
from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

from cvjax.engine.config import DataConfig, EvalConfig, RunConfig
from cvjax.tasks.segmentation.crf import CRF_SYNTAX, CRFConfig, format_crf, parse_crf
from cvjax.tasks.segmentation.loss import LossOptions
from cvjax.tasks.segmentation.task import MapScoring

CRFFlag = Annotated[
    CRFConfig | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar=CRF_SYNTAX,
        instance_from_str=lambda words: None if words[0] == "None" else parse_crf(words[0]),
        is_instance=lambda value: value is None or isinstance(value, CRFConfig),
        str_from_instance=lambda value: ["None" if value is None else format_crf(value)],
    ),
]
"""A dense CRF as one word of a command line: `v1`, `v2`, `off`, or its numbers separated by commas."""


@dataclasses.dataclass(frozen=True)
class SegmentationData(DataConfig):
    """How images with masks are read and varied. What a crop reaches beyond its image is not trained on.

    The crop of a net without padding is what it sees: the mask is so much smaller as its logits are, and the
    surroundings that an image lacks are its mirror image.

    Attributes: those of `DataConfig`, and
      void: labels in the masks that mean "ignored", beside 255.
      resize: height and width that images are brought to first; None leaves them as they are.
      min_scale, max_scale, scale_step: of the random scale before the crop; step 0 draws from all between.
      mask_values: what a folder's masks hold for the classes, in their order, such as 0 255; empty for class numbers.
      flip_vertical: probability of mirroring top and bottom.
      rotate: turn by random multiples of 90 degrees; crops are then square.
      elastic: deviation of the random displacements on a grid of 3x3 nodes, in pixels; 10 in U-Net, 0 is off.
      border_weight: of pixels between two cells that touch, in the loss, beside their class's; 10 in U-Net, 0 is off.
      border_sigma: how fast that falls with the distances to both, in pixels.
      cells: the class whose connected components are these cells.
    """

    crop: tuple[int, int] = (513, 513)
    void: tuple[int, ...] = ()
    resize: tuple[int, int] | None = None
    min_scale: float = 0.5
    max_scale: float = 2.0
    scale_step: float = 0.25
    mask_values: tuple[int, ...] = ()
    flip_vertical: float = 0.0
    rotate: bool = False
    elastic: float = 0.0
    border_weight: float = 0.0
    border_sigma: float = 5.0
    cells: int = 1


@dataclasses.dataclass(frozen=True)
class SegmentationEval(MapScoring, EvalConfig):
    """How a split with masks is scored. Every pixel counts at the image's native size.

    Attributes: those of `EvalConfig` and of `MapScoring`, and
      pad_multiple: images are padded to sides that are multiples of it, and those alike share a batch: each shape
        compiles once. None pads all to one shape, as the papers' evaluation does. Images of a net without padding are
        not padded.
      scales: the image at each of these, probabilities averaged.
      flip: add the mirrored image at each scale.
      window: height and width of a sliding window, or of the logits of a tile of a net without padding; None sees the
        image whole.
      overlap: fraction of a window shared with the next.
      em_thresholds: of the probability of `input.cells`, at which pixel, Rand and warping error are counted, each
        reported at its best (see `cvjax.tasks.segmentation.membranes`); empty counts none.
    """

    pad_multiple: int | None = 64
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 1 / 3
    crf: CRFFlag = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.crf, dict):  # as a checkpoint has it
            object.__setattr__(self, "crf", CRFConfig(**self.crf))


@dataclasses.dataclass(frozen=True)
class SegmentationConfig(LossOptions, RunConfig):
    """A segmentation run.

    Attributes: those of `RunConfig` and of `LossOptions`, and
      loss_stride: the loss looks at every n-th pixel of every n-th row.
      normalize_loss: divide the loss by the pixels that it sums over; False leaves the sum over an image (FCN).
      class_balance: power of median frequency balancing in the loss; 0 weighs all pixels alike, 1 all classes.
    """

    steps: int | None = 30_000
    loss_stride: int = 1
    normalize_loss: bool = True
    class_balance: float = 0.0
    input: SegmentationData = SegmentationData()
    eval: SegmentationEval = SegmentationEval()
