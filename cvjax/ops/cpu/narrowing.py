"""Computes gradients of dense kernels that make few channels of many, as matrix products over a few rows at a time.

XLA's own convolution turns both arrays around first, so that the batch comes last. Where the output has far fewer
channels than the maps, copies of its cotangent, one for each tap, cost less. They are made for a few rows at a time, so
that they are still in the cache when they are multiplied.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.ops.cpu.blocks import largest_divisor, sum_over_blocks
from cvjax.ops.geometry import Geometry, pad, turn
from cvjax.shapes import Array

# Bytes of columns that are made at a time, at most.
_BLOCK = 2**21
# It pays where the maps have at least so many channels, and so many times the output's (one thread, batch 8: 56x56x128
# to 32 1.3 times as fast as XLA, 28x28x192 to 16 2.1 times, 28x28x128 to 64 1.0, 28x28x32 to 128 0.9;
# `benchmarks/kernel_gradients.py`).
_MUCH_WIDER = 4
_WIDE = 64


def suits(x: jax.Array, ct: jax.Array, geometry: Geometry) -> bool:
    """Tells whether the output has few channels enough; for kernels of one group, without strides and dilation."""
    plain = geometry.strides == geometry.kernel_dilation == geometry.input_dilation == (1, 1)
    return plain and geometry.groups == 1 and x.shape[-1] >= max(_WIDE, _MUCH_WIDER * ct.shape[-1])


def kernel_gradient(
    x: Float[Array, "batch height width channels"],
    ct: Float[Array, "batch rows columns features"],
    geometry: Geometry,
    outer: Callable[[jax.Array, jax.Array], jax.Array],
) -> Float[jax.Array, "kernel_height kernel_width channels features"]:
    """Computes the gradient for the kernel: [B, H, W, C] and [B, H', W', F] to [kh, kw, C, F].

    Args:
      x: Maps.
      ct: Cotangent of the output.
      geometry: Sizes and padding of the convolution, which has one group, no strides and no dilation.
      outer: Function that multiplies [N, A] and [N, B] to [A, B].
    """
    # Seen from the output this is the convolution whose kernel is turned around, and the cotangent its input.
    return turn(_by_columns(ct, x, geometry.transposed, outer), 1)


def _by_columns(
    x: jax.Array, ct: jax.Array, geometry: Geometry, outer: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Computes the gradient from columns of x: for each pixel, what each tap sees."""
    (kh, kw), (height, width) = geometry.kernel_size, geometry.output_size
    batch, features, channels = ct.shape[0], ct.shape[3], kh * kw * x.shape[3]
    x = pad(x, geometry.padding)
    row = width * channels * x.dtype.itemsize
    rows = largest_divisor(height, _BLOCK // row)
    images = largest_divisor(batch, _BLOCK // (row * height)) if rows == height else 1

    def products(block: jax.Array | int) -> jax.Array:
        start = (block // (height // rows) * images, block % (height // rows) * rows)
        seen = lax.dynamic_slice(x, (*start, 0, 0), (images, rows + kh - 1, *x.shape[2:]))
        columns = [seen[:, i : i + rows, j : j + width] for i, j in geometry.places]
        cts = lax.dynamic_slice(ct, (*start, 0, 0), (images, rows, width, features))
        return outer(jnp.concatenate(columns, axis=-1).reshape(-1, channels), cts.reshape(-1, features))

    blocks = (batch // images) * (height // rows)
    zero = jnp.zeros((channels, features), x.dtype)
    return sum_over_blocks(blocks, products, zero).reshape(kh, kw, -1, features)
