"""Counts the boxes of a dataset: how many of each class, how large, and how many in an image."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cvjax.data.annotations import Objects
from cvjax.data.dataset import Dataset
from cvjax.data.decode import image_size
from cvjax.errors import DataError

_OBJECTS = ("boxes", "labels", "difficult", "crowd")


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """Holds the figures of the boxes of one class, or of all.

    Attributes:
      name: Name of the class.
      images: Number of images that show it.
      boxes, difficult, crowd: Number of boxes, and number of those that are marked so.
      sides: Square roots of the boxes' areas in pixels, as their 5th, 50th and 95th percentiles; nan without boxes.
      share: Median of the same square roots as fractions of the square root of the image's area.
      aspect: Median of width by height.
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
    """Holds the figures of a dataset of boxes.

    Attributes:
      classes: Figures of each class, in the order of their labels.
      total: Figures of all classes together.
      images, empty: Number of images, and number of those without a box.
      largest: Largest number of boxes in an image, which `max_boxes` must hold in evaluation.
      dropped_boxes: Number of bad boxes that the dataset left out.
    """

    classes: tuple[ClassCounts, ...]
    total: ClassCounts
    images: int
    empty: int
    largest: int
    dropped_boxes: int


def count_boxes(source: Dataset, advance: Callable[[], None] = lambda: None) -> BoxCounts:
    """Reads all annotations of a dataset of boxes and counts them; images are not decoded.

    Args:
      source: Dataset opened with the target "boxes".
      advance: Function called after every image, for a progress bar.

    Raises:
      DataError: There are no images, or a record is damaged.
    """
    if not len(source):
        raise DataError(f"{source.name}/{source.split}: there are no images; choose another split.")
    images, sizes = [], []
    for index in range(len(source)):
        record = cast(Mapping[str, Any], source[index])
        images.append(Objects(**{name: record[name] for name in (*_OBJECTS, "dropped_boxes")}))
        sizes.append(image_size(record["image"], record["id"]))
        advance()
    return measure_boxes(images, sizes, source.class_names)


def measure_boxes(images: Sequence[Objects], sizes: Sequence[tuple[int, int]], class_names: Sequence[str]) -> BoxCounts:
    """Counts and measures boxes.

    Args:
      images: Objects of each image, with good boxes.
      sizes: Height and width of each image, in pixels.
      class_names: Names of the classes by label.
    """
    rows = [np.zeros((0, 7))]
    for index, (objects, (height, width)) in enumerate(zip(images, sizes, strict=True)):
        boxes = objects.boxes
        wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        side = np.sqrt(wide * high)
        columns = (np.full(len(boxes), index), side, side / np.sqrt(height * width), wide / high)
        rows.append(np.stack([*columns, objects.labels, objects.difficult, objects.crowd], axis=1))
    table, counts = np.concatenate(rows), [len(objects.boxes) for objects in images]
    classes = tuple(_summary(name, table[table[:, 4] == label]) for label, name in enumerate(class_names))
    dropped = sum(objects.dropped_boxes for objects in images)
    return BoxCounts(classes, _summary("all", table), len(images), counts.count(0), max(counts, default=0), dropped)


def _summary(name: str, table: np.ndarray) -> ClassCounts:
    """Computes the figures of some boxes, given as rows of image, side, share, aspect, label, difficult, crowd."""
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
