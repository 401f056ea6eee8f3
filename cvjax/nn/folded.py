"""Normalizes over the batch together with what comes before or behind it, so that fewer maps are written and read."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.nn.norm import BatchNorm
from cvjax.ops.conv import channel_products, conv2d
from cvjax.ops.dtypes import wider
from cvjax.shapes import Array


def folded_conv_norm(
    conv: Callable[..., nn.Conv], norm: BatchNorm, x: Float[Array, "batch height width channels"]
) -> Float[jax.Array, "batch rows columns features"]:
    """Computes `norm(conv(x))` in training, with the normalization folded into the kernel.

    Mean and variance of a 1x1 convolution's output follow from mean and covariance of its input: mean · W, and for each
    column w of the kernel w · covariance · w. So the output is made normalized, in one product, and is never there as
    it was before. Gradients need the input alone. This pays where the output has more channels than the input and
    memory binds: instead of writing the output once and reading it four times, the input is multiplied by itself.

    Args:
      conv: Maker of a 1x1 convolution without bias, groups or padding, with all fields but `conv_general_dilated`.
      norm: BatchNorm over the convolution's features.
      x: Maps to convolve.
    """
    return conv(conv_general_dilated=partial(_convolve, norm))(x)


def _convolve(
    norm: BatchNorm, x: jax.Array, kernel: jax.Array, strides: Any, *_: Any, precision: Any = None, **__: Any
) -> jax.Array:
    rows, columns = strides
    x = x[:, ::rows, ::columns]
    wide = wider(x.dtype, jnp.float32)
    weights = kernel[0, 0].astype(wide)
    mean, covariance = _moments(norm, x.astype(wide), exact=x.dtype == wide)
    product = partial(jnp.matmul, precision="highest")
    var = jnp.maximum(0.0, (product(covariance, weights) * weights).sum(0))
    factor, offset = norm.affine(product(mean, weights), var)
    weights = weights * factor[None]
    # The products round the kernel to the maps' dtype. Its gradient stays wide, as that of the variance is made of it.
    rounding = lax.stop_gradient(weights.astype(x.dtype).astype(wide) - weights)
    offset -= product(mean, rounding)
    y = conv2d(x.astype(wide), (weights + rounding)[None, None], precision=precision)
    return (y + jnp.expand_dims(offset, (0, 1, 2))).astype(x.dtype)


def _moments(norm: BatchNorm, x: jax.Array, exact: bool) -> tuple[jax.Array, jax.Array]:
    """Returns mean [C] and covariance [C, C] of maps over the whole batch."""
    count = x.size // x.shape[-1]
    # The square is symmetric. Its gradient is then one product, of x with the gradient and its transpose.
    precision = "highest" if exact else None  # of bfloat16, products are exact anyway
    half = channel_products(lax.stop_gradient(x), x, precision=precision) / count
    mean, half = norm.over_devices((x.mean((0, 1, 2)), half))
    square = half + half.T - lax.stop_gradient(half)
    return mean, square - jnp.outer(mean, mean)


def norm_and_pool(
    norm: BatchNorm, x: Float[Array, "batch height width channels"], pool: Callable[[jax.Array], jax.Array]
) -> tuple[Float[jax.Array, "batch height width channels"], Float[jax.Array, "batch rows columns channels"]]:
    """Computes `y = norm(x)` and `pool(y)` in training, where `pool` takes maxima and is not computed from y.

    Normalization keeps the order of a channel's pixels, or turns it around where the scale is negative. So the maxima
    of the maps, with their sign turned there, are what is normalized. Where nothing else uses y, as in front of a
    classifier's first stage, it is then never written, and its gradient's sums are made of the pooled maps.

    Args:
      norm: BatchNorm over the channels.
      x: Maps to normalize.
      pool: Function that takes the maximum over windows, such as a bound `max_pool`.
    """
    scale = norm.variables.get("params", {}).get("scale")
    signs = jnp.ones(x.shape[-1:]) if scale is None else jnp.where(scale < 0, -1, 1)
    x = x * jnp.expand_dims(signs, (0, 1, 2)).astype(x.dtype)
    mean, var = norm.statistics(x, (0, 1, 2))
    factor, offset = norm.affine(mean * signs.astype(mean.dtype), var)
    factor = factor * signs.astype(factor.dtype)

    def normalized(a: jax.Array) -> jax.Array:
        y = a.astype(factor.dtype) * jnp.expand_dims(factor, (0, 1, 2)) + jnp.expand_dims(offset, (0, 1, 2))
        return y.astype(a.dtype)

    return normalized(x), normalized(pool(x))


@jax.custom_jvp
def relu_by_output(x: Float[Array, "*shape"]) -> Float[jax.Array, "*shape"]:
    """Computes ReLU, with a gradient that is made of what it puts out, so that what went in need not be written too."""
    return jnp.maximum(x, 0)


relu_by_output.defjvps(lambda tangent, y, _: jnp.where(y > 0, tangent, jnp.zeros_like(tangent)))
