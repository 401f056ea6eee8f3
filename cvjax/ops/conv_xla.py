"""Computes convolution and its two gradients with XLA's own operations, as `jax.lax` makes them."""

import jax
from jax import lax
from jaxtyping import Float

from cvjax.ops.geometry import Geometry
from cvjax.ops.primitives import transpose
from cvjax.shapes import Array


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    geometry: Geometry,
) -> Float[jax.Array, "batch rows columns features"]:
    """Convolves maps [B, H, W, C] with a kernel [kh, kw, C // groups, F] to [B, H', W', F]."""
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        lhs_dilation=geometry.input_dilation,
        rhs_dilation=geometry.kernel_dilation,
        feature_group_count=geometry.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=geometry.precision,
    )


def input_gradient(
    ct: Float[Array, "batch rows columns features"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    geometry: Geometry,
) -> Float[jax.Array, "batch height width channels"]:
    """Computes the gradient for the input: [B, H', W', F] and [kh, kw, C // groups, F] to [B, H, W, C]."""
    shape = (ct.shape[0], *geometry.input_size, kernel.shape[2] * geometry.groups)
    return transpose(lambda x: convolve(x, kernel, geometry), shape, ct)


def kernel_gradient(
    x: Float[Array, "batch height width channels"], ct: Float[Array, "batch rows columns features"], geometry: Geometry
) -> Float[jax.Array, "kernel_height kernel_width inside features"]:
    """Computes the gradient for the kernel: [B, H, W, C] and [B, H', W', F] to [kh, kw, C // groups, F]."""
    shape = (*geometry.kernel_size, x.shape[-1] // geometry.groups, ct.shape[-1])
    return transpose(lambda kernel: convolve(x, kernel, geometry), shape, ct)
