"""Defines what every format of boxes and outlines is read to.

Coordinates are pixels of the image as it was annotated, x to the right and y down, and corners lie between pixels: the
first pixel reaches from 0 to 1. So boxes are half-open, (x1, y1, x2, y2).
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Box = tuple[float, float, float, float]


class Polygons(NamedTuple):
    """Holds an outline as polygons, whose union is the object; each is float64 [corners, 2], x before y."""

    parts: tuple[np.ndarray, ...]


class Runs(NamedTuple):
    """Holds an object's pixels as COCO's run lengths: of pixels outside and inside in turn, column after column.

    Attributes:
      size: Height and width of the image.
      counts: Lengths of the runs, int64; the first one is of pixels outside, and may be 0.
    """

    size: tuple[int, int]
    counts: np.ndarray


Outline = Polygons | Runs


@dataclasses.dataclass(frozen=True)
class Annotated:
    """Holds an object as its file states it.

    Attributes:
      name: Name of its class.
      box: Its box; None where the file states an outline alone, whose extent is then the box.
      outline: Its outline; None where the file states a box alone.
      difficult, crowd: Marks, see `cvjax.data.annotations.Objects`.
      area: Area that the file states in square pixels; None for that of the box.
      place: Where it stands in its file, such as "line 3" or "annotation 7", for messages.
    """

    name: str
    box: Box | None
    outline: Outline | None = None
    difficult: bool = False
    crowd: bool = False
    area: float | None = None
    place: str = ""


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """Holds what a data set says about an image.

    Attributes:
      key: Id of the example, unique in its split and the same on every machine.
      path: Path of the image's file; of an embedded image, that of the file that embeds it.
      annotation: Path of the file that the objects were read from, for messages.
      objects: Its objects in the order of the file; a later one covers an earlier one.
      size: Height and width that the annotation states; None where it states none.
      embedded: Whether the image is inside `path`, see `cvjax.datasets.own.labelme`.
      fractions: Whether coordinates are fractions of the upright image's width and height, as YOLO's are.
    """

    key: str
    path: str
    annotation: str
    objects: tuple[Annotated, ...]
    size: tuple[int, int] | None = None
    embedded: bool = False
    fractions: bool = False


@dataclasses.dataclass(frozen=True)
class Annotations:
    """Holds a split of a data set, or all of one that has no splits.

    Attributes:
      class_names: Names of the classes, in the order of their labels, without a background.
      images: Images in their order.
      least_side: Length that the sides of a good box exceed, see `cvjax.data.annotations.check_objects`.
    """

    class_names: tuple[str, ...]
    images: Sequence[AnnotatedImage]
    least_side: float = 0.0
