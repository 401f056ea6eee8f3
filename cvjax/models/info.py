"""The records that an architecture's table of variants is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is published about a model.

    Attributes:
      name: as `create_model` takes it.
      task: "classification" or "segmentation".
      paper: arXiv number.
      year: of the paper.
      image_size: side of the square that `gmacs` is given for, in pixels.
      params: trainable parameters with the default options and `params_classes` classes; published where the
        model exists elsewhere, otherwise counted.
      gmacs: multiply-adds of one forward pass, in units of 1e9; None where no figure is published.
      params_classes: number of classes that `params` is given for.
    """

    name: str
    task: str
    paper: str
    year: int
    image_size: int
    params: int
    gmacs: float | None
    params_classes: int


@dataclasses.dataclass(frozen=True)
class Variant:
    """One line of an architecture's table: info, class, and the fields that tell it from its siblings."""

    info: ModelInfo
    module: type[nn.Module]
    settings: Mapping[str, Any]
