"""Reads feature maps bilinearly at scattered points, for deformable convolution and RoI align."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32, Integer

from cvjax.ops.dtypes import wider
from cvjax.shapes import Array


def weighted_corners(
    table: Float[Array, "pixels channels"],
    corner: Integer[Array, "*points"],
    row: Integer[Array, "..."] | int,
    weights: Float[Array, "*points 4"],
) -> Float[jax.Array, "*points channels"]:
    """Returns the weighted sum of the four pixels around each point, in maps that lie flat in a table.

    It makes four reads of whole pixels. XLA fuses them, the products and the sum into one loop, so nothing four times
    the size of the result is stored. Reading the four corners in one gather took 15 times as long on CPU.

    Args:
      table: Pixels of one map or several, row after row, [N, C].
      corner: int [...], place in the table of the pixel above and to the left of each point.
      row: Distance in the table from a pixel to the one below it, int or int [...].
      weights: Weights of the pixels above left, above right, below left, below right, [..., 4].

    Returns:
      [..., C] in the wider dtype of table and weights.
    """
    chex.assert_rank(table, 2)
    chex.assert_shape(weights, (*corner.shape, 4))
    dtype = wider(table.dtype, weights.dtype)
    total = jnp.zeros((*corner.shape, table.shape[1]), dtype)
    for i, step in enumerate((0, 1, row, row + 1)):
        pixels = jnp.take(table, corner + step, axis=0, mode="clip")
        total = total + pixels.astype(dtype) * weights[..., i, None]
    return total


def bilinear_weights(down: Float[Array, "*#points"], right: Float[Array, "*#points"]) -> Float[jax.Array, "*#points 4"]:
    """Returns the weights for `weighted_corners`.

    Args:
      down: Distance of each point below its upper left pixel, [...] in [0, 1].
      right: Distance of each point to the right of it, [...] in [0, 1]. The two arrays broadcast.

    Returns:
      [..., 4], which sum to 1.
    """
    up, left = 1 - down, 1 - right
    return jnp.stack([up * left, up * right, down * left, down * right], axis=-1)


def split_points(
    points: Float[Array, "*#points"], limit: Integer[Array, "*#points"] | int
) -> tuple[Int32[jax.Array, "*#points"], Float[jax.Array, "*#points"]]:
    """Splits points along one axis into a whole pixel that has a neighbor, and the way from it to that neighbor.

    Args:
      points: float [...], in [0, limit + 1] pixels.
      limit: Last pixel that has a neighbor after it; an int, or int [...] that broadcasts.

    Returns:
      int32 [...] pixels in [0, limit], and float [...] fractions in [0, 1].
    """
    whole = jnp.minimum(jnp.floor(points).astype(jnp.int32), limit)
    return whole, points - whole.astype(points.dtype)
