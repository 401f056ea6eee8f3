"""Computes convolution and its two gradients for maps whose rows are split over devices, see `cvjax.ops.height`.

XLA's partitioner exchanges the borders of its own convolution and of most gradients. These here it would compute from
whole maps: convolutions with groups that are not depthwise, which are merged into dense ones, and the gradient for the
kernel of a transposed convolution, which is that of the strided convolution the other way round.
"""

import jax
from jaxtyping import Float

from cvjax.ops import conv_xla
from cvjax.ops.geometry import Geometry, turn
from cvjax.ops.grouped import convolve_merged, gradient_merged
from cvjax.shapes import Array


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    geometry: Geometry,
) -> Float[jax.Array, "batch rows columns features"]:
    """Convolves maps [B, H, W, C] with a kernel [kh, kw, C // groups, F] to [B, H', W', F]."""
    if geometry.groups > 1 and kernel.shape[2] > 1:
        return convolve_merged(x, kernel, geometry, conv_xla.convolve)
    return conv_xla.convolve(x, kernel, geometry)


def input_gradient(
    ct: Float[Array, "batch rows columns features"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    geometry: Geometry,
) -> Float[jax.Array, "batch height width channels"]:
    """Computes the gradient for the input: [B, H', W', F] and [kh, kw, C // groups, F] to [B, H, W, C]."""
    if geometry.groups > 1 and kernel.shape[2] > 1:
        return convolve(ct, turn(kernel, geometry.groups), geometry.transposed)
    return conv_xla.input_gradient(ct, kernel, geometry)


def kernel_gradient(
    x: Float[Array, "batch height width channels"], ct: Float[Array, "batch rows columns features"], geometry: Geometry
) -> Float[jax.Array, "kernel_height kernel_width inside features"]:
    """Computes the gradient for the kernel: [B, H, W, C] and [B, H', W', F] to [kh, kw, C // groups, F]."""
    if geometry.input_dilation != (1, 1) and geometry.strides == (1, 1):
        return turn(kernel_gradient(ct, x, geometry.transposed), geometry.groups)
    if 1 < geometry.groups < x.shape[-1]:
        return gradient_merged(x, ct, geometry, conv_xla.kernel_gradient)
    return conv_xla.kernel_gradient(x, ct, geometry)
