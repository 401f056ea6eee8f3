"""Computes figures of a data set that a loss may need."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from cvjax.data.dataset import Dataset
from cvjax.data.decode import decode_mask
from cvjax.errors import DataError


def class_frequencies(source: Dataset, num_classes: int, void: tuple[int, ...] = (), sample: int = 256) -> np.ndarray:
    """Computes the share of each class among the labeled pixels, float64 [num_classes], adding up to 1.

    Args:
      source: Dataset with masks; its images are not decoded.
      num_classes: Number of classes. Labels at or above it, such as 255, do not count.
      void: Labels that mean "ignored".
      sample: Largest number of masks to read. They are evenly spaced, so that every host and every start finds the
        same.

    Raises:
      DataError: No mask could be read, or no mask has a labeled pixel.
    """
    counts = np.zeros(256, np.int64)
    for index in np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).round().astype(int)):
        record = cast(Mapping[str, Any], source[int(index)])
        try:
            mask = decode_mask(record["mask"], str(record["id"]), num_classes, void)
        except DataError:
            continue  # training meets it again, and stops or counts it as configured
        counts += np.bincount(mask.ravel(), minlength=256)
    counts = counts[:num_classes]
    if not counts.sum():
        raise DataError(f"{source.name}/{source.split}: no mask has a labeled pixel; check the masks and the classes")
    return counts / counts.sum()


def balancing_weights(frequencies: np.ndarray, power: float) -> tuple[float, ...]:
    """Computes the weight of each class, (median frequency / frequency) ** power; an absent class weighs 1.

    Power 1 is median frequency balancing (Eigen and Fergus, 1411.4734), which SegNet uses; 0.5 is milder.
    """
    present = frequencies[frequencies > 0]
    safe = np.where(frequencies > 0, frequencies, np.median(present))
    return tuple(float(w) for w in (np.median(present) / safe) ** power)
