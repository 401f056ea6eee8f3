"""Pastes masks in the frame of boxes onto the image."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Real

from cvjax.shapes import Array


def paste_masks(
    masks: Real[Array, "batch boxes side side"], boxes: Real[Array, "batch boxes 4"], size: tuple[int, int]
) -> tuple[Float[jax.Array, "batch boxes height width"], Bool[jax.Array, "batch boxes height width"]]:
    """Resamples masks from the frame of their boxes to the image, with bilinear interpolation between pixel centers.

    Args:
      masks: Masks [B, N, S, S], row i and column j of S x S pixels that divide the box.
      boxes: Boxes [B, N, 4] in pixels, see `cvjax.ops.detection.boxes`.
      size: Height and width of the image.

    Returns:
      float32 [B, N, H, W], 0 outside the boxes; and bool of the same shape, True at pixels whose center is inside the
      box.
    """
    chex.assert_equal_shape_prefix((masks, boxes), 2)
    side = masks.shape[-1]

    def along(low: jax.Array, high: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        """Returns interpolation weights [B, N, length, S] of one axis, and which pixels are inside, [B, N, length]."""
        middle = jnp.arange(length).astype(jnp.float32)[None, None] + 0.5
        low, high = low[..., None], high[..., None]
        place = (middle - low) / jnp.maximum(high - low, 1e-6) * side - 0.5
        pixels = jnp.arange(side).astype(jnp.float32)[None, None, None]
        weights = jnp.maximum(1 - jnp.abs(jnp.clip(place, 0, side - 1)[..., None] - pixels), 0.0)
        return weights, (middle > low) & (middle < high)

    rows, in_rows = along(boxes[..., 1], boxes[..., 3], size[0])
    columns, in_columns = along(boxes[..., 0], boxes[..., 2], size[1])
    within = in_rows[..., :, None] & in_columns[..., None, :]
    pasted = jnp.einsum("bnhs,bnst,bnwt->bnhw", rows, masks.astype(jnp.float32), columns, precision="highest")
    return jnp.where(within, pasted, 0.0), within
