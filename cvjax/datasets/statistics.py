"""Computes figures of a data set that a loss may need."""

import numpy as np

from cvjax.datasets.masks.counts import MaskCounts
from cvjax.errors import DataError


def class_frequencies(counts: MaskCounts, where: str) -> np.ndarray:
    """Computes the frequency of each class, float64 [num_classes]; 0 if it is absent.

    It is the number of the class's pixels, divided by the number of all pixels in the masks in which the class occurs
    (Eigen and Fergus, 1411.4734). A class that is rare among the masks, but large where it occurs, is thus frequent.

    Args:
      counts: Counts of all masks of the split that trains.
      where: Name of the data set and the split, for the message.

    Raises:
      DataError: No mask has a labeled pixel.
    """
    pixels, beside = np.asarray(counts.pixels, np.int64), np.asarray(counts.beside, np.int64)
    if not pixels.sum():
        raise DataError(f"{where}: no mask has a labeled pixel; check the masks and the classes")
    return pixels / np.maximum(beside, 1)


def balancing_weights(frequencies: np.ndarray, power: float) -> tuple[float, ...]:
    """Computes the weight of each class, (median frequency / frequency) ** power; an absent class weighs 1.

    Power 1 is median frequency balancing (Eigen and Fergus, 1411.4734), which SegNet uses; 0.5 is milder.
    """
    present = frequencies[frequencies > 0]
    safe = np.where(frequencies > 0, frequencies, np.median(present))
    return tuple(float(w) for w in (np.median(present) / safe) ** power)
