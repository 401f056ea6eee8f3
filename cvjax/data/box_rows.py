"""Turns the boxes of an example into rows of a batch: pads them to a fixed number, mirrors and restores them."""

import numpy as np

from cvjax.data.annotations import Objects
from cvjax.errors import ConfigError

NO_CLASS = -1
"""The label of a row without a box."""
_ROUNDING = 1e-5  # of areas in float32


def padded(objects: Objects, max_boxes: int, max_proposals: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pads an example's boxes to f32[max_boxes,4], and its other entries to the same number of rows.

    Rows behind the last object are not valid. If there is room for proposals, the first ones in their order are taken.

    Returns:
      The boxes, and the other entries by their names in the batch.

    Raises:
      ConfigError: There is room for proposals, but none have been made.
    """
    count = len(objects.boxes)
    boxes = np.zeros((max_boxes, 4), np.float32)
    labels = np.full(max_boxes, NO_CLASS, np.int32)
    difficult, crowd, valid = (np.zeros(max_boxes, bool) for _ in range(3))
    for rows, array in zip((boxes, labels, difficult, crowd), objects.arrays()):
        rows[:count] = array
    valid[:count] = True
    more = {}
    if max_proposals:
        if objects.proposals is None:
            raise ConfigError(f"{max_proposals} proposals an image are asked for, and the data has none; make them.")
        some = objects.proposals[:max_proposals]
        more["proposals"] = np.zeros((max_proposals, 4), np.float32)
        more["proposals"][: len(some)] = some
        more["proposal_valid"] = np.arange(max_proposals) < len(some)
    return boxes, more | {
        "labels": labels,
        "difficult": difficult,
        "crowd": crowd,
        "box_valid": valid,
        "dropped_boxes": np.asarray(objects.dropped_boxes, np.int32),
    }


def moved(
    objects: Objects, corner: tuple[int, int], factors: np.ndarray, shown: tuple[int, int], keep: float
) -> Objects:
    """Moves the objects into a window of the image and scales them.

    Args:
      objects: Objects in pixels of the image.
      corner: Corner (top, left) of the window, in pixels of the image.
      factors: Pixels of the result per pixel of the image, for height and width.
      shown: Height and width of the result, in pixels.
      keep: Least fraction of a box's area that must be left. Boxes with less are dropped, and so are boxes whose center
        is outside. Proposals are dropped only where nothing is left.

    Returns:
      The remaining objects, cut off at the border of the result.
    """

    def move(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = (boxes.astype(np.float64) - (corner[1], corner[0], corner[1], corner[0])) * factors[[1, 0, 1, 0]]
        return boxes, np.clip(boxes, 0, (shown[1], shown[0], shown[1], shown[0])).astype(np.float32)

    boxes, clipped = move(objects.boxes)
    proposals = objects.proposals
    if proposals is not None:
        proposals = move(proposals)[1]
        proposals = proposals[(proposals[:, 2:] > proposals[:, :2]).all(axis=1)]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((center >= 0) & (center < (shown[1], shown[0]))).all(axis=1)
    left = np.prod(np.maximum(clipped[:, 2:] - clipped[:, :2], 0), axis=1)
    enough = (left > 0) & (left >= keep * np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * (1 - _ROUNDING))
    # Areas are those in the whole image, which a window does not show.
    return objects._replace(boxes=clipped, proposals=proposals, areas=None).take(inside & enough)


def mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirrors boxes [..., 4] left and right, for an image of this width."""
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    return np.stack([width - x2, y1, width - x1, y2], axis=-1)


def restore_boxes(boxes: np.ndarray, scale: np.ndarray, original_size: np.ndarray) -> np.ndarray:
    """Converts boxes of evaluation images to pixels of the stored images, and cuts them off at the border.

    Args:
      boxes: Boxes in pixels of the evaluation images, [..., N, 4].
      scale, original_size: Entries of the batch with these names, [..., 2].
    """
    boxes = np.asarray(boxes, np.float32) / np.asarray(scale)[..., None, [1, 0, 1, 0]]
    return np.clip(boxes, 0, np.asarray(original_size, np.float32)[..., None, [1, 0, 1, 0]])
