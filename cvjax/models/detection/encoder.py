"""Classifiers as the body of region-based detectors: the map that regions are read from, and the window of fc6."""

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from cvjax.errors import ConfigError
from cvjax.models.registry import create_model, model_options

STRIDE = 16
"""Pixels of the image for one of the map that regions are read from, in every encoder here."""


@dataclasses.dataclass(frozen=True)
class Tap:
    """Where a classifier is cut in two.

    Attributes:
      map: the name among its features of the last map before the last pooling.
      window: side of what its first dense layer sees, in pixels behind that pooling.
      options: that let it slide over images of any size, with pixel j of the map over pixel 16 * j of the image.
    """

    map: str
    window: int
    options: Mapping[str, Any]


TAPS = {
    "vgg*": Tap("stage5", 7, {"ceil_mode": True}),
    "alexnet*": Tap("conv5", 6, {"stem_padding": 5, "pool_padding": 1}),
    "zfnet*": Tap("conv5", 6, {}),
}


def tap_of(encoder: str) -> Tap:
    """Where the classifier of that name is cut.

    Raises:
      ConfigError: it has no dense layers to classify regions with, or there is none of that name.
    """
    for pattern, tap in TAPS.items():
        if fnmatch.fnmatchcase(encoder, pattern):
            return tap
    raise ConfigError(f"{encoder!r} cannot classify regions; the encoder is one of {', '.join(TAPS)}")


def make_encoder(encoder: str, dtype: Any, options: Mapping[str, Any], passed_on: Mapping[str, Any]) -> nn.Module:
    """A classifier without its last layer.

    Args:
      encoder: its name.
      dtype: of the computation.
      options: of the classifier; an unknown one is an error.
      passed_on: options of a detector, of which it gets those that it has.

    Raises:
      ConfigError: an unknown name or option.
    """
    known = model_options(encoder)
    shared = {name: value for name, value in passed_on.items() if name in known}
    return create_model(encoder, num_classes=0, dtype=dtype, **{**shared, **options})
