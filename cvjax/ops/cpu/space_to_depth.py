"""Turns a strided convolution into one without stride: each stride x stride block of pixels becomes one pixel.

That pixel has the channels of all pixels of its block. In this form the strided convolution wastes no steps, and its
transpose makes all phases of the output at once.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.ops.geometry import Geometry, Pads, Pair, pad, pair
from cvjax.shapes import Array


def has_space_to_depth(geometry: Geometry) -> bool:
    """Tells whether a convolution has one group, taps side by side, and strides other than 1 that the kernel covers."""
    covered = all(k >= step for k, step in zip(geometry.kernel_size, geometry.strides))
    return geometry.groups == 1 and geometry.kernel_dilation == (1, 1) and covered and geometry.strides != (1, 1)


def space_to_depth_geometry(geometry: Geometry) -> Geometry:
    """Returns the geometry of the convolution over folded maps."""
    taps = _folded_taps(geometry)
    sizes = pair(n + k - 1 for n, k in zip(geometry.output_size, taps))
    return replace(geometry, input_size=sizes, kernel_size=taps, strides=(1, 1), padding=((0, 0), (0, 0)))


def space_to_depth(
    x: Float[Array, "batch height width channels"], geometry: Geometry
) -> Float[jax.Array, "batch rows columns folded"]:
    """Folds blocks of pixels into channels: [B, H, W, C] to [B, h, w, stride * stride * C]."""
    (sh, sw), (h, w) = geometry.strides, space_to_depth_geometry(geometry).input_size
    x = pad(x, pair((low, -high) for low, high in _cropping(geometry)))
    x = x.reshape(x.shape[0], h, sh, w, sw, x.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(x.shape[0], h, w, -1)


def depth_to_space(
    x: Float[Array, "batch rows columns folded"], geometry: Geometry, channels: int
) -> Float[jax.Array, "batch height width channels"]:
    """Transposes `space_to_depth`: [B, h, w, stride * stride * C] to [B, H, W, C]."""
    (sh, sw), (batch, h, w, _) = geometry.strides, x.shape
    x = x.reshape(batch, h, w, sh, sw, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, h * sh, w * sw, channels)
    return pad(x, pair((-low, high) for low, high in _cropping(geometry)))


def kernel_to_depth(
    kernel: Float[Array, "kernel_height kernel_width inside features"], geometry: Geometry
) -> Float[jax.Array, "rows columns folded features"]:
    """Folds a kernel: [kh, kw, C, F] to [ceil(kh / stride), ceil(kw / stride), stride * stride * C, F]."""
    (sh, sw), (qh, qw) = geometry.strides, _folded_taps(geometry)
    kh, kw, channels, features = kernel.shape
    edges = ((0, qh * sh - kh, 0), (0, qw * sw - kw, 0), (0, 0, 0), (0, 0, 0))
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), edges)
    kernel = kernel.reshape(qh, sh, qw, sw, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(qh, qw, sh * sw * channels, features)


def kernel_from_depth(
    kernel: Float[Array, "rows columns folded features"], geometry: Geometry
) -> Float[jax.Array, "kernel_height kernel_width inside features"]:
    """Transposes `kernel_to_depth`."""
    (sh, sw), (qh, qw, _, features) = geometry.strides, kernel.shape
    kernel = kernel.reshape(qh, qw, sh, sw, -1, features).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(qh * sh, qw * sw, -1, features)
    return kernel[: geometry.kernel_size[0], : geometry.kernel_size[1]]


def _folded_taps(geometry: Geometry) -> Pair:
    return pair(-(-k // step) for k, step in zip(geometry.kernel_size, geometry.strides))


def _cropping(geometry: Geometry) -> Pads:
    """Returns, for each axis, the pixels to add before and to take off after.

    With them the blocks start where the first output looks.
    """
    folded = space_to_depth_geometry(geometry).input_size
    lows = [low for low, _ in geometry.padding]
    steps = zip(lows, geometry.input_size, folded, geometry.strides)
    return pair((low, low + n - f * step) for low, n, f, step in steps)
