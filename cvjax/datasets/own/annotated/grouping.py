"""Joins the shapes that a drawing tool groups into one object, and says which shapes were passed over."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cvjax.datasets.own.annotated.outlines import pixels_of, pixels_runs
from cvjax.datasets.own.annotated.values import Annotated, Box, Outline, Polygons, Runs


class Shape(NamedTuple):
    """Holds a shape that somebody drew.

    Attributes:
      name: Name of its class.
      outline: Its outline; a rectangle's is the rectangle.
      place: Where it stands in its file, for messages.
      group: Group that it belongs to; None for none.
      box: Box that stands for the shape; None for the outline's extent.
      difficult: Mark, see `cvjax.data.annotations.Objects`.
    """

    name: str
    outline: Outline
    place: str
    group: str | None = None
    box: Box | None = None
    difficult: bool = False


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Polygons:
    """Returns the outline of a rectangle between two corners."""
    return Polygons((np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64),))


def joined(shapes: Sequence[Shape]) -> list[Annotated]:
    """Returns objects: a shape each, or all shapes of one name and group, at the place of the first of them."""
    groups: dict[object, list[Shape]] = {}
    for number, shape in enumerate(shapes):
        groups.setdefault(number if shape.group is None else (shape.name, shape.group), []).append(shape)
    objects = []
    for members in groups.values():
        first = members[0]
        outline, box = (first.outline, first.box) if len(members) == 1 else (_union(members), None)
        objects.append(
            Annotated(first.name, box, outline, any(shape.difficult for shape in members), place=first.place)
        )
    return objects


def report_passed(log: logging.Logger, place: object, passed: Mapping[str, int]) -> None:
    """Logs in one line how many shapes of which kinds were passed over, if there were any."""
    if passed:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(passed.items()))
        log.warning("%s: passed over shapes that have no area or no class: %s", place, kinds)


def _union(shapes: Sequence[Shape]) -> Outline:
    size = next((shape.outline.size for shape in shapes if isinstance(shape.outline, Runs)), None)
    if size is None:
        return Polygons(tuple(part for shape in shapes for part in shape.outline.parts))  # pyright: ignore
    pixels = np.logical_or.reduce([pixels_of(shape.outline, size) for shape in shapes])
    return pixels_runs(pixels)
