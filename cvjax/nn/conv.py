"""Convolution layers with PyTorch's padding, each lowered as its platform likes best."""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cvjax.nn.initializers import Initializer, he_normal
from cvjax.nn.norm import BatchNorm
from cvjax.ops.conv import Padding, Pair, conv2d


class Conv(nn.Module):
    """Two-dimensional convolution with the arguments and parameter names of `flax.linen.Conv`.

    Two things differ. The padding defaults to None, which is PyTorch's usual choice: `dilation * (k // 2)`
    zeros on every side, whatever the stride ("SAME" pads unevenly when striding, so pretrained weights would
    see shifted pictures). And on CPU 1x1, depthwise and grouped kernels are lowered as matrix or elementwise
    products (see `cvjax.ops.conv`).

    Parameters: `kernel` [kh, kw, C // groups, features], and `bias` [features].

    Attributes:
      features: output channels.
      kernel_size: (height, width), or one number for both.
      strides: steps between outputs, in pixels.
      padding: None (see above), "SAME", "VALID", a number of pixels, or pairs for height and width.
      kernel_dilation: distance between taps, in pixels.
      feature_group_count: groups; equal to the input's channels for a depthwise convolution.
      use_bias: whether to add a bias.
      dtype: of the computation; None takes it from the input and the parameters.
      param_dtype: of the parameters.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str | int | Sequence[int | tuple[int, int]] | None = None
    kernel_dilation: int | Sequence[int] = 1
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = he_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', features].

        Raises:
          ValueError: channels that the groups do not divide, or a padding of an unknown form.
        """
        chex.assert_rank(x, 4)
        groups = self.feature_group_count
        if x.shape[-1] % groups or self.features % groups:
            raise ValueError(
                f"Conv {self.name}: {groups} groups must divide the {x.shape[-1]} input channels "
                f"and the {self.features} features"
            )
        size, strides, dilation = _pair(self.kernel_size), _pair(self.strides), _pair(self.kernel_dilation)
        shape = (*size, x.shape[-1] // groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        )
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        padding = _explicit_padding(self.padding, x.shape[1:3], size, strides, dilation)
        x = conv2d(x, kernel, strides=strides, padding=padding, dilation=dilation, groups=groups)
        return x if bias is None else x + bias


class SeparableConv(nn.Module):
    """Depthwise (atrous if asked), then pointwise convolution, each with BatchNorm and ReLU (1802.02611).

    Attributes:
      features: output channels.
      kernel_size: side of the depthwise kernel, in pixels.
      dilation: distance between the depthwise taps, in pixels.
      dtype, axis_name, bn_momentum, freeze_bn: as for `ConvBNReLU`.
    """

    features: int
    kernel_size: int = 3
    dilation: int = 1
    dtype: jnp.dtype | None = None
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, features]."""
        channels = x.shape[-1]
        common = {
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "bn_momentum": self.bn_momentum,
            "freeze_bn": self.freeze_bn,
        }
        depthwise = ConvBNReLU(
            channels, self.kernel_size, dilation=self.dilation, groups=channels, name="depthwise", **common
        )
        return ConvBNReLU(self.features, 1, name="pointwise", **common)(depthwise(x, train), train)


class ConvBNReLU(nn.Module):
    """Convolution without bias, BatchNorm, ReLU.

    Attributes:
      features: output channels.
      kernel_size: side of the kernel, in pixels.
      strides: step between outputs, in pixels.
      dilation: distance between the taps, in pixels.
      groups: groups of channels.
      dtype: of the computation.
      axis_name: the device axis under pmap, see `BatchNorm`.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: use the running statistics in training too, and leave them alone.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    dilation: int = 1
    groups: int = 1
    dtype: jnp.dtype | None = None
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', features]."""
        x = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            kernel_dilation=self.dilation,
            feature_group_count=self.groups,
            use_bias=False,
            dtype=self.dtype,
            name="conv",
        )(x)
        x = BatchNorm(
            momentum=self.bn_momentum,
            axis_name=self.axis_name,
            frozen=self.freeze_bn,
            dtype=self.dtype,
            name="bn",
        )(x, use_running_average=not train)
        return nn.relu(x)


def _pair(value: int | Sequence[int]) -> Pair:
    if isinstance(value, int):
        return value, value
    height, width = value
    return height, width


def _explicit_padding(
    padding: str | int | Sequence[int | tuple[int, int]] | None,
    spatial: tuple[int, int],
    size: Pair,
    strides: Pair,
    dilation: Pair,
) -> Padding:
    if padding is None:
        padding = tuple(d * (k // 2) for d, k in zip(dilation, size))
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(
                f"Conv: padding is None, 'SAME', 'VALID', pixels or pairs of them, not {padding!r}"
            )
        extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, size))
        padding = lax.padtype_to_pads(spatial, extent, strides, padding)
    elif isinstance(padding, int):
        padding = (padding, padding)
    height, width = ((p, p) if isinstance(p, int) else tuple(p) for p in padding)
    return height, width
