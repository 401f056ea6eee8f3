"""MBConv is the block of MobileNetV2 and EfficientNet; it has a fused form."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.maker import ModuleMaker
from cvjax.nn import DropPath, SqueezeExcite, TorchConv, he_normal
from cvjax.ops.geometry import Pads


class MBConv(nn.Module):
    """Applies an inverted bottleneck, which is wide inside and narrow at its ends.

    A 1x1 convolution widens, a depthwise one filters, a gate scales the channels, and a 1x1 convolution narrows.

    In the fused form one dense convolution widens and filters, and there is no gate. Without widening, this convolution
    is the whole block. Where shapes allow, the input is added. In training, whole examples are then dropped from the
    branch (drop-connect, as EfficientNet's code calls the stochastic depth of 1603.09382).

    Attributes:
      features: Channels of the output.
      expansion: Channels within the block, in multiples of the input's; 1 leaves out the widening.
      kernel_size: Side of the spatial kernel in pixels.
      fused: Whether the block has the fused form.
      stride: Stride of the spatial convolution in pixels.
      dilation: Distance of its taps in pixels.
      drop_rate: Probability of dropping an example from the branch.
      norm: Maker of the BatchNorms, with dtype and momentum bound already.
      dtype: Type of the computation.
      padding: Zeros before and after, for height and for width, of the spatial convolution; None pads evenly.
    """

    features: int
    expansion: int
    kernel_size: int
    fused: bool
    stride: int
    dilation: int
    drop_rate: float
    norm: ModuleMaker
    dtype: Any = jnp.float32
    padding: Pads | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into [B, ceil(H / stride), ceil(W / stride), features]."""
        y = self._fused(x, train) if self.fused else self._separable(x, train)
        if y.shape != x.shape:
            return y
        return x + DropPath(self.drop_rate)(y, train)

    def _fused(self, x: jax.Array, train: bool) -> jax.Array:
        narrow = self.expansion == 1
        inner = self.features if narrow else x.shape[-1] * self.expansion
        y = nn.swish(self.norm(name="fused_bn")(self._spatial(inner, 1, "fused_conv")(x), not train))
        return y if narrow else self._project(y, train)

    def _separable(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        inner, y = channels * self.expansion, x
        if self.expansion > 1:
            y = spatial_conv(inner, 1, dtype=self.dtype, name="expand_conv")(y)
            y = nn.swish(self.norm(name="expand_bn")(y, not train))
        y = nn.swish(self.norm(name="depthwise_bn")(self._spatial(inner, inner, "depthwise_conv")(y), not train))
        hidden = max(1, channels // 4)  # of the input, not of the widened map
        y = SqueezeExcite(hidden=hidden, activation=nn.swish, dtype=self.dtype, name="squeeze_excite")(y)
        return self._project(y, train)

    def _spatial(self, features: int, groups: int, name: str) -> TorchConv:
        shape = (features, self.kernel_size, self.stride, self.dilation, groups)
        return spatial_conv(*shape, dtype=self.dtype, name=name, padding=self.padding)

    def _project(self, y: jax.Array, train: bool) -> jax.Array:
        y = spatial_conv(self.features, 1, dtype=self.dtype, name="project_conv")(y)
        return self.norm(name="project_bn")(y, not train)


def spatial_conv(
    features: int,
    size: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    dtype: Any = jnp.float32,
    name: str | None = None,
    padding: Pads | None = None,
) -> TorchConv:
    """Makes a convolution without bias; padding None pads evenly. A depthwise kernel's fan is that of one channel."""
    return TorchConv(
        features,
        size,
        stride,
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal("fan_in" if groups > 1 else "fan_out"),
        name=name,
        padding=padding,
    )
