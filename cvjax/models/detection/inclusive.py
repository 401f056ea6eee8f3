"""Reads and writes boxes whose corners are pixels that belong to them, as Fast and Faster R-CNN's own code has them.

Its box of the columns 3, 4 and 5 has x2 = 5 where ours has 6 (see `cvjax.ops.detection.boxes`). Widths there are x2 -
x1 + 1, so deltas mean the same. Three things differ: decoding takes x1 + width for the last pixel, so a box grows by
one; boxes end at the last pixel of the image; and RoI pooling rounds the last pixel instead of the end.
"""

import jax
import jax.numpy as jnp

from cvjax.ops.detection.boxes import clip


def clip_decoded(boxes: jax.Array, size: tuple[jax.Array, jax.Array], inclusive: bool) -> jax.Array:
    """Cuts decoded boxes off at the border of their image.

    Args:
      boxes: Boxes [..., 4] as `cvjax.ops.detection.boxes.decode` returns them.
      size: Height and width of the image, as for `clip`.
      inclusive: Whether the corners are taken for pixels that belong to the box.

    Returns:
      [..., 4], half-open in any case.
    """
    if not inclusive:
        return clip(boxes, size)
    height, width = size
    clipped = clip(boxes, (height - 1, width - 1))
    return clipped + _last(clipped)


def pooled_corners(boxes: jax.Array, inclusive: bool) -> jax.Array:
    """Returns the corners [..., 4] of half-open boxes that RoI pooling rounds."""
    return boxes - _last(boxes) if inclusive else boxes


def _last(boxes: jax.Array) -> jax.Array:
    """Returns the step from the last pixel to the end, [..., 4] with as many axes as the boxes have."""
    return jnp.expand_dims(jnp.asarray([0, 0, 1, 1], boxes.dtype), range(boxes.ndim - 1))
