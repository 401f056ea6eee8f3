"""Defines convolution layers."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.nn.initializers import Initializer, he_normal
from cvjax.nn.norm import BatchNormOptions
from cvjax.ops.conv import conv_general_dilated
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize
from cvjax.shapes import Array


class Conv(nn.Conv):
    """Replaces `flax.linen.Conv`, with two-dimensional convolutions that are fast on CPU, too (see `cvjax.ops.conv`).

    Fields, parameters (`kernel` [kh, kw, C // groups, features], `bias` [features]), defaults and results are Flax's.
    """

    conv_general_dilated: Callable[..., jax.Array] | None = conv_general_dilated


class TorchConv(Conv):
    """Convolves in two dimensions with PyTorch's conventions, for models that have weights there.

    One number as `kernel_size` means a square. `padding` None, the default, means `dilation * (k // 2)` zeros on every
    side whatever the stride: "SAME" pads unevenly when striding, so pretrained weights would see shifted pictures.
    Kernels start as `he_normal()`. All else is as in `Conv`.
    """

    padding: Any = None
    kernel_init: Initializer = he_normal()

    def __post_init__(self) -> None:
        self.kernel_size = _pair(self.kernel_size)
        if self.padding is None:
            dilation = _pair(self.kernel_dilation or 1)
            sides = (d * (k // 2) for d, k in zip(dilation, self.kernel_size))
            self.padding = tuple((side, side) for side in sides)
        super().__post_init__()


class ConvBNReLU(nn.Module):
    """Applies a convolution without bias, BatchNorm and ReLU.

    Attributes:
      features: Number of output channels.
      kernel_size: Side of the kernel, in pixels; padding is that of `TorchConv`.
      strides: Step between outputs, in pixels.
      dilation: Distance between the taps, in pixels.
      groups: Number of groups of channels.
      dtype: Type of the computation.
      norm: Options of the BatchNorm.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    dilation: int = 1
    groups: int = 1
    dtype: jnp.dtype | None = None
    norm: BatchNormOptions = BatchNormOptions()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[jax.Array, "batch rows columns features"]:
        """Convolves [B, H, W, C] to [B, H', W', features]."""
        x = TorchConv(
            self.features,
            self.kernel_size,
            self.strides,
            kernel_dilation=self.dilation,
            feature_group_count=self.groups,
            use_bias=False,
            dtype=self.dtype,
            name="conv",
        )(x)
        x = self.norm.build(dtype=self.dtype, name="bn")(x, use_running_average=not train)
        return nn.relu(x)


class SeparableConv(nn.Module):
    """Applies a depthwise (atrous if asked), then a pointwise convolution, each with BatchNorm and ReLU (1802.02611).

    Attributes:
      features: Number of output channels.
      kernel_size: Side of the depthwise kernel, in pixels.
      dilation: Distance between the depthwise taps, in pixels.
      strides: Step of the depthwise convolution, in pixels.
      dtype, norm: As for `ConvBNReLU`.
      inner_norm: Have BatchNorm and ReLU behind the depthwise convolution too; segmentation_models_pytorch has them
        behind the pointwise one alone.
    """

    features: int
    kernel_size: int = 3
    dilation: int = 1
    dtype: jnp.dtype | None = None
    norm: BatchNormOptions = BatchNormOptions()
    strides: int = 1
    inner_norm: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[jax.Array, "batch rows columns features"]:
        """Convolves [B, H, W, C] to [B, H', W', features]."""
        channels = x.shape[-1]
        common = {"dtype": self.dtype, "norm": self.norm}
        pointwise = ConvBNReLU(self.features, 1, name="pointwise", **common)
        if not self.inner_norm:
            depthwise = TorchConv(
                channels,
                self.kernel_size,
                self.strides,
                kernel_dilation=self.dilation,
                feature_group_count=channels,
                use_bias=False,
                dtype=self.dtype,
                name="depthwise",
            )
            return pointwise(depthwise(x), train)
        depthwise = ConvBNReLU(
            channels,
            self.kernel_size,
            self.strides,
            self.dilation,
            groups=channels,
            name="depthwise",
            **common,
        )
        return pointwise(depthwise(x, train), train)


class ResizeConv(nn.Module):
    """Enlarges maps, then convolves them: upsampling without the checkerboards of strided transposed convolution.

    See Odena, Dumoulin and Olah, Deconvolution and Checkerboard Artifacts (2016). Parameters lie under `conv`.

    Attributes:
      features: Number of output channels.
      kernel_size: Height and width of the kernel, in pixels.
      scale: Factor on height and width.
      method: "nearest" or "bilinear", see `cvjax.ops.resize`.
      padding, use_bias, dtype, kernel_init: As for `Conv`.
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    scale: int = 2
    method: str = "nearest"
    padding: Any = "SAME"
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[jax.Array, "batch rows columns features"]:
        """Enlarges and convolves [B, H, W, C] to [B, scale * H, scale * W, features] (with padding "SAME")."""
        x = resize(x, (x.shape[1] * self.scale, x.shape[2] * self.scale), self.method)
        return Conv(
            self.features,
            tuple(self.kernel_size),
            padding=self.padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else pair(value)
