"""Defines a layer of transposed convolution."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.ops.conv_transpose import conv_transpose
from cvjax.ops.geometry import pair
from cvjax.shapes import Array


class ConvTranspose(nn.ConvTranspose):
    """Replaces `flax.linen.ConvTranspose`, with two-dimensional ones that are fast on CPU, too (see `cvjax.ops.conv`).

    Fields, parameters (`kernel` [kh, kw, C, features], `bias` [features]), defaults and results are Flax's.
    `torch.nn.ConvTranspose2d(k, s, p)` has `padding=((k - 1 - p, k - 1 - p),) * 2` here, and its kernel is turned:
    `kernel = weight.transpose(2, 3, 0, 1)[::-1, ::-1]`.
    For the upsampling of FCN (1411.4038) use `kernel_init=bilinear()`, twice the stride as kernel size, and no bias.
    """

    @nn.compact
    def __call__(self, inputs: Float[Array, "*places channels"]) -> Float[jax.Array, "*enlarged features"]:
        """Convolves [..., H, W, C] to [..., H', W', features].

        Raises:
          ValueError: The mask has another shape than the kernel.
        """
        if isinstance(self.kernel_size, int) or len(self.kernel_size) != 2 or self.padding == "CIRCULAR":
            return super().__call__(inputs)
        kernel_size = pair(self.kernel_size)
        channels = (inputs.shape[-1], self.features)
        shape = (*kernel_size, *(channels[::-1] if self.transpose_kernel else channels))
        if self.mask is not None and self.mask.shape != shape:
            raise ValueError(f"the mask {self.mask.shape} must have the shape of the kernel {shape}")
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        if self.mask is not None:
            kernel = kernel * self.mask
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        assert x is not None  # promotion gives None for None alone; so for the kernel
        assert kernel is not None
        y = conv_transpose(
            jnp.reshape(x, (-1, *x.shape[-3:])),
            kernel,
            _pair(self.strides),
            nn.linear.canonicalize_padding(self.padding, 2),
            rhs_dilation=_pair(self.kernel_dilation),
            transpose_kernel=self.transpose_kernel,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
        y = y if bias is None else y + bias[None, None, None]
        return y.reshape(*x.shape[:-3], *y.shape[1:])


def _pair(value: int | Sequence[int] | None) -> tuple[int, int]:
    value = 1 if value is None else value
    return (value, value) if isinstance(value, int) else pair(value)
