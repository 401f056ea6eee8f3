"""Converts boxes between formats, measures their overlap, and codes them as detectors regress them.

Everywhere in cvjax a box is (x1, y1, x2, y2) in pixels, float, x to the right and y down, in the last axis. These are
the corners of torchvision and Pascal VOC, half-open. The corners are points between pixels, so the box that covers the
pixels of columns 3, 4 and 5 has x1 = 3 and x2 = 6, and its width is x2 - x1. A box with x2 <= x1 or y2 <= y1 is empty:
its area and all overlaps are zero, and neither values nor gradients are ever NaN.

Leading axes broadcast as for any elementwise function. Everything is computed in float32 or wider.
"""

import math

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float, Real

from cvjax.ops.dtypes import wider
from cvjax.shapes import Array

_EMPTY_SIDE = 1e-6
_EMPTY_AREA = _EMPTY_SIDE**2
# Faster R-CNN's bound on exp(dw), exp(dh): no box grows more than from 16 to 1000 pixels at once.
MAX_LOG_SCALE = math.log(1000 / 16)

FORMATS = ("xyxy", "yxyx", "xywh", "cxcywh")


def convert(boxes: Real[Array, "*rows 4"], source: str, target: str = "xyxy") -> Float[jax.Array, "*rows 4"]:
    """Converts boxes to another format.

    Args:
      boxes: Boxes [..., 4] in the format `source`.
      source, target: "xyxy" (ours: two corners), "yxyx" (TensorFlow), "xywh" (COCO: a corner and the sides), or
        "cxcywh" (YOLO: the center and the sides).

    Returns:
      [..., 4] in the format `target`.

    Raises:
      ValueError: A format is unknown.
    """
    boxes = _wide(boxes)
    for name in (source, target):
        if name not in FORMATS:
            raise ValueError(f"boxes.convert knows the formats {', '.join(FORMATS)}, not {name!r}")
    if source == target:
        return boxes
    a, b, c, d = _split(boxes)
    if source == "yxyx":
        a, b, c, d = b, a, d, c
    elif source == "xywh":
        c, d = a + c, b + d
    elif source == "cxcywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    if target == "yxyx":
        a, b, c, d = b, a, d, c
    elif target == "xywh":
        c, d = c - a, d - b
    elif target == "cxcywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    return jnp.stack([a, b, c, d], axis=-1)


def area(boxes: Real[Array, "*rows 4"]) -> Float[jax.Array, "*rows"]:
    """Returns the areas of boxes, [..., 4] to [...], in square pixels; zero for empty boxes."""
    x1, y1, x2, y2 = _split(_wide(boxes))
    return jnp.maximum(x2 - x1, 0) * jnp.maximum(y2 - y1, 0)


def clip(boxes: Real[Array, "*rows 4"], size: tuple[jax.Array | int, jax.Array | int]) -> Float[jax.Array, "... 4"]:
    """Cuts boxes off at the border of an image.

    Args:
      boxes: Boxes [..., 4].
      size: Height and width of the image in pixels; numbers, or arrays that broadcast against [...].

    Returns:
      [..., 4], all coordinates in [0, width] and [0, height].
    """
    boxes = _wide(boxes)
    height, width = (jnp.asarray(side, boxes.dtype) for side in size)
    x1, y1, x2, y2 = _split(boxes)
    return jnp.stack(
        [jnp.clip(x1, 0, width), jnp.clip(y1, 0, height), jnp.clip(x2, 0, width), jnp.clip(y2, 0, height)], axis=-1
    )


def intersection(a: Real[Array, "*#rows 4"], b: Real[Array, "*#rows 4"]) -> Float[jax.Array, "*#rows"]:
    """Returns the area that two boxes share, in square pixels: [..., 4] and [..., 4], broadcast, to [...]."""
    return _intersection_and_union(a, b)[0]


def iou(a: Real[Array, "*#rows 4"], b: Real[Array, "*#rows 4"]) -> Float[jax.Array, "*#rows"]:
    """Returns intersection over union.

    Args:
      a, b: Boxes [..., 4], broadcast against each other.

    Returns:
      [...] in [0, 1]; zero where both boxes are empty.
    """
    shared, union = _intersection_and_union(a, b)
    return _ratio(shared, union)


