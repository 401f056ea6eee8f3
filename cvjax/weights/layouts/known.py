"""Finds the layouts in which publishers have the weights of a model."""

import fnmatch

from cvjax.errors import ConfigError
from cvjax.weights.layouts.architecture import Architecture
from cvjax.weights.layouts.caffe import CAFFE
from cvjax.weights.layouts.classifiers import CLASSIFIERS
from cvjax.weights.layouts.deeplab import DEEPLAB_RELEASES
from cvjax.weights.layouts.detectors import DETECTORS
from cvjax.weights.layouts.torchvision import ARCHITECTURES
from cvjax.weights.layouts.unet import UNETS

# Layouts beside those of `layouts.torchvision`, by patterns of models' names; all that match count.
RELEASES = (CLASSIFIERS, CAFFE, DEEPLAB_RELEASES, DETECTORS, UNETS)


def layouts_of(name: str) -> tuple[Architecture, ...]:
    """Returns the layouts in which publishers have the weights of a model, see `cvjax.weights.layouts`; maybe none."""
    found: list[Architecture] = []
    for pattern, architecture in ARCHITECTURES.items():
        if not found and fnmatch.fnmatchcase(name, pattern):
            found += (architecture, *architecture.others)
    for table in RELEASES:
        for pattern, releases in table.items():
            found += releases if fnmatch.fnmatchcase(name, pattern) else ()
    return tuple(found)


def architectures(name: str) -> tuple[Architecture, ...]:
    """Returns the layouts in which publishers have the weights of a model.

    Raises:
      ConfigError: No conversion is known for the model.
    """
    found = layouts_of(name)
    if not found:
        known = ", ".join(dict.fromkeys((*ARCHITECTURES, *(name for table in RELEASES for name in table))))
        raise ConfigError(f"there is no conversion of weights for {name!r}; there is one for {known}")
    return found


def with_layout(name: str, layout: str) -> Architecture:
    """Returns the layout of a model that has a name.

    Raises:
      ConfigError: No conversion is known for the model, or it lacks the layout.
    """
    layouts = {architecture.layout: architecture for architecture in architectures(name)}
    if layout not in layouts:
        raise ConfigError(f"{name} has no layout {layout!r}; it has {', '.join(layouts)}")
    return layouts[layout]
