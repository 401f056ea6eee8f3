"""Defines deformable convolution as a layer that predicts its own offsets."""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import dtypes
from jax import lax
from jaxtyping import Float

from cvjax.nn.conv import Conv
from cvjax.nn.initializers import Initializer, he_normal
from cvjax.ops.deform_conv import deform_conv2d
from cvjax.ops.geometry import Pads, Pair, pair
from cvjax.shapes import Array


class DeformConv(nn.Module):
    """Applies deformable convolution of version 1 (1703.06211) or, if `modulated`, of version 2 (1811.11168).

    A convolution of the same size, stride and dilation, `offset`, predicts from the input where every tap reads. When
    modulated it also predicts a factor for the value that the tap reads. That convolution starts at zero, so the layer
    starts as the plain convolution with the same kernel, and can replace one in a trained net. The second paper's
    factor is `sigmoid`, which starts at one half. Here the factor is `2 * sigmoid`, which starts at one and spans the
    same functions: a kernel trained with the paper's layer is halved to give the same here.

    Both papers train the offsets of pretrained nets with a tenth of the learning rate.

    Parameters are `kernel` [kh, kw, C // groups, features], `bias` [features], and those of the convolution `offset`.
    The channels of `offset` are offset_groups * kh * kw pairs (dy, dx), then, when modulated, offset_groups * kh * kw
    factors before the sigmoid.

    Attributes:
      features: Number of output channels.
      kernel_size: Height and width of the kernel, or one number for both.
      strides: Steps between outputs, in pixels.
      padding: None for `dilation * (k // 2)` zeros on every side, "SAME", "VALID", a number of pixels, or pairs for
        height and width.
      kernel_dilation: Distance between taps, in pixels.
      feature_group_count: Number of groups of the kernel.
      offset_groups: Number of groups of the input's channels; each has offsets of its own.
      modulated: Whether taps are weighted too.
      use_bias: Whether to add a bias.
      dtype: Type of the computation; None takes it from the input and the parameters. Offsets are applied in float32
        whatever it is.
      param_dtype: Type of the parameters.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str | int | Sequence[int | tuple[int, int]] | None = None
    kernel_dilation: int | Sequence[int] = 1
    feature_group_count: int = 1
    offset_groups: int = 1
    modulated: bool = False
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = he_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[jax.Array, "batch rows columns features"]:
        """Convolves [B, H, W, C] to [B, H', W', features].

        Raises:
          ValueError: Either kind of groups does not divide the channels, or the padding has an unknown form.
        """
        chex.assert_rank(x, 4)
        channels, groups = x.shape[-1], self.feature_group_count
        if channels % groups or self.features % groups or channels % self.offset_groups:
            raise ValueError(
                f"DeformConv {self.name}: {groups} groups must divide the {channels} input channels and the "
                f"{self.features} features, and {self.offset_groups} offset groups the input channels"
            )
        size, strides, dilation = _pair(self.kernel_size), _pair(self.strides), _pair(self.kernel_dilation)
        padding = self._pads(pair(x.shape[1:3]), size, strides, dilation)
        taps = self.offset_groups * size[0] * size[1]
        geometry = Conv(
            taps * (3 if self.modulated else 2),
            size,
            strides,
            padding,
            kernel_dilation=dilation,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.zeros,
            name="offset",
        )(x)
        offset, mask = geometry[..., : 2 * taps], None
        if self.modulated:
            mask = 2 * nn.sigmoid(geometry[..., 2 * taps :])
        shape = (*size, channels // groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = deform_conv2d(x, kernel, offset, mask, strides=strides, padding=padding, dilation=dilation, groups=groups)
        return x if bias is None else x + bias[None, None, None]

    def _pads(self, spatial: Pair, size: Pair, strides: Pair, dilation: Pair) -> Pads:
        padding = self.padding
        if isinstance(padding, str):
            if padding not in ("SAME", "VALID"):
                raise ValueError(
                    f"DeformConv: padding is None, 'SAME', 'VALID', pixels or pairs of them, not {padding!r}"
                )
            reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, size))
            padding = lax.padtype_to_pads(spatial, reach, strides, padding)
        elif padding is None:
            padding = tuple(d * (k // 2) for d, k in zip(dilation, size))
        elif isinstance(padding, int):
            padding = (padding, padding)
        return pair((p, p) if isinstance(p, int) else pair(p) for p in padding)


def _pair(value: int | Sequence[int]) -> Pair:
    return (value, value) if isinstance(value, int) else pair(value)