def giou(a: Real[Array, "*#rows 4"], b: Real[Array, "*#rows 4"]) -> Float[jax.Array, "*#rows"]:
    """Returns generalized intersection over union (Rezatofighi et al., 1902.09630).

    It is IoU less the share of the smallest enclosing box that neither box covers. So it has a slope even where boxes
    are apart.

    Args:
      a, b: Boxes [..., 4], broadcast against each other.

    Returns:
      [...] in [-1, 1]; zero where the enclosing box is empty.
    """
    shared, union = _intersection_and_union(a, b)
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _split(_wide(a)), _split(_wide(b))
    width = jnp.maximum(ax2, bx2) - jnp.minimum(ax1, bx1)
    height = jnp.maximum(ay2, by2) - jnp.minimum(ay1, by1)
    hull = jnp.maximum(width, 0) * jnp.maximum(height, 0)
    return _ratio(shared, union) - _ratio(hull - union, hull)


def pairwise_iou(a: Real[Array, "*#batch n 4"], b: Real[Array, "*#batch m 4"]) -> Float[jax.Array, "*#batch n m"]:
    """Returns the IoU of every box with every other: [..., N, 4] and [..., M, 4] to [..., N, M]."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def encode(
    boxes: Real[Array, "*#rows 4"],
    anchors: Real[Array, "*#rows 4"],
    weights: tuple[float, float, float, float] = (1, 1, 1, 1),
) -> Float[jax.Array, "*#rows 4"]:
    """Returns the regression targets that turn anchors into boxes (Faster R-CNN, 1506.01497, equation 2).

    Args:
      boxes: Boxes to reach, [..., 4].
      anchors: Boxes to start from (anchors or proposals), [..., 4], broadcast against `boxes`.
      weights: Factors on (dx, dy, dw, dh); Fast R-CNN's head has (10, 10, 5, 5).

    Returns:
      [..., 4]: the center's shift in sides of the anchor, and the logarithm of the sides' ratio, weighted. All are zero
      where the box or the anchor is empty.
    """
    x, y, width, height = _split(convert(boxes, "xyxy", "cxcywh"))
    ax, ay, awidth, aheight = _split(convert(anchors, "xyxy", "cxcywh"))
    filled = jnp.minimum(jnp.minimum(width, height), jnp.minimum(awidth, aheight)) > _EMPTY_SIDE
    # Sides of one pixel stand in for empty ones, so that the unused branch has finite gradients too.
    width, height, awidth, aheight = (jnp.where(filled, s, 1) for s in (width, height, awidth, aheight))
    deltas = ((x - ax) / awidth, (y - ay) / aheight, jnp.log(width / awidth), jnp.log(height / aheight))
    return jnp.stack([jnp.where(filled, w * d, 0) for w, d in zip(weights, deltas)], axis=-1)


def decode(
    deltas: Real[Array, "*#rows 4"],
    anchors: Real[Array, "*#rows 4"],
    weights: tuple[float, float, float, float] = (1, 1, 1, 1),
) -> Float[jax.Array, "*#rows 4"]:
    """Returns the boxes that deltas turn anchors into; undoes `encode`.

    Args:
      deltas: Deltas [..., 4]. For deltas by class, [N, classes, 4], give anchors as [N, 1, 4].
      anchors: Boxes to start from, [..., 4], broadcast against `deltas`.
      weights: As for `encode`.

    Returns:
      [..., 4], not clipped to any image. dw and dh are cut off at log(1000 / 16) before the exponential.
    """
    dx, dy, dw, dh = (d / w for d, w in zip(_split(_wide(deltas)), weights))
    ax, ay, awidth, aheight = _split(convert(anchors, "xyxy", "cxcywh"))
    width = jnp.exp(jnp.minimum(dw, MAX_LOG_SCALE)) * awidth
    height = jnp.exp(jnp.minimum(dh, MAX_LOG_SCALE)) * aheight
    centered = jnp.broadcast_arrays(ax + dx * awidth, ay + dy * aheight, width, height)
    return convert(jnp.stack(centered, axis=-1), "cxcywh", "xyxy")


def _wide(boxes: jax.Array) -> jax.Array:
    boxes = jnp.asarray(boxes)
    chex.assert_axis_dimension(boxes, -1, 4)
    return boxes.astype(wider(boxes.dtype, jnp.float32))


def _split(boxes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _intersection_and_union(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _split(_wide(a)), _split(_wide(b))
    width = jnp.minimum(ax2, bx2) - jnp.maximum(ax1, bx1)
    height = jnp.minimum(ay2, by2) - jnp.maximum(ay1, by1)
    shared = jnp.maximum(width, 0) * jnp.maximum(height, 0)
    return shared, area(a) + area(b) - shared


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Returns part / whole, and zero with a slope of zero where the whole is empty."""
    filled = whole > _EMPTY_AREA
    return jnp.where(filled, part / jnp.where(filled, whole, 1), 0)
