"""Takes a part of a data set that stays the same: the part of a smaller fraction lies within that of a larger one."""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cvjax.data.dataset import Dataset
from cvjax.data.part import ids_of, part_of
from cvjax.errors import ConfigError


def take_fraction(source: Dataset, fraction: float) -> Dataset:
    """Returns a fraction of a data set, rounded up; all of it is the data set itself.

    Each example has a place in a row that its id or its file's name decides, or its index where nothing is known of it
    without reading it; the first of the row are taken. So 0.1 is a part of 0.2, and a file more changes little. Of
    images whose labels are known without reading them, each class gives the same fraction.

    Args:
      source: Data set.
      fraction: Number above 0, at most 1.

    Raises:
      ConfigError: The fraction is none.
    """
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"--input.fraction is {fraction:g}; give a number above 0 to 1")
    if fraction == 1.0:
        return source
    order = sorted(range(len(source)), key=_places(source))
    labels = labels_of(source)
    strata: dict[int, list[int]] = {}
    for row in order:
        strata.setdefault(0 if labels is None else int(labels[row]), []).append(row)
    # A product such as 0.7 * 10 is a little above its value, and must not count one more.
    taken = [rows[: math.ceil(round(fraction * len(rows), 9))] for rows in strata.values()]
    return part_of(source, sorted(row for rows in taken for row in rows), source.split)


def labels_of(source: Dataset) -> np.ndarray | None:
    """Returns the label of each image, int [N], of a data set that tells them without reading its images."""
    labels: Callable[[], np.ndarray | None] = getattr(source, "labels", lambda: None)
    return labels() if callable(labels) else None


def _places(source: Dataset) -> Callable[[int], tuple[bytes, int]]:
    names: Sequence[Any] = range(len(source))
    files = getattr(source, "image_files", lambda: None)()
    if hasattr(source, "ids"):
        names = ids_of(source)
    elif files is not None and len(files) == len(source):
        root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
        names = [os.path.relpath(os.path.abspath(file), root).replace(os.sep, "/") for file in files]
    return lambda row: (hashlib.blake2b(str(names[row]).encode(), digest_size=8).digest(), row)
