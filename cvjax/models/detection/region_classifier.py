"""Some classifiers can classify regions; this says where each is cut into convolutions and dense layers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from cvjax.errors import ConfigError
from cvjax.models.classification.alexnet import AlexNet
from cvjax.models.classification.vgg import VGG
from cvjax.models.classification.zfnet import ZFNet

STRIDE = 16
"""Pixels of the image per pixel of the map that regions are read from. It is the same in every classifier here."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """Says where a classifier is cut in two.

    Attributes:
      level: Name among its features of the last map before the last pooling.
      window: Side of the map that its first dense layer sees, in pixels behind that pooling.
      sliding: Fields that let it slide over images of any size, with pixel j of the map over pixel 16 * j of the image.
    """

    level: str
    window: int
    sliding: Mapping[str, Any]


_CUTS: Mapping[type[nn.Module], Cut] = {
    VGG: Cut("stage5", 7, {"ceil_mode": True}),
    AlexNet: Cut("conv5", 6, {"stem_padding": 5, "pool_padding": 1}),
    ZFNet: Cut("conv5", 6, {}),
}


def cut_of(backbone: nn.Module) -> Cut:
    """Returns where a classifier is cut.

    Raises:
      ConfigError: A classifier without dense layers that could classify regions.
    """
    for kind, cut in _CUTS.items():
        if isinstance(backbone, kind):
            return cut
    names = ", ".join(kind.__name__ for kind in _CUTS)
    raise ConfigError(f"{type(backbone).__name__} cannot classify regions; the backbone is one of {names}")
