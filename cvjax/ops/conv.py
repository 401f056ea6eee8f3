"""Defines two-dimensional convolution as three primitives, each with the lowering that suits the platform.

Convolution is linear in the maps and in the kernel, so its derivatives of every order are made of three functions:
the convolution itself, the gradient for its input, and the gradient for its kernel. Each is the transpose of the
others. XLA's own convolution is the right one on GPU and TPU. On CPU it is slow for many shapes, and its gradients are
slower still; `cvjax.ops.cpu.conv` says how they are computed there.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.ops import conv_split, conv_xla
from cvjax.ops.cpu import conv as cpu
from cvjax.ops.geometry import Geometry, Pads, Pair, pair
from cvjax.ops.primitives import bind, define_batching, define_bilinear, is_explicitly_sharded, platform_primitive
from cvjax.shapes import Array


def conv2d(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    *,
    strides: Pair = (1, 1),
    padding: Pads = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    input_dilation: Pair = (1, 1),
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> Float[jax.Array, "batch rows columns features"]:
    """Computes the cross-correlation of maps with a kernel.

    Args:
      x: Maps [B, H, W, C], floating point.
      kernel: Kernel [kh, kw, C // groups, F], of the same dtype.
      strides: Steps between outputs, in pixels.
      padding: Zeros before and after, for height and for width; negative numbers crop.
      dilation: Distance between the taps of the kernel, in pixels.
      input_dilation: Distance between the input's pixels once they are spread, with zeros between them. Spreading
        comes before padding.
      groups: Number of independent groups that the channels are split into.
      precision: Precision of the products on GPU and TPU (see `jax.lax.Precision`); CPU always computes in full.

    Returns:
      [B, H', W', F] in the dtype of x, with H' = (H + pads - dilation * (kh - 1) - 1) // stride + 1, where H is
      counted after spreading.

    Raises:
      AssertionError: Ranks, dtypes or channel counts do not fit together.
    """
    chex.assert_rank((x, kernel), 4)
    chex.assert_equal(x.dtype, kernel.dtype)
    chex.assert_equal(x.shape[-1], kernel.shape[2] * groups)
    chex.assert_is_divisible(kernel.shape[3], groups)
    geometry = Geometry(
        input_size=pair(x.shape[1:3]),
        kernel_size=pair(kernel.shape[:2]),
        strides=pair(strides),
        padding=pair((low, high) for low, high in padding),
        input_dilation=pair(input_dilation),
        kernel_dilation=pair(dilation),
        groups=groups,
        precision=cast(lax.PrecisionLike, tuple(precision)) if isinstance(precision, list) else precision,
    )
    if is_explicitly_sharded(x, kernel):
        return conv_xla.convolve(x, kernel, geometry)  # the rules of jax.lax say what the gradients' shardings are
    return bind(_conv, x, kernel, geometry=geometry)


def channel_products(
    x: Float[Array, "batch height width channels"],
    y: Float[Array, "batch height width features"],
    *,
    precision: lax.PrecisionLike = None,
) -> Float[jax.Array, "channels features"]:
    """Sums products of each channel of one map with each of another over all pixels.

    This is the gradient of a 1x1 convolution for its kernel.

    Args:
      x: Maps [B, H, W, C], floating point.
      y: Maps [B, H, W, F], of the same dtype.
      precision: As for `conv2d`.
    """
    chex.assert_equal_shape_prefix((x, y), 3)
    geometry = Geometry(pair(x.shape[1:3]), (1, 1), precision=precision)
    if is_explicitly_sharded(x, y):
        return conv_xla.kernel_gradient(x, y, geometry)[0, 0]
    return bind(_kernel_gradient, x, y, geometry=geometry)[0, 0]


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Computes `jax.lax.conv_general_dilated`, by `conv2d` for two-dimensional NHWC convolutions of floats.

    All other convolutions go to `jax.lax` unchanged. Arguments, result and errors are those of `jax.lax`.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ours = (
        numbers == _NUMBERS
        and batch_group_count == 1
        and preferred_element_type is None
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
    )
    if not ours:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )
    spread, dilation = pair(lhs_dilation or (1, 1)), pair(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        if spread != (1, 1):
            raise ValueError(
                "conv_general_dilated: padding by name has no meaning with lhs_dilation; give pairs of pixels, "
                "or use conv_transpose"
            )
        reach = tuple((k - 1) * d + 1 for k, d in zip(rhs.shape[:2], dilation))
        pads = lax.padtype_to_pads(lhs.shape[1:3], reach, window_strides, padding)
    else:
        pads = padding
    return conv2d(
        lhs,
        rhs,
        strides=pair(window_strides),
        padding=pair(pads),
        dilation=dilation,
        input_dilation=spread,
        groups=feature_group_count,
        precision=precision,
    )


_NUMBERS = lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))


_conv = platform_primitive(
    "conv2d",
    xla=conv_xla.convolve,
    cpu=cpu.convolve,
    local_cpu=partial(cpu.convolve, library=True),
    split=conv_split.convolve,
)
_input_gradient = platform_primitive(
    "conv2d_input_gradient",
    xla=conv_xla.input_gradient,
    cpu=cpu.input_gradient,
    local_cpu=partial(cpu.input_gradient, library=True),
    split=conv_split.input_gradient,
)
_kernel_gradient = platform_primitive(
    "conv2d_kernel_gradient",
    xla=conv_xla.kernel_gradient,
    cpu=cpu.kernel_gradient,
    local_cpu=partial(cpu.kernel_gradient, library=True),
    split=conv_split.kernel_gradient,
)

# conv(x, k), input_gradient(ct, k) and kernel_gradient(x, ct) are the three contractions of one trilinear form.
define_bilinear(
    _conv,
    lambda ct, kernel, geometry: bind(_input_gradient, ct, kernel, geometry=geometry),
    lambda ct, x, geometry: bind(_kernel_gradient, x, ct, geometry=geometry),
)
define_bilinear(
    _input_gradient,
    lambda x, kernel, geometry: bind(_conv, x, kernel, geometry=geometry),
    lambda x, ct, geometry: bind(_kernel_gradient, x, ct, geometry=geometry),
)
define_bilinear(
    _kernel_gradient,
    lambda kernel, ct, geometry: bind(_input_gradient, ct, kernel, geometry=geometry),
    lambda kernel, x, geometry: bind(_conv, x, kernel, geometry=geometry),
)


def _batched(
    primitive: Any,
    size: int,
    first: jax.Array,
    second: jax.Array,
    *,
    mapped: list[bool],
    geometry: Geometry,
) -> tuple[jax.Array, int]:
    """Maps a primitive over the batch where the kernel is shared, and over groups of channels otherwise."""
    if mapped == [True, False] and primitive is not _kernel_gradient:
        out = bind(primitive, first.reshape(-1, *first.shape[2:]), second, geometry=geometry)
        return out.reshape(size, -1, *out.shape[1:]), 0
    if not mapped[0] and geometry.groups == 1 and primitive is not _input_gradient:
        out = bind(primitive, first, _into_channels(second), geometry=geometry)
    else:
        first, second = (
            a if is_mapped else jnp.broadcast_to(a, (size, *a.shape)) for a, is_mapped in zip((first, second), mapped)
        )
        geometry = replace(geometry, groups=geometry.groups * size)
        out = bind(primitive, _into_channels(first), _into_channels(second), geometry=geometry)
    return out.reshape(*out.shape[:3], size, out.shape[3] // size), 3


def _into_channels(a: jax.Array) -> jax.Array:
    """Moves the first axis into the channels: [V, ., ., ., C] to [., ., ., V * C]."""
    a = jnp.moveaxis(a, 0, 3)
    return a.reshape(*a.shape[:3], a.shape[3] * a.shape[4])


for _primitive in (_conv, _input_gradient, _kernel_gradient):
    define_batching(_primitive, partial(_batched, _primitive))
