"""Makes convolutions without dilation of convolutions with one: pixels that taps see together become maps of a batch.

With a rate of 2, outputs in even rows see even rows alone. So a dilated convolution is four plain ones, on maps of a
quarter of the pixels.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Shaped

from cvjax.ops.geometry import Geometry, Pair
from cvjax.shapes import Array


def space_to_batch(
    x: Shaped[Array, "batch height width channels"], rates: Pair
) -> Shaped[jax.Array, "maps rows columns channels"]:
    """Parts maps [B, H, W, C] by their pixels' places modulo the rates: to [r * s * B, ceil(H / r), ceil(W / s), C].

    Rows and columns that are missing at the end are zero.
    """
    (rows, columns), (batch, height, width, channels) = rates, x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % rows), (0, -width % columns), (0, 0)))
    x = x.reshape(batch, x.shape[1] // rows, rows, x.shape[2] // columns, columns, channels)
    return x.transpose(2, 4, 0, 1, 3, 5).reshape(-1, x.shape[1], x.shape[3], channels)


def batch_to_space(
    x: Shaped[Array, "maps height width channels"], rates: Pair, size: Pair
) -> Shaped[jax.Array, "batch rows columns channels"]:
    """Joins what `space_to_batch` has parted, and crops it to a size."""
    (rows, columns), (_, height, width, channels) = rates, x.shape
    x = x.reshape(rows, columns, -1, height, width, channels).transpose(2, 3, 0, 4, 1, 5)
    return x.reshape(-1, height * rows, width * columns, channels)[:, : size[0], : size[1]]


def space_to_batch_geometry(geometry: Geometry) -> Geometry:
    """Returns the geometry of each of the plain convolutions, of maps that are padded before they are parted."""
    sizes = [n + low + high for n, (low, high) in zip(geometry.input_size, geometry.padding)]
    parted = [-(-n // rate) for n, rate in zip(sizes, geometry.kernel_dilation)]
    return Geometry((parted[0], parted[1]), geometry.kernel_size)
