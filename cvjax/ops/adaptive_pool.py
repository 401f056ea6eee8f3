"""Pools maps to a given size, with PyTorch's bins."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Real

from cvjax.ops.dtypes import wider
from cvjax.shapes import Array


def adaptive_max_pool(
    x: Real[Array, "batch height width channels"], size: tuple[int, int]
) -> Real[Array, "batch rows columns channels"]:
    """Returns the maximum over each bin of a grid: [B, H, W, C] to [B, *size, C].

    Bin i of n along an axis of length m holds the pixels from floor(i * m / n) up to ceil((i + 1) * m / n). Bins share
    pixels where n does not divide m.

    Raises:
      ValueError: A size is below 1, or the maps have no pixels.
    """
    return _pool(x, size, jnp.max)


def adaptive_avg_pool(
    x: Real[Array, "batch height width channels"], size: tuple[int, int]
) -> Real[Array, "batch rows columns channels"]:
    """Returns the mean over each bin of a grid, as `adaptive_max_pool` lays it out; summed in float32 or wider."""
    wide = x.astype(wider(x.dtype, jnp.float32))
    return _pool(wide, size, jnp.mean).astype(x.dtype)


def _pool(x: jax.Array, size: tuple[int, int], reduce: Callable[..., jax.Array]) -> jax.Array:
    chex.assert_rank(x, 4)
    if min(size) < 1 or 0 in x.shape[1:3]:
        raise ValueError(f"adaptive pooling needs pixels and a size of at least 1x1, got {x.shape[1:3]} to {size}")
    if x.shape[1:3] == tuple(size):
        return x
    # Maxima and means are both separable: rows first, then columns.
    for axis, bins in zip((1, 2), size):
        length = x.shape[axis]
        parts = [
            jax.lax.slice_in_dim(x, i * length // bins, -(-(i + 1) * length // bins), axis=axis) for i in range(bins)
        ]
        x = jnp.stack([reduce(part, axis=axis) for part in parts], axis)
    return x
