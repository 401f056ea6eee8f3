"""Counts the kinds of errors (Hoiem et al., Diagnosing Error in Object Detectors, 2012; YOLO, 1506.02640)."""

from collections.abc import Sequence

import numpy as np

from cvjax.tasks.detection.metrics.rows import Truth, best_objects
from cvjax.tasks.detection.metrics.voc import NEITHER, RIGHT, Verdicts

KINDS = ("correct", "localization", "similar", "other", "background")
LEAST_OVERLAP = 0.1
"""Least IoU of a wrong detection with an object for the error to concern that object."""

VOC_SIMILAR = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)
"""The paper's groups of classes that look alike; names that the dataset does not have are ignored."""


def similar_classes(class_names: Sequence[str], groups: Sequence[Sequence[str]] = VOC_SIMILAR) -> np.ndarray:
    """Returns which pairs of different classes are together in a group, bool [C, C]."""
    table = np.zeros((len(class_names),) * 2, bool)
    for group in groups:
        members = np.array([name in group for name in class_names], bool)
        table |= members[:, None] & members
    np.fill_diagonal(table, False)
    return table


def error_kinds(verdicts: Verdicts, truth: Truth, similar: np.ndarray) -> np.ndarray:
    """Counts detections of each class by kind, among the best detections, one per object of the class.

    The kind of a detection is the first that applies:
      correct: It is right by VOC's rules.
      localization: It overlaps an object of its class with an IoU of at least 0.1, but by too little, or a better
        detection has found the object.
      similar: It overlaps an object of a similar class with such an IoU.
      other: It overlaps an object of any other class with such an IoU.
      background: It overlaps no object.

    Detections that count neither way are left out before.

    Args:
      verdicts: Result of `judge`.
      truth: Ground truth that was given to `judge`.
      similar: Result of `similar_classes`, bool [C, C].

    Returns:
      Number of detections by class and by `KINDS`, int64 [C, 5].
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
