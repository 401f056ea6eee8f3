"""Decides how often each example is drawn, so that rare classes are seen more often."""

import concurrent.futures
import os
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from cvjax.data.config import DataConfig
from cvjax.data.dataset import Dataset
from cvjax.data.decode import decode_label_numbers
from cvjax.data.drawing.fraction import labels_of
from cvjax.errors import DataError


def shares_of(data: DataConfig, source: Dataset) -> np.ndarray | None:
    """Returns the probability with which each example is drawn; None where each is drawn once in an epoch.

    Raises:
      DataError: A record that is read for its classes is damaged.
    """
    if not data.balance:
        return None
    return balanced_shares(source, data.balance, data.balance_threshold, skip=data.on_bad_record == "skip")


def balanced_shares(source: Dataset, power: float, threshold: float = 1.0, *, skip: bool = False) -> np.ndarray:
    """Returns the probability with which each example is drawn, float64 [N] with the sum 1.

    Of labeled images it is proportional to (1 / number of images with that label) ** power, so that with a power of 1
    all classes are equally likely. Of images with masks or boxes it is proportional to LVIS's repeat factor
    (1908.03195): the largest, over the classes in the image, of max(1, (threshold / f) ** (power / 2)), where f is the
    share of images that show the class. With a power of 1 that is the paper's square root.

    Args:
      source: Data set; of one that tells no labels without its images, all records are read.
      power: Number above 0.
      threshold: Share of images below which a class counts as rare.
      skip: Whether damaged records count as showing nothing, instead of ending the run.

    Raises:
      DataError: A record is damaged.
    """
    labels = labels_of(source)
    shown = [np.array([label]) for label in labels] if labels is not None else classes_shown(source, skip=skip)
    classes = len(source.class_names)
    lengths = np.array([len(found) for found in shown])
    flat = np.concatenate([*shown, np.zeros(0, np.int64)]).astype(np.int64)
    counts = np.bincount(flat, minlength=classes).astype(np.float64)
    if labels is not None or (len(source) and "label" in source[0]):
        factors = np.maximum(counts, 1.0) ** -power
        weights = np.full(len(shown), factors[counts > 0].min(initial=1.0))  # of a record that was skipped
        weights[lengths > 0] = factors[flat]
    else:
        shares = np.maximum(counts, 1.0) / len(source)
        factors = np.maximum(1.0, (threshold / shares) ** (power / 2))
        weights = np.array([factors[found].max(initial=1.0) for found in shown])
    return weights / weights.sum()


def classes_shown(source: Dataset, *, skip: bool = False) -> list[np.ndarray]:
    """Returns the classes that each record shows, without repetition: its label, or those of its boxes or its mask.

    Images are not decoded. A mask's ignored pixels show nothing.

    Args:
      source: Data set, of which all records are read.
      skip: Whether a damaged record shows nothing, instead of ending the run.

    Raises:
      DataError: A record is damaged.
    """

    def shown(index: int) -> np.ndarray:
        try:
            return _classes_in(cast(Mapping[str, Any], source[index]), source)
        except DataError:
            if not skip:
                raise
            return np.zeros(0, np.int64)

    if not len(source):
        return []
    first = shown(0)  # opens the files, before threads ask for them
    with concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        try:
            return [first, *pool.map(shown, range(1, len(source)))]
        finally:
            pool.shutdown(cancel_futures=True)


def _classes_in(record: Mapping[str, Any], source: Dataset) -> np.ndarray:
    if "label" in record:
        return np.array([record["label"]], np.int64)
    if "labels" in record:
        return np.unique(record["labels"]).astype(np.int64)
    masks = "classes" if "classes" in record else "mask"  # Beside "classes", "mask" numbers objects.
    classes = len(source.class_names)
    numbers = np.unique(decode_label_numbers(record[masks], str(record["id"])))
    return numbers[(numbers < classes) & ~np.isin(numbers, source.void)].astype(np.int64)
