"""Computes depthwise convolution for CPU, as elementwise products that XLA fuses into one loop over channels.

XLA's own takes 15 times as long or more. The transpose is a depthwise convolution again; see `cvjax.ops.cpu.conv`.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.ops.cpu.blocks import largest_divisor, sum_over_blocks, sums_in_one_loop
from cvjax.ops.dtypes import wider
from cvjax.ops.geometry import Geometry, pad, tap
from cvjax.shapes import Array

# Maps whose width has no divisor of at least this are widened with zeros to a multiple of `_WIDENED`.
_FEW_SUMMED = 4
_WIDENED = 8
# Kernels of more taps than this are done row by row, so that the running sums stay in registers.
_MANY_TAPS = 9
# Bytes of maps that are in a block of a kernel's gradient, at most, where there are several images.
_BLOCK = 2**21


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width 1 features"],
    geometry: Geometry,
) -> Float[jax.Array, "batch rows columns features"]:
    """Convolves [B, H, W, C] with [kh, kw, 1, C * m] to [B, H', W', C * m]; the input dilation is 1."""
    kh, kw, _, features = kernel.shape
    channels = x.shape[-1]
    multiplier = features // channels
    wide = wider(x.dtype, jnp.float32)
    x, weights = pad(x, geometry.padding), kernel.astype(wide).reshape(kh, kw, channels, multiplier)
    total = None
    for i in range(kh):
        row = None if kh * kw > _MANY_TAPS else total
        for j in range(kw):
            seen = tap(x, (i, j), geometry).astype(wide)
            # An axis for several outputs a channel; one of length 1 would spoil the loop.
            taps = weights[i, j, None, None, None]
            product = seen * taps[..., 0] if multiplier == 1 else seen[..., None] * taps
            row = product if row is None else row + product
        if kh * kw > _MANY_TAPS and total is not None:
            total, row = lax.optimization_barrier((total, row))
            row = total + row
        total = row
    assert total is not None  # kernels have taps
    return total.reshape(*total.shape[:3], features).astype(x.dtype)


def kernel_gradient(
    x: Float[Array, "batch height width channels"],
    ct: Float[Array, "batch rows columns features"],
    geometry: Geometry,
    *,
    in_blocks: bool = False,
) -> Float[jax.Array, "kernel_height kernel_width 1 features"]:
    """Computes the gradient for the kernel: [B, H, W, C] and [B, H', W', C * m] to [kh, kw, 1, C * m].

    Args:
      x: Maps.
      ct: Cotangent of the output.
      geometry: Sizes, steps and padding of the convolution; the input dilation is 1.
      in_blocks: Whether to take few images at a time. It is 1.3 to 2.7 times as fast, as each row of taps finds them in
        the cache. A program whose images are spread over devices would gather them.
    """
    channels, features = x.shape[-1], ct.shape[-1]
    if features > channels:
        parts = ct.reshape(*ct.shape[:3], channels, features // channels)
        gradients = [
            kernel_gradient(x, parts[..., i], geometry, in_blocks=in_blocks) for i in range(features // channels)
        ]
        return jnp.stack(gradients, axis=-1).reshape(*geometry.kernel_size, 1, features)

    wide = wider(x.dtype, jnp.float32)
    summed = largest_divisor(ct.shape[2])
    if summed < min(_FEW_SUMMED, ct.shape[2]):
        more = -ct.shape[2] % _WIDENED
        ct = pad(ct, ((0, 0), (0, more)))
        top, (left, right) = geometry.padding
        geometry = replace(geometry, padding=(top, (left, right + more * geometry.strides[1])))
        summed = _WIDENED
    batch, height, width, _ = ct.shape
    images = largest_divisor(batch, _BLOCK // (x.nbytes // batch)) if in_blocks else batch

    def sums(block: jax.Array | int) -> jax.Array:
        maps, cts = (lax.dynamic_slice_in_dim(a, block * images, images) for a in (x, ct))
        shape = (images, height, width // summed, summed, channels)
        maps = lax.optimization_barrier(pad(maps, geometry.padding))  # or the loop would test for it at every pixel
        cts = cts.astype(wide).reshape(shape)
        parts = []
        for i in range(geometry.kernel_size[0]):
            # The taps of a row in one loop, which reads the cotangent once.
            seen = [tap(maps, (i, j), geometry).astype(wide).reshape(shape) for j in range(geometry.kernel_size[1])]
            parts += sums_in_one_loop([a * cts for a in seen], axis=3)
        parts = lax.optimization_barrier(parts)
        return jnp.stack([part.reshape(-1, channels).sum(axis=0) for part in parts])

    # Filled like an argument, as that has its manual axes under `shard_map`.
    zero = lax.full_like(ct, 0, wide, (len(geometry.places), channels))
    total = sum_over_blocks(batch // images, sums, zero)
    return total.reshape(*geometry.kernel_size, 1, channels).astype(x.dtype)
