"""Two-dimensional convolution and max-pooling, each with the lowering that suits the platform.

XLA's own convolution is the right one on GPU and TPU. On CPU it is slow for 1x1 kernels (a matrix product
in disguise) and very slow for depthwise and grouped ones, and so is the gradient of `reduce_window`. The
choice is made by `jax.lax.platform_dependent` when a program is lowered, so a program exported on a laptop
for a TPU holds what a TPU wants.
"""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Cross-correlation of maps with a kernel.

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C // groups, F], of the same dtype.
      strides: steps between outputs, in pixels.
      padding: zeros before and after, for height and for width.
      dilation: distance between the taps of the kernel, in pixels.
      groups: channels are split into this many independent groups.

    Returns:
      [B, H', W', F] with H' = (H + pads - dilation * (kh - 1) - 1) // stride + 1, in the dtype of x.

    Raises:
      AssertionError: ranks, dtypes or channel counts that do not fit together.
    """
    chex.assert_rank((x, kernel), 4)
    chex.assert_equal(x.dtype, kernel.dtype)
    chex.assert_equal(x.shape[-1], kernel.shape[2] * groups)
    stock = partial(_stock_conv, strides=strides, padding=padding, dilation=dilation, groups=groups)
    cpu: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    if groups == 1 and kernel.shape[:2] == (1, 1):
        cpu = partial(_pointwise_conv, strides=strides, padding=padding)
    elif groups > 1 and kernel.shape[2] == 1:
        cpu = partial(_depthwise_conv, strides=strides, padding=padding, dilation=dilation)
    elif groups > 1:
        cpu = partial(_grouped_conv, strides=strides, padding=padding, dilation=dilation, groups=groups)
    if cpu is None:
        return stock(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=cpu, default=stock)


def max_pool(x: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over square windows; padding never wins (it counts as minus infinity), as in PyTorch.

    Args:
      x: [B, H, W, C], floating point.
      window: side of the window, in pixels.
      stride: step between windows, in pixels.
      padding: pixels added on every side, at most half of the window.

    Returns:
      [B, H', W', C] with H' = (H + 2 * padding - window) // stride + 1.

    Raises:
      ValueError: padding of more than half the window, which would make windows of padding alone.
    """
    chex.assert_rank(x, 4)
    if 2 * padding > window:
        raise ValueError(f"max_pool: padding {padding} is more than half of the window {window}")

    def stock(x: jax.Array) -> jax.Array:
        pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads)

    def slices(x: jax.Array) -> jax.Array:
        x = _pad(x, ((padding, padding), (padding, padding)), -jnp.inf)
        # Rows first, then columns: 2k - 1 maxima instead of k * k.
        rows = _taps(x, 1, window, stride, 1)
        x = jax.tree.reduce(lax.max, rows)
        return jax.tree.reduce(lax.max, _taps(x, 2, window, stride, 1))

    return lax.platform_dependent(x, cpu=slices, default=stock)


def _stock_conv(
    x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, dilation: Pair, groups: int
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _pointwise_conv(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """A 1x1 convolution as one matrix product over all pixels."""
    x = _pad(x, padding)[:, :: strides[0], :: strides[1]]
    flat = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])


def _depthwise_conv(
    x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, dilation: Pair
) -> jax.Array:
    """A depthwise convolution as a sum of shifted products, which XLA fuses into one loop."""
    kh, kw, _, features = kernel.shape
    channels = x.shape[-1]
    multiplier = features // channels
    weights = kernel.astype(jnp.float32).reshape(kh, kw, channels, multiplier)
    total: jax.Array | None = None
    for i, rows in enumerate(_taps(_pad(x, padding), 1, kh, strides[0], dilation[0])):
        for j, tap in enumerate(_taps(rows, 2, kw, strides[1], dilation[1])):
            tap = tap.astype(jnp.float32)
            # An axis for several outputs a channel; one of length 1 would make the gradient twice as slow.
            product = tap * weights[i, j, :, 0] if multiplier == 1 else tap[..., None] * weights[i, j]
            total = product if total is None else total + product
    assert total is not None
    return total.reshape(*total.shape[:3], features).astype(x.dtype)


def _grouped_conv(
    x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, dilation: Pair, groups: int
) -> jax.Array:
    """A grouped convolution as one matrix product a group, batched, over the taps side by side."""
    kh, kw, inside, features = kernel.shape
    patches = [
        tap
        for rows in _taps(_pad(x, padding), 1, kh, strides[0], dilation[0])
        for tap in _taps(rows, 2, kw, strides[1], dilation[1])
    ]
    batch, height, width, _ = patches[0].shape
    stacked = jnp.stack([p.reshape(-1, groups, inside) for p in patches])  # [taps, pixels, groups, inside]
    weights = kernel.reshape(kh * kw, inside, groups, features // groups)
    out = jnp.einsum("tpgi,tigo->gpo", stacked, weights)
    return out.transpose(1, 0, 2).reshape(batch, height, width, features)


def _pad(x: jax.Array, padding: Padding, value: float = 0.0) -> jax.Array:
    (top, bottom), (left, right) = padding
    if top == bottom == left == right == 0:
        return x
    edges = ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0))
    return lax.pad(x, jnp.asarray(value, x.dtype), edges)


def _taps(x: jax.Array, axis: int, size: int, stride: int, dilation: int) -> list[jax.Array]:
    """The strided slices along an axis that the taps of a kernel see, one a tap."""
    count = (x.shape[axis] - dilation * (size - 1) - 1) // stride + 1
    return [
        lax.slice_in_dim(x, i * dilation, i * dilation + (count - 1) * stride + 1, stride, axis)
        for i in range(size)
    ]
