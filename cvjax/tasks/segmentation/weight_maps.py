"""Computes loss weights for microscopy: narrow borders between touching cells weigh more (U-Net, 1505.04597)."""

import cv2
import numpy as np

_REACH = 5.0
"""Sigmas beyond which a border is not looked for; there the weight has fallen to 4e-6 of its peak."""


def border_weights(mask: np.ndarray, cells: int, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """Computes w0 exp(-(d1 + d2)^2 / 2 sigma^2) outside the cells, for the distances d1, d2 to the two nearest cells.

    Cells are the connected components (by edges, not by corners) of a class. Distances are Euclidean, between the
    centers of pixels. The weight is 0 inside the cells, and where the second nearest cell is 5 sigma or more away.

    Args:
      mask: Integer labels [H, W].
      cells: Label of the cells.
      w0: Weight at d1 = d2 = 0.
      sigma: Standard deviation in pixels.

    Returns:
      float32 [H, W], the term that equation 2 of the paper adds to the weights of the classes.
    """
    inside = mask == cells
    count, instances, boxes, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=4)
    far = np.float32(_REACH * sigma)
    nearest, second = np.full(mask.shape, far, np.float32), np.full(mask.shape, far, np.float32)
    reach = int(np.ceil(far))
    for instance in range(1, count):
        left, top, width, height = boxes[instance, :4]
        window = (
            slice(max(0, top - reach), min(mask.shape[0], top + height + reach)),
            slice(max(0, left - reach), min(mask.shape[1], left + width + reach)),
        )
        others = (instances[window] != instance).astype(np.uint8)
        distance = cv2.distanceTransform(others, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # The last bits depend on where in memory the mask lies. Squared distances are whole numbers, so round those.
        distance = np.sqrt(np.rint(np.square(distance)))
        one, two = nearest[window], second[window]
        np.minimum(two, np.maximum(one, distance), out=two)
        np.minimum(one, distance, out=one)
    weights = w0 * np.exp(-((nearest + second) ** 2) / np.float32(2 * sigma**2))
    return np.where(inside | (second >= far), 0, weights).astype(np.float32)


def loss_weights(
    mask: np.ndarray,
    cells: int,
    w0: float,
    sigma: float,
    class_weights: tuple[float, ...] | None = None,
) -> np.ndarray:
    """Computes the weight of every pixel, the weight of its class plus that of the border that it lies in.

    Args:
      mask: Integer labels [H, W]. Labels outside the classes get the last class's weight; the task ignores them.
      cells, w0, sigma: Arguments of `border_weights`; `w0` 0 turns it off.
      class_weights: Weight of each class, to balance their frequencies; None gives all the weight 1.

    Returns:
      float32 [H, W].
    """
    weights = np.ones(mask.shape, np.float32)
    if class_weights is not None:
        weights = np.take(np.asarray(class_weights, np.float32), mask, mode="clip")
    return weights + border_weights(mask, cells, w0, sigma) if w0 else weights
