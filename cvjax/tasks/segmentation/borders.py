"""Scores near the borders of label maps: confusion matrices that count the pixels of bands alone.

Distances are Chebyshev's, those of repeated dilations by a 3x3 square. Bands are found for all classes at once: a pixel
is within a distance of another label where the largest or the smallest label in the square around it is not its own.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from cvjax.tasks.confusion import confusion_matrix

DILATION_RATIO = 0.02
"""Width of a boundary's band in diagonals of the image, as published."""
_OUTSIDE = -1  # a label of its own
_LOW, _HIGH = -2, 1 << 16  # below and above all labels


def border_distance(labels: jax.Array, known: jax.Array, limit: int | jax.Array, *, outside: bool) -> jax.Array:
    """How far each pixel lies from the nearest one of another label.

    Args:
      labels: integers [B, H, W] from 0 on, or -1.
      known: bool [B, H, W]; pixels that are False are of no label, so nothing differs from them.
      limit: distances beyond this are not told apart; may be traced.
      outside: whether what is outside the maps is another label, too.

    Returns:
      int32 [B, H, W], 1 beside another label, limit + 1 beyond the limit; of unknown pixels, limit + 1.
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
    """The largest, or smallest, of the 3x3 pixels around each of [B, H, W]."""
    for axis in (1, 2):
        edges = [(0, 0)] * 3
        edges[axis] = (1, 1)
        size, padded = x.shape[axis], jnp.pad(x, edges, constant_values=fill)
        parts = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)]
        x = of(of(parts[0], parts[1]), parts[2])
    return x


def boundary_confusion(
    labels: jax.Array,
    predictions: jax.Array,
    num_classes: int,
    *,
    within: jax.Array,
    ignore: int = 255,
    valid: jax.Array | None = None,
    ratio: float = DILATION_RATIO,
) -> jax.Array:
    """The sums of boundary IoU (Cheng et al., 2103.16562).

    A class's boundary is its pixels within a distance of another label or of the image's edge; the distance is `ratio`
    times the image's diagonal, rounded, and at least 1. Boundary IoU compares the boundaries of truth and prediction.
    Pixels to be ignored do not count, and are no border of the truth.

    Args:
      labels, predictions, num_classes, ignore, valid: as for `confusion_matrix`.
      within: bool [B, H, W], what of each map is not padding, its upper left part.
      ratio: see above.

    Returns:
      int32 [C + 1, C + 1]: a confusion matrix whose last class stands for pixels outside the boundaries.
    """
    height, width = within.any(2).sum(1), within.any(1).sum(1)
    widths = jnp.maximum(jnp.round(ratio * jnp.hypot(height * 1.0, width * 1.0)).astype(jnp.int32), 1)[:, None, None]
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
    labels: jax.Array,
    predictions: jax.Array,
    num_classes: int,
    distances: Sequence[int],
    *,
    within: jax.Array,
    ignore: int = 255,
    valid: jax.Array | None = None,
) -> jax.Array:
    """Confusion matrices of the pixels near the truth's borders (Krähenbühl and Koltun, 1210.5644).

    What is to be ignored is a label too, as VOC draws its objects' outlines with it; the image's edge is no border.

    Args:
      labels, predictions, num_classes, ignore, valid: as for `confusion_matrix`.
      distances: pixels from the nearest one of another label, each at least 1.
      within: bool [B, H, W], what of each map is not padding.

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
