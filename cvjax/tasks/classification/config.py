"""Configurations of classification runs."""

import dataclasses
from typing import Literal

from cvjax.engine.config import DataConfig, EvalConfig, RunConfig
from cvjax.tasks.classification.transforms import Cut, Interpolation


@dataclasses.dataclass(frozen=True)
class ClassificationData(DataConfig):
    """How labelled images are read and varied.

    Attributes: those of `DataConfig`, and
      cut: `resized` cuts pieces of random area and shape and resizes them; `padded` cuts pieces of the crop's size
        from the image with a border.
      min_area: smallest piece as a fraction of the image; `resized` alone.
      max_aspect: most that a piece is wider than high, or higher than wide; `resized` alone.
      padding: width of the border in pixels; `padded` alone.
      interpolation: for enlarging, and for the resizing before an evaluation's crop.
      policy: RandAugment, TrivialAugment, or AutoAugment as found for ImageNet.
      num_ops, magnitude: of RandAugment; the magnitude from 0 to 30.
      erase: probability of erasing a rectangle.
      pca_noise: standard deviation of AlexNet's colour noise; 0.1 in the paper.
    """

    cut: Cut = "resized"
    min_area: float = 0.08
    max_aspect: float = 4 / 3
    padding: int = 4
    interpolation: Interpolation = "bilinear"
    policy: Literal["rand", "trivial", "auto"] | None = None
    num_ops: int = 2
    magnitude: int = 9
    erase: float = 0.0
    pca_noise: float = 0.0


@dataclasses.dataclass(frozen=True)
class ClassificationEval(EvalConfig):
    """How a split with labels is scored: on the middle of each image, or on ten crops of it.

    Attributes: those of `EvalConfig`, and
      crop: height and width of what the net sees; None is the training crop's.
      resize: length that the image's shorter side is brought to before; None is the crop's longer side.
      crops: `centre`, or `ten`: the corners and the middle of the square of `resize` pixels, each also mirrored, their
        probabilities averaged (AlexNet).
    """

    batch_size: int = 64
    crop: tuple[int, int] | None = None
    resize: int | None = None
    crops: Literal["centre", "ten"] = "centre"


@dataclasses.dataclass(frozen=True)
class ClassificationConfig(RunConfig):
    """A classification run.

    Attributes: those of `RunConfig`, and
      label_smoothing: share of the target that is spread evenly over all classes.
      mixup, cutmix: parameter of the Beta distribution that neighbours are mixed by; 0 is off. With both, each pair
        takes one of them.
    """

    aux_weight: float = 0.3
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    input: ClassificationData = ClassificationData()
    eval: ClassificationEval = ClassificationEval()
