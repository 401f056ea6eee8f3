"""Resamples feature maps, with the sampling points of PyTorch's `interpolate` (no antialiasing)."""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad
from jax.sharding import PartitionSpec
from jaxtyping import Float32, Real, Shaped

from cvjax.ops.cpu.mixing import mix_rows
from cvjax.ops.height import HEIGHT_AXIS, height_mesh
from cvjax.ops.primitives import bind, define_batching, platform_primitive
from cvjax.shapes import Array

_PHOTOGRAPH = 8
"""Number of pixels along an axis for each channel, above which a map is resampled as a photograph."""


def bilinear_matrix(
    source: int, target: int, align_corners: bool = False, step: float | None = None
) -> Float32[np.ndarray, "target source"]:
    """Returns the interpolation weights along one axis.

    Args:
      source: Length of the axis before, in pixels.
      target: Length of the axis after, in pixels.
      align_corners: True maps the first and last pixel centers onto each other. False maps the outer edges onto each
        other (half-pixel centers), and repeats the border outside the outermost centers.
      step: Pixels of the source between neighbors of the target, counted from the first edge; None takes the ratio of
        the lengths. It has no meaning with `align_corners`.

    Returns:
      float32 [target, source]; each row sums to 1 and has at most two weights that are not zero.
    """
    # float64 until the end: in float32 the sampling point of a far pixel is off by 1e-4 of a pixel.
    points = np.arange(target, dtype=np.float64)
    if align_corners:
        points = points * ((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        points = np.clip((points + 0.5) * (step or source / target) - 0.5, 0.0, None)
    low = np.minimum(np.floor(points).astype(np.int64), source - 1)
    high = np.minimum(low + 1, source - 1)
    weight = points - low
    matrix = np.zeros((target, source), np.float64)
    rows = np.arange(target)
    np.add.at(matrix, (rows, low), 1.0 - weight)
    np.add.at(matrix, (rows, high), weight)
    return matrix.astype(np.float32)


def resize(
    x: Shaped[Array, "batch height width channels"],
    size: tuple[int, int],
    method: str = "bilinear",
    align_corners: bool = False,
) -> Shaped[Array, "batch rows columns channels"]:
    """Resizes maps as `torch.nn.functional.interpolate` does.

    Bilinear resampling is separable, so it runs as two small matrix products. Those suit the matrix units of
    accelerators. On CPU they are far faster than a gather, whose gradient is a scatter. Forward it mixes pairs of rows.

    Args:
      x: Maps [B, H, W, C].
      size: Height and width of the result, in pixels.
      method: "bilinear" (computed in float32 whatever the dtype of x), or "nearest" (any dtype, exact).
      align_corners: See `bilinear_matrix`; bilinear only.

    Returns:
      [B, *size, C] in the dtype of x.

    Raises:
      ValueError: The method is unknown, the target size is below 1, or `align_corners` is set with "nearest".
    """
    chex.assert_rank(x, 4)
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"resize needs a target of at least 1x1 pixels, got {height}x{width}")
    if method not in ("bilinear", "nearest"):
        raise ValueError(f"resize knows the methods 'bilinear' and 'nearest', not {method!r}")
    if method == "nearest" and align_corners:
        raise ValueError("align_corners has no meaning for nearest-neighbor resizing; leave it out")
    if x.shape[1:3] == (height, width):
        return x
    if method == "nearest":
        if not (height % x.shape[1] or width % x.shape[2]):
            return enlarge_nearest(x, (height // x.shape[1], width // x.shape[2]))
        # PyTorch's "nearest" takes the pixel at floor(i * source / target), not the nearest of the pixel centers.
        rows = np.arange(height) * x.shape[1] // height
        columns = np.arange(width) * x.shape[2] // width
        return jnp.take(jnp.take(x, rows, axis=1), columns, axis=2)

    by_rows = bilinear_matrix(x.shape[1], height, align_corners)
    by_columns = bilinear_matrix(x.shape[2], width, align_corners)
    return resample(x, by_rows, by_columns)


def rescale(
    x: Real[Array, "batch height width channels"], factor: float
) -> Real[jax.Array, "batch rows columns channels"]:
    """Resizes maps bilinearly by a factor, as `torch.nn.functional.interpolate(scale_factor=factor)` does.

    Sides are rounded down. Sampling points follow from the factor and not from the ratio of the sides, so that pixels
    stay in place even where a side was rounded.

    Args:
      x: Maps [B, H, W, C].
      factor: Factor on height and width.

    Returns:
      [B, floor(factor * H), floor(factor * W), C] in the dtype of x, computed in float32; no side is below 1.

    Raises:
      ValueError: The factor is not above 0.
    """
    chex.assert_rank(x, 4)
    if factor <= 0:
        raise ValueError(f"rescale needs a factor above 0, not {factor}")
    if factor == 1:
        return jnp.asarray(x)
    sides = [(side, max(1, math.floor(factor * side))) for side in x.shape[1:3]]
    return resample(x, *(bilinear_matrix(*axis, step=1 / factor) for axis in sides))


def enlarge_from_corner(
    x: Real[Array, "batch height width channels"], size: tuple[int, int], steps: tuple[float, float]
) -> Real[jax.Array, "batch rows columns channels"]:
    """Interpolates maps bilinearly; pixel j of a map lies on pixel step * j of the result, along either axis.

    Nets whose windows are odd and padded by half their side, such as ResNets, put their pixels there. On a side of
    (H - 1) * step + 1 pixels this is `align_corners`. Beyond the last pixel of the map its value is repeated.

    Args:
      x: Maps [B, H, W, C].
      size: Height and width of the result, in pixels.
      steps: Pixels of the result between neighbors of the map, for height and for width; they need not be whole.

    Returns:
      [B, *size, C] in the dtype of x, computed in float32.

    Raises:
      ValueError: The size is below 1, or a step is not above 0.
    """
    chex.assert_rank(x, 4)
    if min(size) < 1 or min(steps) <= 0:
        raise ValueError(f"a result has at least 1x1 pixels and steps above 0, not {size} and {steps}")
    return resample(x, *(_corner_matrix(*axis) for axis in zip(x.shape[1:3], size, steps)))


def _corner_matrix(source: int, target: int, step: float) -> np.ndarray:
    points = np.minimum(np.arange(target, dtype=np.float64) / step, source - 1)
    return np.maximum(0.0, 1.0 - np.abs(points[:, None] - np.arange(source))).astype(np.float32)


def resample(
    x: Real[Array, "batch height width channels"],
    by_rows: Float32[np.ndarray, "rows height"],
    by_columns: Float32[np.ndarray, "columns width"],
) -> Real[jax.Array, "batch rows columns channels"]:
    """Mixes the rows and the columns of maps: [B, H, W, C], [H', H] and [W', W] to [B, H', W', C] in the dtype of x.

    The result is computed in float32.
    """
    mesh = height_mesh()
    if mesh is None or len(by_rows) % mesh.shape[HEIGHT_AXIS]:
        return _resample(x, by_rows[None], by_columns)
    return _resample_split(x, by_rows, by_columns, mesh)


def _resample(x: jax.Array, by_rows: Any, by_columns: np.ndarray) -> jax.Array:
    """Resamples; `by_rows` is [1, H', H]."""
    batch, rows, columns, channels = x.shape
    height, width = by_rows.shape[1], len(by_columns)
    # Columns first, so that the larger product of the two moves whole rows of the result at once.
    out = _along_second(by_columns, x.astype(jnp.float32).reshape(batch * rows, columns, channels))
    out = out.reshape(batch, rows, width * channels)
    if isinstance(by_rows, np.ndarray) and np.count_nonzero(by_rows, axis=2).max() <= 2:
        out = bind(_mix, out, geometry=_Weights(by_rows.tobytes(), by_rows.shape[1:]))
    else:
        out = _along_second(by_rows[0], out)
    return out.reshape(batch, height, width, channels).astype(x.dtype)


def _resample_split(x: jax.Array, by_rows: np.ndarray, by_columns: np.ndarray, mesh: Any) -> jax.Array:
    """Resamples where the height is split: each device makes its rows of the result.

    Its rows of the map and a few of its neighbors' are enough for that. Where they are not, or the map's rows cannot be
    split evenly, every device takes the whole map, which is then small beside the result.
    """
    devices, (height, source) = mesh.shape[HEIGHT_AXIS], by_rows.shape
    rows = source // devices
    parts = by_rows.reshape(devices, height // devices, source)
    seen = [np.flatnonzero(part.any(axis=0)) for part in parts]
    before = max(0, *(k * rows - int(s[0]) for k, s in enumerate(seen)))
    after = max(0, *(int(s[-1]) + 1 - (k + 1) * rows for k, s in enumerate(seen)))
    everywhere = source % devices != 0 or max(before, after) > rows
    if not everywhere:
        wide = np.pad(parts, ((0, 0), (0, 0), (before, after)))
        parts = np.stack([part[:, k * rows : (k + 1) * rows + before + after] for k, part in enumerate(wide)])

    def own_rows(x: jax.Array, part: jax.Array) -> jax.Array:
        joined = [x]
        if not everywhere and before:
            down = [(k, k + 1) for k in range(devices - 1)]  # the first device has none before, and gets zeros
            joined.insert(0, jax.lax.ppermute(x[:, rows - before :], HEIGHT_AXIS, down))
        if not everywhere and after:
            up = [(k + 1, k) for k in range(devices - 1)]
            joined.append(jax.lax.ppermute(x[:, :after], HEIGHT_AXIS, up))
        return _resample(jnp.concatenate(joined, axis=1), part, by_columns)

    split = PartitionSpec(None, HEIGHT_AXIS)
    return jax.shard_map(
        own_rows,
        mesh=mesh,
        in_specs=(PartitionSpec() if everywhere else split, PartitionSpec(HEIGHT_AXIS)),
        out_specs=split,
        axis_names={HEIGHT_AXIS},  # other axes, such as the one that splits the batch, are left to the partitioner
    )(x, jnp.asarray(parts))


def enlarge_nearest(
    x: Shaped[Array, "batch height width channels"], factors: tuple[int, int]
) -> Shaped[jax.Array, "batch rows columns channels"]:
    """Repeats each pixel of [B, H, W, C] to [B, factors[0] * H, factors[1] * W, C].

    Its gradient is a sum, where that of a gather of rows is a scatter.
    """
    batch, height, width, channels = x.shape
    rows, columns = factors
    wide = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, rows, width, columns, channels))
    return wide.reshape(batch, height * rows, width * columns, channels)


def _along_second(matrix: np.ndarray | jax.Array, x: jax.Array) -> jax.Array:
    """Multiplies [q, p] with the second axis of [n, p, c] to [n, q, c].

    The matrix is repeated over n. As a batched product the result comes out in its final layout. A plain contraction
    would put q first, and transpose the whole large result. Photographs are the exception: they have so many pixels and
    so few channels that the repeated matrix is hundreds of times as large as the result.
    """
    # HIGHEST: the default would round to bfloat16 on TPU.
    highest = jax.lax.Precision.HIGHEST
    if x.shape[1] > _PHOTOGRAPH * x.shape[2]:
        return jnp.moveaxis(jnp.tensordot(matrix, x, (1, 1), precision=highest), 0, 1)
    repeated = jnp.broadcast_to(jnp.asarray(matrix), (x.shape[0], *matrix.shape))
    return jax.lax.dot_general(repeated, x, (((2,), (1,)), ((0,), (0,))), precision=highest)


class _Weights(NamedTuple):
    """A matrix of float32 weights that can be compared, as a primitive's parameters must."""

    content: bytes
    shape: tuple[int, ...]

    @property
    def matrix(self) -> np.ndarray:
        return np.frombuffer(self.content, np.float32).reshape(self.shape)


def _product(x: jax.Array, geometry: _Weights) -> jax.Array:
    return _along_second(geometry.matrix, x)


def _local_mix(x: jax.Array, geometry: _Weights) -> jax.Array:
    return mix_rows(x, geometry.matrix)


def _mix_many(size: int, x: jax.Array, *, mapped: list[bool], geometry: _Weights) -> tuple[jax.Array, int]:
    mixed = bind(_mix, x.reshape(-1, *x.shape[2:]), geometry=geometry)
    return mixed.reshape(size, -1, *mixed.shape[1:]), 0


# Maps [N, P, C] -> [N, Q, C], each row a mixture of two; the transpose is a product everywhere.
_mix = platform_primitive("mix_rows", xla=_product, cpu=_product, local_cpu=_local_mix)
ad.deflinear2(_mix, lambda ct, x, geometry: [_along_second(np.ascontiguousarray(geometry.matrix.T), ct)])
define_batching(_mix, _mix_many)
