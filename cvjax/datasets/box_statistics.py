"""What a set of boxes holds: how many of each class, how large, and how many in an image."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from cvjax.data.dataset import Dataset
from cvjax.data.decode import image_size
from cvjax.errors import DataError


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """The boxes of a class, or of all.

    Attributes:
      name: of the class.
      images: how many images show it.
      boxes, difficult, crowd: how many boxes, and how many of these are marked so.
      sides: square roots of the boxes' areas in pixels, their 5th, 50th and 95th percentiles; nan without boxes.
      share: the median of the same as a fraction of the square root of the image's area.
      aspect: the median of width by height.
    """

    name: str
    images: int
    boxes: int
    difficult: int
    crowd: int
    sides: tuple[float, float, float]
    share: float
    aspect: float


@dataclasses.dataclass(frozen=True)
class BoxCounts:
    """Figures of a source of boxes.

    Attributes:
      classes: one a class, in the order of their labels.
      total: of all classes.
      images, empty: how many images there are, and how many of these have no box.
      largest: the most boxes in an image, which `max_boxes` must hold in evaluation.
      dropped_boxes: bad boxes that the source left out.
    """

    classes: tuple[ClassCounts, ...]
    total: ClassCounts
    images: int
    empty: int
    largest: int
    dropped_boxes: int


def count_boxes(source: Dataset, advance: Callable[[], None] = lambda: None) -> BoxCounts:
    """Reads all annotations of a source of boxes; images are not decoded.

    Args:
      source: opened with the target "boxes".
      advance: called after every image, for a progress bar.

    Raises:
      DataError: there are no images, or a record is damaged.
    """
    if not len(source):
        raise DataError(f"{source.name}/{source.split}: there are no images; choose another split.")
    rows, counts, dropped = [], np.zeros(len(source), np.int64), 0
    for index in range(len(source)):
        record = cast(Mapping[str, Any], source[index])
        boxes, dropped = record["boxes"], dropped + record["dropped_boxes"]
        counts[index] = len(boxes)
        height, width = image_size(record["image"], record["id"])
        wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        side = np.sqrt(wide * high)
        columns = (np.full(len(boxes), index), side, side / np.sqrt(height * width), wide / high)
        rows.append(np.stack([*columns, record["labels"], record["difficult"], record["crowd"]], axis=1))
        advance()
    table = np.concatenate(rows)
    classes = tuple(_summary(name, table[table[:, 4] == label]) for label, name in enumerate(source.class_names))
    total = _summary("all", table)
    return BoxCounts(classes, total, len(source), int((counts == 0).sum()), int(counts.max()), dropped)


def _summary(name: str, table: np.ndarray) -> ClassCounts:
    """The figures of some boxes: rows of image, side, share, aspect, label, difficult, crowd."""
    image, side, share, aspect, _, difficult, crowd = table.T
    if len(table):
        sides, shares, aspects = np.percentile(side, (5, 50, 95)), np.median(share), np.median(aspect)
    else:
        sides, shares, aspects = np.full(3, np.nan), np.nan, np.nan
    small, middling, large = sides.tolist()
    return ClassCounts(
        name,
        images=len(np.unique(image)),
        boxes=len(table),
        difficult=int(difficult.sum()),
        crowd=int(crowd.sum()),
        sides=(small, middling, large),
        share=float(shares),
        aspect=float(aspects),
    )
