"""Upsamples by a whole factor onto any part of the fine grid.

Pixel j of a map covers the pixels [stride * j, stride * (j + 1)) of the fine grid, along either axis. A result of
`size` pixels starts at pixel `offset` of that grid, which may lie before its first pixel. The result may end beyond the
grid's last pixel. So maps on shifted grids (FCN's, which come from a padded image) are enlarged, aligned and cropped in
one go.
"""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Float64, Shaped

from cvjax.ops.resize import enlarge_nearest, resample
from cvjax.shapes import Array

Method = Literal["nearest", "bilinear", "transposed"]


def bilinear_filter(size: int) -> Float64[np.ndarray, " size"]:
    """Returns Caffe's bilinear filler: weights of linear interpolation around the middle of a kernel, float64 [size].

    As the kernel of a transposed convolution of stride s it interpolates where `size` is 2 * s - s % 2.
    """
    factor = (size + 1) // 2
    center = (2 * factor - 1 - factor % 2) / (2 * factor)
    return 1 - np.abs(np.arange(size) / factor - center)


def upsampling_matrix(
    source: int, target: int, stride: int, offset: int = 0, *, repeat: bool = True
) -> Float32[np.ndarray, "target source"]:
    """Returns the weights of linear interpolation along one axis, see the module.

    Args:
      source: Length of the map, in its pixels.
      target: Length of the result, in pixels of the fine grid.
      stride: Pixels of the fine grid for one of the map.
      offset: Start of the result, in pixels of the fine grid.
      repeat: Whether the map's outermost pixel continues beyond the map; otherwise zero does, as for a transposed
        convolution.

    Returns:
      float32 [target, source].
    """
    points = (np.arange(target, dtype=np.float64) + offset + 0.5) / stride - 0.5
    points = np.clip(points, 0, source - 1) if repeat else points
    return np.maximum(0.0, 1.0 - np.abs(points[:, None] - np.arange(source))).astype(np.float32)


def upsample(
    x: Shaped[Array, "batch height width channels"],
    stride: int,
    size: tuple[int, int] | None = None,
    offset: tuple[int, int] = (0, 0),
    method: Method = "bilinear",
) -> Shaped[jax.Array, "batch rows columns channels"]:
    """Enlarges maps without parameters, see the module.

    Args:
      x: Maps [B, H, W, C].
      stride: Factor on height and width.
      size: Height and width of the result, in pixels; None is (stride * H, stride * W).
      offset: Start of the result on the fine grid, in rows and columns of it.
      method: `nearest`; `bilinear`, which continues the map by its border; or `transposed`, the transposed convolution
        with a bilinear kernel (1411.4038), which is the same inside and fades to zero at the border. All but `nearest`
        are computed in float32, as two matrix products.

    Returns:
      [B, *size, C] in the dtype of x.

    Raises:
      ValueError: The factor or size is below 1, or the method has another name.
    """
    chex.assert_rank(x, 4)
    height, width = check_upsampling(x, stride, size)
    if method == "nearest":
        if (height, width, offset) == (stride * x.shape[1], stride * x.shape[2], (0, 0)):
            return enlarge_nearest(x, (stride, stride))
        rows, columns = (
            np.clip((np.arange(target) + start) // stride, 0, source - 1)
            for target, start, source in zip((height, width), offset, x.shape[1:3])
        )
        return jnp.take(jnp.take(x, rows, axis=1), columns, axis=2)
    if method not in ("bilinear", "transposed"):
        raise ValueError(f"upsample knows the methods 'nearest', 'bilinear' and 'transposed', not {method!r}")
    repeat = method == "bilinear"
    by_rows = upsampling_matrix(x.shape[1], height, stride, offset[0], repeat=repeat)
    by_columns = upsampling_matrix(x.shape[2], width, stride, offset[1], repeat=repeat)
    return resample(x, by_rows, by_columns)


def check_upsampling(
    x: Shaped[Array, "batch height width channels"], stride: int, size: tuple[int, int] | None
) -> tuple[int, int]:
    """Returns the height and width of upsampled maps [B, H, W, C].

    Raises:
      ValueError: The factor or size is below 1.
    """
    height, width = (stride * x.shape[1], stride * x.shape[2]) if size is None else size
    if stride < 1 or height < 1 or width < 1:
        raise ValueError(f"upsampling needs a factor and a size of at least 1, got {stride} and {height}x{width}")
    return height, width


def transposed_window(
    source: int, target: int, stride: int, kernel: int, offset: int = 0
) -> tuple[slice, tuple[int, int]]:
    """Returns the part of a map that a transposed convolution needs along one axis for a part of the fine grid.

    The kernel is centered: the copy of it that belongs to a pixel reaches (kernel - stride) // 2 pixels of the fine
    grid to the left of those that the pixel covers. The rest of the copy reaches to the right.

    Args:
      source, target, stride, offset: As for `upsampling_matrix`.
      kernel: Length of the kernel, in pixels of the fine grid.

    Returns:
      The pixels of the map that reach the result, at least one, and the zeros before and after the spread ones
      (`padding` of `cvjax.ops.conv_transpose`; below 0 only for results that lie off the map).
    """
    first = offset + (kernel - stride) // 2  # of the result, among all pixels that the copies reach
    start = min(max(-((kernel - 1 - first) // stride), 0), source - 1)
    stop = min(max((first + target - 1) // stride + 1, start + 1), source)
    first -= stride * start
    before = kernel - 1 - first
    return slice(start, stop), (before, target + kernel - 2 - (stop - start - 1) * stride - before)
