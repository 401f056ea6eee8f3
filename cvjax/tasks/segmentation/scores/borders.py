"""Scores label maps near borders, with confusion matrices that count only the pixels of bands.

Distances are Chebyshev distances, those of repeated dilations by a 3x3 square. Bands are found for all classes at once:
a pixel is within a distance of another label if the largest or the smallest label in the square around it is not its
own.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int32, Integer

from cvjax.shapes import Array
from cvjax.tasks.confusion import confusion_matrix

DILATION_RATIO = 0.02
"""Width of a boundary's band in diagonals of the image, as published."""
_OUTSIDE = -1  # a label of its own
_LOW, _HIGH = -2, 1 << 16  # below and above all labels


def border_distance(
    labels: Integer[Array, "batch height width"],
    known: Bool[Array, "batch height width"],
    limit: int | jax.Array,
    *,
    outside: bool,
) -> Int32[jax.Array, "batch height width"]:
    """Computes the distance of each pixel from the nearest pixel of another label.

    Args:
      labels: Labels, integers [B, H, W] from 0 on, or -1.
      known: Whether a pixel has a label, bool [B, H, W]; pixels without a label are no border of others.
      limit: Largest distance to tell apart; may be traced.
      outside: Whether the area outside the maps is another label, too.

    Returns:
      int32 [B, H, W]: 1 beside another label, limit + 1 beyond the limit and for pixels without a label.
    """
    chex.assert_rank(labels, 3)
    chex.assert_equal_shape((labels, known))
    labels = labels.astype(jnp.int32)
    largest, smallest = jnp.where(known, labels, _LOW), jnp.where(known, labels, _HIGH)

    def grow(step: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        largest, smallest, distance = carry
        largest = _square(largest, jnp.maximum, _LOW)
        smallest = _square(smallest, jnp.minimum, _OUTSIDE if outside else _HIGH)
        other = known & ((largest != labels) | (smallest != labels))
        return largest, smallest, jnp.where(other & (distance > limit), step + 1, distance)

    # The carry takes the labels' part of any sharding or device axis, which a constant would lack.
    far = jnp.zeros_like(labels) + limit + 1
    return jax.lax.fori_loop(0, limit, grow, (largest, smallest, far))[2]


def _square(x: jax.Array, of: Callable[[jax.Array, jax.Array], jax.Array], fill: int) -> jax.Array:
    """Computes the maximum or minimum of the 3x3 pixels around each pixel of [B, H, W]."""
    for axis in (1, 2):
        edges = [(0, 0)] * 3
        edges[axis] = (1, 1)
        size, padded = x.shape[axis], jnp.pad(x, edges, constant_values=fill)
        parts = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)]
        x = of(of(parts[0], parts[1]), parts[2])
    return x


def boundary_confusion(
    labels: Integer[Array, "batch height width"],
    predictions: Integer[Array, "batch height width"],
    num_classes: int,
    *,
    within: Bool[Array, "batch height width"],
    ignore: int = 255,
    valid: Bool[Array, " batch"] | None = None,
    ratio: float = DILATION_RATIO,
) -> Int32[jax.Array, "classes classes"]:
    """Computes the sums of boundary IoU (Cheng et al., 2103.16562).

    The boundary of a class is its pixels within a distance of another label or of the image's edge. The distance is
    `ratio` times the image's diagonal, rounded, and at least 1. Boundary IoU compares the boundaries of ground truth
    and prediction. Ignored pixels do not count, and are no border of the ground truth.

    Args:
      labels, predictions, num_classes, ignore, valid: Arguments of `confusion_matrix`.
      within: Whether a pixel is not padding, bool [B, H, W]; images lie in the upper left corner.
      ratio: Width of the boundary as a fraction of the image's diagonal.

    Returns:
      Confusion matrix, int32 [C + 1, C + 1]; its last class stands for pixels outside the boundaries.
    """
    height, width = within.any(2).sum(1), within.any(1).sum(1)
    diagonal = jnp.hypot(height.astype(jnp.float32), width.astype(jnp.float32))
    widths = jnp.maximum(jnp.round(ratio * diagonal).astype(jnp.int32), 1)[:, None, None]
    limit = widths.max()

    def banded(maps: jax.Array, known: jax.Array) -> jax.Array:
        maps = maps.astype(jnp.int32)
        distance = border_distance(jnp.where(within, maps, _OUTSIDE), known | ~within, limit, outside=True)
        return jnp.where(distance <= widths, maps, num_classes)

    counted = (labels != ignore) & within
    truth = jnp.where(counted, banded(labels, labels != ignore), -1)
    guess = banded(predictions, jnp.ones_like(within))
    return confusion_matrix(truth, guess, num_classes + 1, ignore=-1, valid=valid)


def trimap_confusions(
    labels: Integer[Array, "batch height width"],
    predictions: Integer[Array, "batch height width"],
    num_classes: int,
    distances: Sequence[int],
    *,
    within: Bool[Array, "batch height width"],
    ignore: int = 255,
    valid: Bool[Array, " batch"] | None = None,
) -> Int32[jax.Array, "distances classes classes"]:
    """Computes confusion matrices of the pixels near the ground truth's borders (Krähenbühl and Koltun, 1210.5644).

    The ignored label makes borders too, since VOC draws the outlines of its objects with it. The image's edge is no
    border.

    Args:
      labels, predictions, num_classes, ignore, valid: Arguments of `confusion_matrix`.
      distances: Largest distances in pixels from the nearest pixel of another label, each at least 1.
      within: Whether a pixel is not padding, bool [B, H, W].

    Returns:
      int32 [len(distances), C, C].
    """
    distance = border_distance(labels, within, max(distances), outside=False)
    return jnp.stack(
        [
            confusion_matrix(
                jnp.where((distance <= reach) & (labels != ignore), labels.astype(jnp.int32), -1),
                predictions,
                num_classes,
                ignore=-1,
                valid=valid,
            )
            for reach in distances
        ]
    )
