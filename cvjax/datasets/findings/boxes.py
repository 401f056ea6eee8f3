"""Finds boxes of an image that a person may not have meant."""

from collections.abc import Iterator, Sequence

import numpy as np

from cvjax.data.annotations import Objects
from cvjax.datasets.findings.finding import Kind

SAME = 0.9
"""IoU above which two boxes of one class are taken for one object that was labeled twice."""
_SLACK = 1.0
"""Number of pixels that a box may reach beyond its image: tools differ by one in where they count from."""


def odd_boxes(
    objects: Objects, size: tuple[int, int], class_names: Sequence[str], tiny: float
) -> Iterator[tuple[Kind, str, tuple[int, ...]]]:
    """Yields the kind of each finding, its sentence, and the numbers of its boxes.

    Args:
      objects: Objects as they are stated, see "keep" of `cvjax.data.annotations.check_objects`.
      size: Height and width of the image, in pixels.
      class_names: Names of the classes by label.
      tiny: Length in pixels that the shorter side of a box should have.
    """
    boxes, (height, width) = objects.boxes, size
    inside = np.clip(boxes, 0, (width, height, width, height))
    empty = ~np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))  # not a number is not larger, either
    outside = ~empty & ~(inside[:, 2:] > inside[:, :2]).all(axis=1)
    beyond = np.abs(boxes - inside).max(axis=1, initial=0)
    clipped = ~empty & ~outside & (beyond > _SLACK)
    shorter = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    small = ~empty & ~outside & (shorter < tiny)

    def named(number: int) -> str:
        corners = ", ".join(f"{corner:g}" for corner in boxes[number])
        return f"box {number + 1}, {class_names[objects.labels[number]]} at ({corners})"

    for number in np.flatnonzero(empty).tolist():
        yield "empty-box", f"{named(number)}, is empty or inverted", (number,)
    for number in np.flatnonzero(outside).tolist():
        yield "box-outside", f"{named(number)}, is outside of {width}x{height} (width x height)", (number,)
    for number in np.flatnonzero(clipped).tolist():
        over = f"{beyond[number]:g} pixels beyond {width}x{height} (width x height)"
        yield "clipped-box", f"{named(number)}, reaches {over}", (number,)
    for number in np.flatnonzero(small).tolist():
        yield "tiny-box", f"{named(number)}, has a side of {shorter[number]:g} pixels", (number,)
    good = ~empty & ~outside & ~objects.crowd
    for first, second, overlap in same_boxes(inside, objects.labels, good):
        what = f"{named(first)}, and box {second + 1} have an IoU of {overlap:.2f}"
        yield "overlapping-boxes", what, (first, second)


def same_boxes(boxes: np.ndarray, labels: np.ndarray, good: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yields pairs of boxes [N, 4] of one class that overlap by more than `SAME`, with their IoU."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    corner, far = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared = np.prod(np.maximum(far - corner, 0), axis=2)
    overlap = shared / np.maximum(areas[:, None] + areas - shared, np.finfo(np.float32).tiny)
    pairs = (overlap > SAME) & (labels[:, None] == labels) & good[:, None] & good
    for first, second in np.argwhere(np.triu(pairs, 1)).tolist():
        yield first, second, float(overlap[first, second])
