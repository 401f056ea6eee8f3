"""The boxes of an example as rows of a batch: padded to a fixed number, mirrored, brought back to its image."""

import numpy as np

from cvjax.data.annotations import Objects

NO_CLASS = -1
"""The label of a row that is no box."""


def padded(objects: Objects, max_boxes: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Boxes f32[max_boxes,4], and the other entries of an example; rows behind the last object are not valid."""
    count = len(objects.boxes)
    boxes = np.zeros((max_boxes, 4), np.float32)
    labels = np.full(max_boxes, NO_CLASS, np.int32)
    difficult, crowd, valid = (np.zeros(max_boxes, bool) for _ in range(3))
    for rows, array in zip((boxes, labels, difficult, crowd), objects.arrays()):
        rows[:count] = array
    valid[:count] = True
    return boxes, {
        "labels": labels,
        "difficult": difficult,
        "crowd": crowd,
        "box_valid": valid,
        "dropped_boxes": np.asarray(objects.dropped_boxes, np.int32),
    }


def mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes [..., 4] of an image mirrored left and right."""
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    return np.stack([width - x2, y1, width - x1, y2], axis=-1)


def restore_boxes(boxes: np.ndarray, scale: np.ndarray, original_size: np.ndarray) -> np.ndarray:
    """Boxes of evaluation images in pixels of the images as they are stored, cut off at the border.

    Args:
      boxes: [..., N, 4].
      scale, original_size: [..., 2], as in the batch.
    """
    boxes = np.asarray(boxes, np.float32) / np.asarray(scale)[..., None, [1, 0, 1, 0]]
    return np.clip(boxes, 0, np.asarray(original_size, np.float32)[..., None, [1, 0, 1, 0]])
