"""Reads features of a fixed size for regions of any size, from one map or from a pyramid."""

from collections.abc import Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int32, Integer, Real

from cvjax.ops.detection.boxes import area
from cvjax.ops.dtypes import wider
from cvjax.ops.sampling import bilinear_weights, split_points, weighted_corners
from cvjax.shapes import Array

Pair = tuple[int, int]


def roi_align(
    features: Float[Array, "batch height width channels"],
    boxes: Real[Array, "regions 4"],
    batch_index: Integer[Array, " regions"],
    output_size: Pair,
    *,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Float[jax.Array, "regions rows columns channels"]:
    """Computes RoI align (He et al., Mask R-CNN, 1703.06870), as torchvision computes it.

    A box is divided into output_size bins, and each bin is the mean of sampling_ratio**2 bilinear samples on a regular
    grid. A sample up to a pixel beyond the map is moved onto its border; farther out it is zero.

    Gradients reach the boxes as well as the features. Faster and Mask R-CNN stop those to the boxes
    (`jax.lax.stop_gradient`). Under a mesh, `jax.vmap` over the images with their own boxes keeps every image's
    features on its device.

    Args:
      features: Maps [B, H, W, C].
      boxes: Boxes [R, 4], see `cvjax.ops.detection.boxes`, in pixels of the image.
      batch_index: int [R], the image in the batch that each box lies on.
      output_size: Numbers of bins (h, w).
      spatial_scale: Pixels of the map for one of the image, such as 1 / 16.
      sampling_ratio: Number of samples along each side of a bin. torchvision's -1, a sample for each pixel of a bin,
        has no static shape.
      aligned: Whether to shift by the half pixel that the coordinates of pixel centers call for. False does not shift,
        and widens boxes to at least one pixel of the map, as the first implementation did.

    Returns:
      [R, h, w, C] in the dtype of the features; interpolated in float32 or wider.

    Raises:
      AssertionError: Ranks or shapes do not fit together.
      ValueError: The sampling ratio is below 1.
    """
    level = jnp.zeros(boxes.shape[:1], jnp.int32)
    return _align([features], boxes, batch_index, level, output_size, [spatial_scale], sampling_ratio, aligned)


def multilevel_roi_align(
    pyramid: Sequence[Float[Array, "batch _ _ channels"]],
    boxes: Real[Array, "regions 4"],
    batch_index: Integer[Array, " regions"],
    output_size: Pair,
    *,
    strides: Sequence[int] = (4, 8, 16, 32),
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_level: int = 4,
    canonical_size: float = 224.0,
) -> Float[jax.Array, "regions rows columns channels"]:
    """Computes RoI align on the level of a feature pyramid that suits each box (`pyramid_level`).

    Every box is read from its own level alone, so the cost is that of one level.

    Args:
      pyramid: Maps [B, H_l, W_l, C], from fine to coarse, each half as large as the last.
      boxes, batch_index, output_size, sampling_ratio, aligned: As for `roi_align`.
      strides: Pixels of the image for one of each map; powers of two, each twice the last.
      canonical_level, canonical_size: As for `pyramid_level`.

    Returns:
      [R, h, w, C].

    Raises:
      AssertionError: Ranks or shapes do not fit together.
      ValueError: The sampling ratio is below 1, or the strides are not one power of two after another.
    """
    lowest = int(strides[0]).bit_length() - 1
    if tuple(strides) != tuple(2 ** (lowest + i) for i in range(len(pyramid))):
        raise ValueError(
            f"multilevel_roi_align: {len(pyramid)} maps need as many strides, each a power of two and twice the "
            f"last, such as (4, 8, 16, 32); got {tuple(strides)}"
        )
    highest = lowest + len(pyramid) - 1
    level = pyramid_level(boxes, lowest, highest, canonical_level, canonical_size) - lowest
    scales = [1 / stride for stride in strides]
    return _align(pyramid, boxes, batch_index, level, output_size, scales, sampling_ratio, aligned)


def pyramid_level(
    boxes: Real[Array, "*rows 4"], lowest: int, highest: int, canonical_level: int = 4, canonical_size: float = 224.0
) -> Int32[jax.Array, "*rows"]:
    """Returns the level of a feature pyramid for each box (Lin et al., 1612.03144, equation 1).

    The level is `floor(canonical_level + log2(sqrt(area) / canonical_size))`. A box of 224 x 224, the size of
    ImageNet's pictures, goes to level 4, where a ResNet sees such a picture. A box of half the side goes to level 3.

    Args:
      boxes: Boxes [..., 4], see `cvjax.ops.detection.boxes`.
      lowest, highest: Lowest and highest level that exist; level l has a stride of 2**l.
      canonical_level: Level of boxes of the canonical size.
      canonical_size: Side of such boxes, in pixels.

    Returns:
      int32 [...] in [lowest, highest].
    """
    side = jnp.sqrt(area(lax.stop_gradient(boxes)))
    # torchvision's small term keeps boxes of exactly a power of two on their level.
    level = jnp.floor(canonical_level + jnp.log2(side / canonical_size) + 1e-6)
    return jnp.clip(level, lowest, highest).astype(jnp.int32)


def roi_pool(
    features: Float[Array, "batch height width channels"],
    boxes: Real[Array, "regions 4"],
    batch_index: Integer[Array, " regions"],
    output_size: Pair,
    *,
    spatial_scale: float = 1.0,
) -> Float[jax.Array, "regions rows columns channels"]:
    """Computes RoI max-pooling (Girshick, Fast R-CNN, 1504.08083), with torchvision's rounding.

    Corners are rounded to whole pixels of the map, halves away from zero, and both belong to the region. Bin i of n
    spans floor(i * side / n) to ceil((i + 1) * side / n). A bin without pixels on the map is zero.

    The gradient goes to the first largest pixel of each bin; no gradient reaches the boxes. Memory is that of the
    result, and time grows with the largest bin.

    Args:
      features: Maps [B, H, W, C], floating point.
      boxes: Boxes [R, 4], see `cvjax.ops.detection.boxes`, in pixels of the image.
      batch_index: int [R], the image in the batch that each box lies on.
      output_size: Numbers of bins (h, w).
      spatial_scale: Pixels of the map for one of the image, such as 1 / 16.

    Returns:
      [R, h, w, C] in the dtype of the features.

    Raises:
      AssertionError: Ranks or shapes do not fit together.
    """
    _check(features, boxes, batch_index)
    _, height, width, channels = features.shape
    corners = jnp.asarray(boxes, jnp.float32) * jnp.float32(spatial_scale)
    # jnp.round would round halves to even.
    corners = lax.round(corners, lax.RoundingMethod.AWAY_FROM_ZERO).astype(jnp.int32)
    top, bottom = _bin_edges(corners[:, 1], corners[:, 3], output_size[0], height)
    left, right = _bin_edges(corners[:, 0], corners[:, 2], output_size[1], width)
    table = jnp.reshape(features, (-1, channels))
    place = partial(_place, batch_index=batch_index, height=height, width=width)

    # The largest pixel is searched without gradients, in as many steps as the largest bin has pixels, and
    # then read once with them.
    frozen = lax.stop_gradient(table)
    rows, columns = jnp.max(bottom - top, initial=0), jnp.max(right - left, initial=0)

    def compare(step: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, where = best
        row, column = jnp.divmod(step, jnp.maximum(columns, 1))
        inside = ((top + row < bottom)[:, :, None] & (left + column < right)[:, None, :])[..., None]
        here = place(jnp.minimum(top + row, height - 1), jnp.minimum(left + column, width - 1))
        pixel = jnp.take(frozen, here, axis=0, mode="clip")
        larger = inside & (pixel > value)
        return jnp.where(larger, pixel, value), jnp.where(larger, here[..., None], where)

    shape = (len(boxes), *output_size, channels)
    first = place(top, left)[..., None]
    start = (jnp.full(shape, -jnp.inf, features.dtype), jnp.broadcast_to(first, shape))
    _, where = lax.fori_loop(0, rows * columns, compare, start)
    filled = (bottom > top)[:, :, None] & (right > left)[:, None, :]
    values = table.at[where, jnp.arange(channels)].get(mode="clip")
    return jnp.where(filled[..., None], values, 0)


def _align(
    maps: Sequence[jax.Array],
    boxes: jax.Array,
    batch_index: jax.Array,
    level: jax.Array,
    output_size: Pair,
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> jax.Array:
    """Computes RoI align of each box on the map that `level`, int [R], names; all maps lie in one table."""
    for features in maps:
        _check(features, boxes, batch_index)
    if sampling_ratio < 1:
        raise ValueError(f"roi_align: the sampling ratio must be at least 1, got {sampling_ratio}; torchvision's is 2")
    dtype = maps[0].dtype
    wide = wider(dtype, jnp.float32)
    height, width = (jnp.asarray([m.shape[axis] for m in maps], jnp.int32)[level] for axis in (1, 2))
    scale = jnp.asarray(scales)[level]
    table, start, image, row = _flat_table(maps)
    first = (start[level] + batch_index.astype(jnp.int32) * image[level])[:, None, None]
    row = row[level][:, None, None]

    corners = jnp.asarray(boxes, wide) * scale[:, None].astype(wide) - (0.5 if aligned else 0.0)
    samples = partial(_samples, count=sampling_ratio, least=0.0 if aligned else 1.0)
    y, inside_y = samples(corners[:, 1], corners[:, 3], output_size[0], height)
    x, inside_x = samples(corners[:, 0], corners[:, 2], output_size[1], width)
    top, down = split_points(y, jnp.maximum(height - 2, 0)[None, :, None])
    left, right = split_points(x, jnp.maximum(width - 2, 0)[None, :, None])
    mean = 1 / sampling_ratio**2

    @partial(jax.checkpoint, prevent_cse=False)  # reads the pixels again for the gradient
    def sample(table: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
        """Reads the i-th row and the j-th column of the samples of each bin, weighted for the mean: [R, h, w, C]."""
        corner = first + top[i][:, :, None] * row + left[j][:, None, :]
        inside = inside_y[i][:, :, None] & inside_x[j][:, None, :]
        weights = bilinear_weights(down[i][:, :, None], right[j][:, None, :])
        return weighted_corners(table, corner, row, jnp.where(inside[..., None], weights * mean, 0))

    def add(total: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        return total + sample(table, *jnp.divmod(step, sampling_ratio)), None

    total = jnp.zeros((len(boxes), *output_size, table.shape[-1]), wide)
    total, _ = lax.scan(add, total, jnp.arange(sampling_ratio**2))
    return total.astype(dtype)


def _flat_table(maps: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Joins all maps to one table [N, C].

    A sample lies between two pixels along each axis, so a map of one row or column gets a second one.

    Returns:
      The table, and for each map its start in the table, the length of an image, and the length of a row.
    """
    maps = [jnp.pad(m, ((0, 0), *((0, max(0, 2 - n)) for n in m.shape[1:3]), (0, 0))) for m in maps]
    sizes = [m.shape[0] * m.shape[1] * m.shape[2] for m in maps]
    table = jnp.concatenate([m.reshape(size, -1) for m, size in zip(maps, sizes)])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    images, rows = [m.shape[1] * m.shape[2] for m in maps], [m.shape[2] for m in maps]
    return table, jnp.asarray(starts, jnp.int32), jnp.asarray(images, jnp.int32), jnp.asarray(rows, jnp.int32)


def _samples(
    low: jax.Array, high: jax.Array, bins: int, length: jax.Array, *, count: int, least: float
) -> tuple[jax.Array, jax.Array]:
    """Returns the sampling points along one axis, moved onto the map, and which of them were near it.

    Args:
      low, high: float [R], both ends of each box, in pixels of its map.
      bins: Number of bins along the axis.
      length: int [R], length of the map that the box is read from, in pixels.
      count: Number of samples in a bin.
      least: Least side of a box, in pixels.

    Returns:
      float [count, R, bins] in [0, length - 1], and bool [count, R, bins].
    """
    side = jnp.maximum(high - low, least) if least else high - low
    steps = jnp.arange(bins, dtype=float)[None, None] + (jnp.arange(count, dtype=float)[:, None, None] + 0.5) / count
    points = low[None, :, None] + steps.astype(low.dtype) * (side / bins)[None, :, None]
    length = length[None, :, None].astype(low.dtype)
    return jnp.clip(points, 0, length - 1), (points >= -1) & (points <= length)


def _bin_edges(low: jax.Array, high: jax.Array, bins: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Returns the first pixel of each bin along one axis, and the pixel after its last.

    torchvision rounds i * (side / bins) in float32, which moves an edge by a pixel for some sides. XLA may divide by
    multiplying with a reciprocal, which moves other edges. So NumPy tabulates the edges.

    Args:
      low, high: int32 [R], first and last pixel of each region.
      bins: Number of bins along the axis.
      length: Length of the map, in pixels; regions of over twice that get the edges of exact arithmetic.

    Returns:
      Two int32 [R, bins], in [0, length].
    """
    sides, places = np.arange(2 * length + 2), np.arange(bins + 1, dtype=np.float32)
    edges = (sides.astype(np.float32) / np.float32(bins))[:, None] * places
    side = jnp.maximum(high - low + 1, 1)
    known, whole = side[:, None] < len(sides), side[:, None] * jnp.arange(bins + 1)[None]
    table = jnp.asarray(np.stack([np.floor(edges[:, :-1]), np.ceil(edges[:, 1:])]), jnp.int32)
    begin, end = table[:, jnp.minimum(side, len(sides) - 1)]
    begin = low[:, None] + jnp.where(known, begin, whole[:, :-1] // bins)
    end = low[:, None] + jnp.where(known, end, -(-whole[:, 1:] // bins))
    return jnp.clip(begin, 0, length), jnp.clip(end, 0, length)


def _place(rows: jax.Array, columns: jax.Array, *, batch_index: jax.Array, height: int, width: int) -> jax.Array:
    """Returns places in the flat table of a batch of maps: int32 [R, h] and [R, w] to [R, h, w]."""
    first = batch_index.astype(jnp.int32)[:, None, None] * (height * width)
    return first + rows[:, :, None] * width + columns[:, None, :]


def _check(features: jax.Array, boxes: jax.Array, batch_index: jax.Array) -> None:
    chex.assert_rank(features, 4)
    chex.assert_shape(boxes, (None, 4))
    chex.assert_shape(batch_index, boxes.shape[:1])
