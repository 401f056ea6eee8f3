"""Reads regions as the first RoI align of PyTorch's ports of Faster R-CNN did, before torchvision had one."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer, Real

from cvjax.ops.dtypes import wider
from cvjax.shapes import Array


def corner_align(
    features: Float[Array, "batch height width channels"],
    boxes: Real[Array, "regions 4"],
    batch_index: Integer[Array, " regions"],
    output_size: tuple[int, int],
    *,
    spatial_scale: float = 1.0,
) -> Float[jax.Array, "regions rows columns channels"]:
    """Samples the corners of a region's bins by bilinear interpolation, and takes the mean of a bin's four corners.

    A region is a pixel of the map longer than its corners tell, along each side. Samples beyond the map are zero.
    `cvjax.ops.detection.roi.roi_align` is today's.

    Args:
      features: Maps [B, H, W, C], of at least 2 x 2 pixels.
      boxes: Boxes [R, 4], (x1, y1, x2, y2) in pixels of the image, of which the last corner belongs to the region.
      batch_index: int [R], the image in the batch that each box lies on.
      output_size: Numbers of bins (h, w).
      spatial_scale: Pixels of the map for one of the image, such as 1 / 16.

    Returns:
      [R, h, w, C] in the dtype of the features; interpolated in float32 or wider.

    Raises:
      ValueError: A map is smaller than 2 x 2 pixels.
    """
    _, height, width, channels = features.shape
    if min(height, width) < 2:
        raise ValueError(f"corner_align reads maps of at least 2 x 2 pixels, not {height} x {width}")
    wide = wider(features.dtype, jnp.float32)
    corners = jnp.asarray(boxes, wide) * jnp.asarray(spatial_scale, wide)
    top, down, in_rows = _corners(corners[:, 1], corners[:, 3], output_size[0], height)
    left, right, in_columns = _corners(corners[:, 0], corners[:, 2], output_size[1], width)
    table = features.reshape(-1, channels)
    first = batch_index.astype(jnp.int32)[:, None, None] * (height * width)
    total = jnp.zeros((len(boxes), output_size[0] + 1, output_size[1] + 1, channels), wide)
    for row, by_row in ((top, 1 - down), (top + 1, down)):
        for column, by_column in ((left, 1 - right), (left + 1, right)):
            places = first + row[:, :, None] * width + column[:, None, :]
            weight = by_row[:, :, None] * by_column[:, None, :]
            total += jnp.take(table, places, axis=0, mode="clip").astype(wide) * weight[..., None]
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    total = jnp.where(inside[..., None], total, 0)
    rows = total[:, :-1] + total[:, 1:]
    return ((rows[:, :, :-1] + rows[:, :, 1:]) / 4).astype(features.dtype)


def _corners(low: jax.Array, high: jax.Array, bins: int, length: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns, for the corners of bins along one axis, the pixel before each, the way to the next, and if it counts."""
    side = jnp.maximum(high - low + 1, 0)
    points = low[:, None] + jnp.arange(bins + 1, dtype=low.dtype)[None] * (side / bins)[:, None]
    inside = (points >= 0) & (points < length)
    before = jnp.clip(jnp.floor(points), 0, length - 2)
    return before.astype(jnp.int32), points - before, inside
