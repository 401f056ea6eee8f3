"""Kinds of errors (Hoiem, Chodpathumwan and Dai, Diagnosing Error in Object Detectors, 2012; YOLO, 1506.02640)."""

from collections.abc import Sequence

import numpy as np

from cvjax.tasks.detection.metrics.rows import Truth, best_objects
from cvjax.tasks.detection.metrics.voc import NEITHER, RIGHT, Verdicts

KINDS = ("correct", "localization", "similar", "other", "background")
LEAST_OVERLAP = 0.1
"""IoU from which on an error has to do with an object."""

VOC_SIMILAR = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)
"""The paper's groups of classes that look alike; names that a data set has not say nothing."""


def similar_classes(class_names: Sequence[str], groups: Sequence[Sequence[str]] = VOC_SIMILAR) -> np.ndarray:
    """bool [C, C]: which two different classes are in a group together."""
    table = np.zeros((len(class_names),) * 2, bool)
    for group in groups:
        members = np.array([name in group for name in class_names], bool)
        table |= members[:, None] & members
    np.fill_diagonal(table, False)
    return table


def error_kinds(verdicts: Verdicts, truth: Truth, similar: np.ndarray) -> np.ndarray:
    """Of each class as many of the best detections as it has objects, by what they are.

    correct: right, as VOC's average precision has it. localization: an object of the class is overlapped by an IoU of
    at least 0.1, but by too little, or it has been found before. similar, other: so is one of a class that looks alike,
    or of any other. background: none is. The first that applies. Detections that count neither way are left out
    before.

    Args:
      verdicts: of `judge`.
      truth: that they were judged by.
      similar: bool [C, C], of `similar_classes`.

    Returns:
      int64 [C, 5], detections by class and by `KINDS`.
    """
    detections, label = verdicts.detections, verdicts.detections.label
    counted = np.flatnonzero(verdicts.verdict != NEITHER)
    # The rank of each within its class: stable by class, so still best first.
    order = counted[np.argsort(label[counted], kind="stable")]
    starts = np.searchsorted(label[order], label[order])
    chosen = order[np.arange(order.size) - starts < verdicts.objects[label[order]]]
    some = type(detections)(**{name: values[chosen] for name, values in vars(detections).items()})

    same = np.eye(len(similar), dtype=bool)
    near = [best_objects(some, truth, allowed)[1] >= LEAST_OVERLAP for allowed in (same, similar, ~same & ~similar)]
    right = verdicts.verdict[chosen] == RIGHT
    kind = np.select([right, *near], range(4), default=4)
    table = np.zeros((len(similar), len(KINDS)), np.int64)
    np.add.at(table, (some.label, kind), 1)
    return table
