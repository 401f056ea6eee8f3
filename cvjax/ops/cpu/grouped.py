"""Computes gradients of grouped kernels as one batch of matrix products, one for a few groups at a time.

Copies of the maps, one for each tap along a row, stand beside copies of the output's cotangent, one for each tap along
a column. The product of the two holds every pair of taps, so nothing in it is wasted but pairs of different groups.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.ops.cpu import onednn
from cvjax.ops.cpu.blocks import largest_divisor, sum_over_blocks
from cvjax.ops.geometry import Geometry, pad
from cvjax.shapes import Array

# Groups are taken together up to this many channels (32 groups of 4, 56x56, one thread: 30 ms; to 32 channels 66 ms).
_TOGETHER = 16
# Bytes of copies that are made at a time, at most, where there are several images.
_BLOCK = 2**27


def suits(x: jax.Array, ct: jax.Array, geometry: Geometry) -> bool:
    """Tells whether the products are available and the fastest, for groups of several channels without strides."""
    plain = geometry.strides == geometry.input_dilation == (1, 1)
    pixels = ct.size // max(ct.shape[-1], 1)
    return plain and pixels >= onednn.FEW_ROWS and x.dtype == ct.dtype and onednn.sums(x.dtype)


def kernel_gradient(
    x: Float[Array, "batch height width channels"], ct: Float[Array, "batch rows columns features"], geometry: Geometry
) -> Float[jax.Array, "kernel_height kernel_width inside features"]:
    """Computes the gradient for the kernel: [B, H, W, C] and [B, H', W', F] to [kh, kw, C // groups, F]."""
    (kh, kw), groups, batch = geometry.kernel_size, geometry.groups, x.shape[0]
    inside, outside = x.shape[3] // groups, ct.shape[3] // groups
    together = largest_divisor(groups, _TOGETHER // inside)
    down, across = geometry.kernel_dilation
    x = pad(x, geometry.padding)
    height, width = ct.shape[1] + (kh - 1) * down, ct.shape[2]
    beside_map = (kh - 1) * down
    ct = pad(ct, ((beside_map, beside_map), (0, 0)))
    size = x.dtype.itemsize * height * width * (kw * x.shape[3] + kh * ct.shape[3])
    images = largest_divisor(batch, _BLOCK // size)

    def products(block: jax.Array | int) -> jax.Array:
        maps, cts = (lax.dynamic_slice_in_dim(a, block * images, images) for a in (x, ct))
        beside = [maps[:, :height, j * across : j * across + width] for j in range(kw)]
        above = [cts[:, (kh - 1 - i) * down : (kh - 1 - i) * down + height] for i in range(kh)]
        return onednn.outer_batched(_by_groups(beside, groups // together), _by_groups(above, groups // together))

    shape = (groups // together, kw * together * inside, kh * together * outside)
    zero = jnp.zeros(shape, x.dtype)
    total = sum_over_blocks(batch // images, products, zero).reshape(-1, kw, together, inside, kh, together, outside)
    own = jnp.stack([total[:, :, m, :, :, m] for m in range(together)], axis=1)  # [count, together, kw, c, kh, f]
    return own.transpose(4, 2, 3, 0, 1, 5).reshape(kh, kw, inside, groups * outside)


def _by_groups(taps: list[jax.Array], count: int) -> jax.Array:
    """Splits the channels of what each tap sees, [n, H, W, C], into groups: [count, n H W, taps * (C // count)]."""
    channels = taps[0].shape[3]
    parts = jnp.stack([a.reshape(-1, count, channels // count) for a in taps], axis=2)
    return parts.transpose(1, 0, 2, 3).reshape(count, -1, len(taps) * channels // count)
