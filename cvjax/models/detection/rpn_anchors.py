"""Lays out the anchors of Faster R-CNN, on one map or on those of a feature pyramid."""

import numpy as np

from cvjax.errors import ConfigError
from cvjax.models.detection.fpn import LEVELS
from cvjax.models.detection.region_classifier import STRIDE
from cvjax.ops.detection.anchors import map_anchors, paper_cell_anchors, pyramid_anchors

Pair = tuple[int, int]


def anchor_rows(sizes: tuple[float, ...], pyramid: bool) -> tuple[tuple[float, ...], ...]:
    """Returns the sizes of each map's anchors.

    Args:
      sizes: Sizes, all of one map or one (or a row) for each level of a pyramid.
      pyramid: Whether there is a pyramid.

    Raises:
      ConfigError: The sizes do not fit the levels of the pyramid.
    """
    if not pyramid:
        return (tuple(sizes),)
    rows = tuple(tuple(row) if isinstance(row, tuple | list) else (row,) for row in sizes)
    if len(rows) != len(LEVELS) or len({len(row) for row in rows}) != 1:
        raise ConfigError(
            f"anchor_sizes has a size (or a row of sizes, all as long) for each of {len(LEVELS)} levels, such as"
            f" (32, 64, 128, 256, 512); this is {sizes}"
        )
    return rows


def net_anchors(
    rows: tuple[tuple[float, ...], ...],
    ratios: tuple[float, ...],
    image_size: Pair,
    shapes: list[Pair],
    *,
    pyramid: bool,
    rounded: bool,
) -> list[np.ndarray]:
    """Returns the anchors of each map, float32 [H * W * A, 4].

    Args:
      rows: Sizes of each map's anchors, see `anchor_rows`.
      ratios: Ratios of height to width.
      image_size: Height and width of the images.
      shapes: Height and width of the maps.
      pyramid: Whether the maps are those of a pyramid.
      rounded: Whether the sides of anchors of one map are rounded.
    """
    if pyramid:
        return pyramid_anchors(image_size, shapes, rows, ratios)
    return [map_anchors(paper_cell_anchors(rows[0], ratios, STRIDE, rounded), shapes[0], STRIDE)]
