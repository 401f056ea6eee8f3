"""Computes deformable convolution: each tap of the kernel reads the map where an offset sends it."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.ops.dtypes import wider
from cvjax.ops.geometry import Pads, Pair
from cvjax.ops.sampling import bilinear_weights, split_points, weighted_corners
from cvjax.shapes import Array


def deform_conv2d(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    offset: Float[Array, "batch rows columns offsets"],
    mask: Float[Array, "batch rows columns taps"] | None = None,
    *,
    strides: Pair = (1, 1),
    padding: Pads = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Float[jax.Array, "batch rows columns features"]:
    """Computes deformable convolution, version 1 (Dai et al., 1703.06211) or, with a mask, 2 (Zhu et al., 1811.11168).

    The tap (i, j) of the output pixel (y, x) reads the map, bilinearly interpolated, at row
    `y * stride - pad + i * dilation + dy`, and at the column alike. The map is zero beyond its border. The channels of
    x are split into offset groups, each with its own offsets; the shape of `offset` gives their number. With offsets of
    zero and no mask this is `cvjax.ops.conv.conv2d`.

    The taps are read and multiplied one after another, and read again for the gradient. So the array of all taps, which
    is kh * kw times as large as the map, never exists. That also took half the time on CPU.

    Args:
      x: Maps [B, H, W, C].
      kernel: Kernel [kh, kw, C // groups, F], of the same dtype.
      offset: Offsets [B, H', W', offset_groups * kh * kw * 2], in pixels. The channels hold, outermost first, offset
        group, tap row, tap column, (dy, dx), which is torchvision's order.
      mask: Factors [B, H', W', offset_groups * kh * kw] on the values that the taps read; None for version 1.
      strides: Steps between outputs, in pixels.
      padding: Zeros before and after, for height and for width.
      dilation: Distance between the taps of the kernel, in pixels.
      groups: Number of independent groups of the kernel that the channels are split into.

    Returns:
      [B, H', W', F] in the dtype of x. Positions, interpolation and sums are float32 or wider.

    Raises:
      AssertionError: Ranks, dtypes or shapes do not fit together.
      ValueError: The channels of `offset` are no multiple of 2 * kh * kw, or the offset groups do not divide the
        channels of x.
    """
    chex.assert_rank((x, kernel, offset), 4)
    chex.assert_equal(x.dtype, kernel.dtype)
    batch, height, width, channels = x.shape
    kh, kw, inside, features = kernel.shape
    chex.assert_equal(channels, inside * groups)
    offset_groups, rest = divmod(offset.shape[-1], 2 * kh * kw)
    if rest or offset_groups == 0 or channels % offset_groups:
        raise ValueError(
            f"deform_conv2d: {offset.shape[-1]} offset channels; a {kh}x{kw} kernel over {channels} channels "
            f"needs {2 * kh * kw} for each offset group, and a number of groups that divides {channels}"
        )
    rows = _tap_positions(height, kh, strides[0], padding[0], dilation[0])
    columns = _tap_positions(width, kw, strides[1], padding[1], dilation[1])
    size = (rows.shape[1], columns.shape[1])
    chex.assert_shape(offset, (batch, *size, None))
    if mask is not None:
        chex.assert_shape(mask, (batch, *size, offset_groups * kh * kw))

    wide = wider(x.dtype, jnp.float32)
    # From here on [B, kh, kw, H', W', offset_groups].
    offset = jnp.moveaxis(offset.astype(wide).reshape(batch, *size, offset_groups, kh, kw, 2), (4, 5), (1, 2))
    y = offset[..., 0] + rows[None, :, None, :, None, None].astype(wide)
    x_ = offset[..., 1] + columns[None, None, :, None, :, None].astype(wide)
    # A frame of one zero pixel around the map: whatever lies farther out is moved onto it.
    top, down = split_points(jnp.clip(y, -1, height) + 1, height)
    left, right = split_points(jnp.clip(x_, -1, width) + 1, width)
    weights = bilinear_weights(down, right)
    if mask is not None:
        mask = mask.astype(wide).reshape(batch, *size, offset_groups, kh, kw)
        weights = weights * jnp.moveaxis(mask, (4, 5), (1, 2))[..., None]
    # The table holds one offset group's map after another.
    pixels = (height + 2) * (width + 2)
    table = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(batch, pixels, offset_groups, -1)
    table = table.swapaxes(1, 2).reshape(batch, pixels * offset_groups, -1)
    first = jnp.arange(offset_groups, dtype=jnp.int32) * pixels
    corner = top * (width + 2) + left + jnp.expand_dims(first, tuple(range(5)))

    @partial(jax.checkpoint, prevent_cse=False)  # scan keeps the second reading apart from the first
    def product(table: jax.Array, kernel: jax.Array, corner: jax.Array, weights: jax.Array) -> jax.Array:
        read = jax.vmap(lambda t, c, w: weighted_corners(t, c, width + 2, w))(table, corner, weights)
        return jnp.matmul(read.astype(x.dtype).reshape(-1, channels), kernel, preferred_element_type=wide)

    def add_tap(total: jax.Array, tap: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + product(table, *tap), None

    points = size[0] * size[1] * offset_groups
    taps = (
        _block_diagonal(kernel, groups).reshape(kh * kw, channels, features),
        jnp.moveaxis(corner.reshape(batch, kh * kw, points), 1, 0),
        jnp.moveaxis(weights.reshape(batch, kh * kw, points, 4), 1, 0),
    )
    total, _ = lax.scan(add_tap, jnp.zeros((batch * size[0] * size[1], features), wide), taps)
    return total.reshape(batch, *size, features).astype(x.dtype)


def _block_diagonal(kernel: jax.Array, groups: int) -> jax.Array:
    """Returns the dense kernel that equals a grouped one: [kh, kw, C // groups, F] to [kh, kw, C, F].

    Next to reading the taps, the products with its zeros cost less than many small matrix products would.
    """
    if groups == 1:
        return kernel
    kh, kw, inside, features = kernel.shape
    blocks = kernel.reshape(kh, kw, 1, inside, groups, features // groups)
    blocks = blocks * jnp.eye(groups, dtype=kernel.dtype)[None, None, :, None, :, None]
    return blocks.reshape(kh, kw, inside * groups, features)


def _tap_positions(length: int, size: int, stride: int, pads: Pair, dilation: int) -> jax.Array:
    """Returns the pixel along one axis that each tap reads for each output, int32 [size, outputs]."""
    outputs = (length + sum(pads) - dilation * (size - 1) - 1) // stride + 1
    return jnp.arange(size)[:, None] * dilation + jnp.arange(outputs)[None] * stride - pads[0]
