"""Finds out which net a darknet file is of: by the number of its floats, as that is all that it says."""

import dataclasses
import math
import os
import pathlib
from typing import Any, NamedTuple

import jax

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import list_models, model_info
from cvjax.models.info import Preprocessing
from cvjax.weights.convert import COLLECTIONS, Variables, variable_shapes
from cvjax.weights.readers.darknet import read_darknet, read_floats

SUFFIX = ".weights"
_NETS = ("yolov1", "yolov1_tiny", "darknet_yolov1", "darknet_yolov1_tiny")


class DarknetWeights(NamedTuple):
    """Holds what a darknet file is of: a model's name, its number of classes and options, and its variables."""

    model: str
    num_classes: int
    options: dict[str, Any]
    variables: Variables


def is_darknet(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is of a darknet file, by its suffix."""
    return pathlib.Path(path).suffix.lower() == SUFFIX


def darknet_preprocessing(model: str) -> Preprocessing:
    """Returns what darknet's nets expect: red, green and blue from 0 to 1."""
    known = model_info(model).preprocessing
    assert known is not None  # `ModelInfo` fills it in
    return dataclasses.replace(known, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def open_darknet(path: str | os.PathLike[str], name: str | None = None) -> DarknetWeights:
    """Reads a file of YOLO's or of one of its classifiers, with the classes of the release.

    Args:
      path: Path of the file.
      name: Name of the model, where it is known.

    Raises:
      CheckpointError: There is no such file, or no net has as many floats.
      ConfigError: The named model is none of darknet's.
    """
    if name is not None and name not in _NETS:
        raise ConfigError(f"{path} is darknet's, and {name} is not; --as takes {', '.join(_NETS)}")
    found, sizes = len(read_floats(path)[0]), {}
    for model in (name,) if name else (net for net in list_models() if net in _NETS):
        info = model_info(model)
        classes = info.params_classes
        for options in ({}, {"batch_norm": True}):
            shapes = variable_shapes(model, {"num_classes": classes, **options})
            held = {key: shapes[key] for key in COLLECTIONS if key in shapes}
            floats = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(held))
            if floats == found:
                return DarknetWeights(model, classes, options, read_darknet(path, shapes))
            sizes[f"{model} with batch_norm" if options else model] = floats
    nearest = min(sizes, key=lambda net: abs(sizes[net] - found))
    raise CheckpointError(
        f"{path} has {found} floats, and the nearest of YOLO v1 and its classifiers, {nearest}, has {sizes[nearest]}; "
        "if it is one of these with other options or classes, start a run that has them with --init"
    )
