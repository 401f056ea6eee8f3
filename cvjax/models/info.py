"""An architecture's table of variants is made of these records."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn

from cvjax.imagenet import IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Describes how photographs are prepared for a net. `cvjax.weights.preprocess` does it.

    Attributes:
      size: Side in pixels of the square that is cropped from the center; None crops nothing.
      resize: Length in pixels that the image's shorter side is brought to before the crop; None leaves it.
      mean, std: Mean and deviation of red, green and blue. A value becomes (pixel / 255 - mean) / std.
      interpolation: Interpolation of the resizing. Where it shrinks, it averages as Pillow does.
      bgr: Whether blue comes first, as in nets from Caffe.
    """

    size: int | None = 224
    resize: int | None = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    bgr: bool = False

    def __post_init__(self) -> None:
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation is bilinear or bicubic, not {self.interpolation}")
        if self.size is not None and self.resize is not None and self.resize < self.size:
            raise ValueError(f"a side of {self.resize} pixels is too short for a crop of {self.size}")


class Figure(NamedTuple):
    """Describes a published figure.

    Attributes:
      value: Value in percent.
      metric: What was measured: top-1, mIoU, mAP, ...
      data: On what.
      source: Who says so.
      more: What else is published of it, such as the value with a CRF.
    """

    value: float
    metric: str
    data: str
    source: str
    more: str = ""

    def __str__(self) -> str:
        """Returns the figure as tables show it, such as `71.59 top-1, ImageNet (torchvision)`."""
        more = f", {self.more}" if self.more else ""
        return f"{self.value:.2f} {self.metric}{more}, {self.data} ({self.source})"


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Holds the published facts about a model.

    Attributes:
      name: Name as `create_model` takes it.
      task: Task, one of "classification", "segmentation" and "detection".
      paper: Number of the paper on arXiv.
      year: Year of the paper.
      image_size: Side in pixels of the square that `gmacs` is given for. It is the size of `preprocessing`, where that
        crops.
      params: Number of trainable parameters with the default options and `params_classes` classes. It is published
        where the model exists elsewhere, and counted otherwise.
      gmacs: Multiply-adds of one forward pass, in units of 1e9; None where no number is published.
      params_classes: Number of classes that `params` is given for.
      preprocessing: Preparation of photographs, unless the weights bring their own (see
        `cvjax.weights.load_pretrained`). The default has ImageNet's mean and deviation. For classification it has an
        image 8/7 times as large as the crop.
      release: Release that the default options follow: the name of a layout of `cvjax.weights`, such as "torchvision"
        or "caffe"; "paper" where no release has just these options; "own" for a net of ours that no paper scored.
      figure: Accuracy that is published of this release, or by the paper; None where none was found.
    """

    name: str
    task: str
    paper: str
    year: int
    image_size: int
    params: int
    gmacs: float | None
    params_classes: int
    preprocessing: Preprocessing | None = None
    release: str = "paper"
    figure: Figure | None = None

    def __post_init__(self) -> None:
        preprocessing = self.preprocessing
        if preprocessing is None:
            crops = self.task == "classification"
            sides = (self.image_size, round(self.image_size * 8 / 7)) if crops else (None, None)
            preprocessing = Preprocessing(*sides)
        if preprocessing.size not in (None, self.image_size):
            raise ValueError(f"{self.name} has images of {self.image_size} pixels and crops of {preprocessing.size}")
        object.__setattr__(self, "preprocessing", preprocessing)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Holds one line of an architecture's table.

    Attributes:
      info: Published facts about the model.
      module: Class of the model.
      settings: Fields in which the model differs from the defaults of its class.
    """

    info: ModelInfo
    module: type[nn.Module]
    settings: Mapping[str, Any]
