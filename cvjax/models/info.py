"""The records that an architecture's table of variants is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn

from cvjax.imagenet import IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a net expects to have been done to a photograph. `cvjax.weights.preprocess` does it.

    Attributes:
      size: side of the square that is cropped from the center, in pixels; None crops nothing.
      resize: what the image's shorter side is brought to before that, in pixels; None leaves it.
      mean, std: of red, green and blue, in units of the full range: (pixel / 255 - mean) / std.
      interpolation: of the resizing, which averages what it shrinks as Pillow does.
      bgr: blue comes first, as in nets from Caffe.
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


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is published about a model.

    Attributes:
      name: as `create_model` takes it.
      task: "classification", "segmentation" or "detection".
      paper: arXiv number.
      year: of the paper.
      image_size: side of the square that `gmacs` is given for, in pixels; that of `preprocessing`, where it crops.
      params: trainable parameters with the default options and `params_classes` classes; published where the
        model exists elsewhere, otherwise counted.
      gmacs: multiply-adds of one forward pass, in units of 1e9; None where no figure is published.
      params_classes: number of classes that `params` is given for.
      preprocessing: of photographs, where weights do not bring their own (see `cvjax.weights.load_pretrained`). By
        default ImageNet's mean and deviation, and for classification an image 8/7 as large as the crop.
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
    """One line of an architecture's table: info, class, and the fields that tell it from its siblings."""

    info: ModelInfo
    module: type[nn.Module]
    settings: Mapping[str, Any]
