"""Residual blocks (He et al., 1512.03385), with the choices that the literature has made about them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.maker import ModuleMaker
from cvjax.nn import folded_conv_norm, relu_by_output, zero_gamma

SHORTCUTS = ("A", "B", "C", "none")


class ResidualBlock(nn.Module):
    """Holds the common parts of residual blocks: the fields, the shortcut, and the way in which the branch joins it.

    Attributes:
      features: Channels of the output, divided by `expansion`.
      stride: Stride of the block in pixels.
      dilations: Dilations of its first and of its later 3x3 convolutions, in pixels.
      conv, norm: Makers of the layers, with dtype and momentum bound already.
      spatial: Maker of the last 3x3 convolution, such as a deformable one; None takes `conv`.
      gate: Maker of a layer that scales the branch before it is added (squeeze-and-excitation), or None.
      shortcut: Option of the paper where shapes differ. "A" takes every `stride`-th pixel and adds channels of zeros.
        "B" projects by a 1x1 convolution. "C" projects everywhere. "none" leaves all shortcuts out (plain nets).
      norm_after: Whether the last BatchNorm comes after the addition instead of before it (1603.05027, figure 4b).
      zero_gamma: Start the last BatchNorm's scale at 0, so that the block starts as the identity (1706.02677).
      fold_norms: Whether in training the BatchNorms behind 1x1 convolutions that add channels are folded into their
        kernels, see `cvjax.nn.folded_conv_norm`.
    """

    features: int
    stride: int
    dilations: tuple[int, int]
    conv: ModuleMaker
    norm: ModuleMaker
    spatial: ModuleMaker | None = None
    gate: ModuleMaker | None = None
    shortcut: str = "B"
    norm_after: bool = False
    zero_gamma: bool = False
    fold_norms: bool = False
    expansion = 1

    def _join(self, x: jax.Array, y: jax.Array, name: str, train: bool, last: ModuleMaker | None = None) -> jax.Array:
        """Returns the block's output from its input x and its branch y, through the last BatchNorm `name`.

        Args:
          x: Input of the block.
          y: Branch before that BatchNorm, or before the convolution `last`.
          name: Name of the BatchNorm.
          train: Whether BatchNorm uses the batch's statistics.
          last: Maker of a 1x1 convolution in front of the BatchNorm.
        """
        scale = zero_gamma() if self.zero_gamma else nn.initializers.ones
        norm = self.norm(name=name, scale_init=scale)
        if last is not None and not self.norm_after:
            y = self._conv_norm(last, norm, y, train)
        else:
            y = y if last is None else last()(y)
            y = y if self.norm_after else norm(y, not train)
        if self.gate is not None:
            y = self.gate(name="squeeze_excite")(y)
        if self.shortcut != "none":
            y = y + self._shortcut(x, y, train)
        return (relu_by_output if self.fold_norms else nn.relu)(norm(y, not train) if self.norm_after else y)

    def _shortcut(self, x: jax.Array, y: jax.Array, train: bool) -> jax.Array:
        same = self.stride == 1 and x.shape == y.shape
        if same and self.shortcut != "C":
            return x
        if self.shortcut == "A":
            x = x[:, :: self.stride, :: self.stride]
            return jnp.pad(x, ((0, 0),) * 3 + ((0, y.shape[-1] - x.shape[-1]),))
        projection, norm = self._projection(y.shape[-1]), self.norm(name="downsample_bn")
        if self.stride > 1 or x.shape[-1] >= y.shape[-1]:  # a slice's gradient, or squares of more channels, cost more
            return norm(projection()(x), not train)
        return self._conv_norm(projection, norm, x, train)

    def _projection(self, features: int) -> ModuleMaker:
        return partial(self.conv, features, 1, self.stride, name="downsample_conv")

    def _conv_norm(self, conv: Callable[..., Any], norm: Any, x: jax.Array, train: bool) -> jax.Array:
        if self.fold_norms and train and not norm.frozen:
            return folded_conv_norm(conv, norm, x)
        return norm(conv()(x), not train)


class BasicBlock(ResidualBlock):
    """Adds two 3x3 convolutions to a shortcut (ResNet-18 and 34)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into [B, ceil(H / stride), ceil(W / stride), features]."""
        first, second = self.dilations
        y = self.conv(self.features, 3, self.stride, kernel_dilation=first, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, not train))
        y = (self.spatial or self.conv)(self.features, 3, kernel_dilation=second, name="conv2")(y)
        return self._join(x, y, "bn2", train)


class Bottleneck(ResidualBlock):
    """Adds 1x1, 3x3 and 1x1 convolutions to a shortcut (ResNet-50 and deeper).

    The ends of the block have four times `features` channels.

    Only the 3x3 convolution is dilated (by the first of `dilations`) and strided, unless `stride_in_1x1`. It has
    `groups` groups of `features * width_per_group / 64` channels. With the defaults these are `features` channels in
    one group.

    Its other attributes are those of `ResidualBlock`.

    Attributes:
      groups: Number of groups of the 3x3 convolution.
      width_per_group: Channels of a group in a stage of 64 features.
      stride_in_1x1: Whether the first 1x1 convolution strides instead of the 3x3 one.
    """

    groups: int = 1
    width_per_group: int = 64
    stride_in_1x1: bool = False
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into [B, ceil(H / stride), ceil(W / stride), features * expansion]."""
        inner = self.features * self.width_per_group // 64 * self.groups
        options: dict[str, Any] = {"kernel_dilation": self.dilations[0], "feature_group_count": self.groups}
        first, second = (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)
        y = self.conv(inner, 1, first, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, not train))
        y = (self.spatial or self.conv)(inner, 3, second, name="conv2", **options)(y)
        y = nn.relu(self.norm(name="bn2")(y, not train))
        last = partial(self.conv, self.features * self.expansion, 1, name="conv3")
        return self._join(x, y, "bn3", train, last)
