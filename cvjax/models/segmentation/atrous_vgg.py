"""VGG as DeepLab v1 and v2 have it: late poolings without stride, and dense layers that became atrous convolutions.

The poolings' windows are 3x3. The poolings behind the output stride keep every pixel, and the layers after them are
dilated instead. VGG's first dense layer, 7x7, becomes a convolution with fewer taps that lie farther apart. Its field
of view is as large or larger, for a sixth of the parameters. Its weights may come from the dense layers by leaving most
of them out (`cvjax.weights.subsample`).
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.classification.vgg import VGG
from cvjax.nn import Dropout, TorchConv, avg_pool

_RATES_AT = 8  # the output stride that rates are given for


class AtrousBranch(nn.Module):
    """Applies VGG's two hidden dense layers as convolutions: `fc6`, with holes, and `fc7`, 1x1.

    ReLU and dropout follow each of them.

    Attributes:
      hidden: Channels of both.
      kernel_size: Side of fc6's kernel, in taps.
      rate: Distance of its taps, in pixels of the map.
      dropout: Rate of dropout behind both, in training.
      dtype: Type of the computation.
    """

    hidden: int
    kernel_size: int
    rate: int
    dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Turns x [B, H, W, C] into [B, H, W, hidden]."""
        reach = (self.kernel_size - 1) * self.rate
        pads = (reach // 2, reach - reach // 2)
        fc6 = TorchConv(
            self.hidden, self.kernel_size, kernel_dilation=self.rate, padding=(pads, pads), dtype=self.dtype, name="fc6"
        )
        x = Dropout(self.dropout)(nn.relu(fc6(x)), train)
        fc7 = TorchConv(self.hidden, 1, dtype=self.dtype, name="fc7")
        return Dropout(self.dropout)(nn.relu(fc7(x)), train)


class AtrousVGG(VGG):
    """Computes VGG's convolutions, and the branches of `AtrousBranch` side by side on the last map.

    The branches belong to the backbone because ImageNet's weights have layers for them.

    Its other attributes are those of `VGG`. It does not use `num_classes` and the dense head.

    Attributes:
      kernel_size: Side of fc6's kernel, in taps.
      rates: Rates of fc6 in each branch, in pixels of the map.
      average: Average 3x3 pixels before the branches.
    """

    num_classes: int = 0
    output_stride: int = 8
    pool_size: Literal[2, 3] = 3
    hidden: int = 1024
    kernel_size: int = 3
    rates: tuple[int, ...] = (12,)
    average: bool = False

    def setup(self) -> None:
        super().setup()
        if self.kernel_size < 1:
            raise ConfigError(f"kernel_size is at least 1, not {self.kernel_size}")
        self.branch = [
            AtrousBranch(self.hidden, self.kernel_size, rate, self.dropout, self.dtype) for rate in self.rates
        ]

    def branches(self, images: jax.Array, train: bool = False) -> list[jax.Array]:
        """Returns the map of each branch, [B, H / output_stride, W / output_stride, hidden], with sides rounded up."""
        x = self.features(images, train)["pool5"]
        if self.average:
            x = avg_pool(x, 3, 1, 1)
        return [branch(x, train) for branch in self.branch]


def adopt_atrous(net: nn.Module) -> None:
    """Gives the atrous VGG of a net what the net decides; for the `__post_init__` of DeepLab v1 and v2."""
    adopt(
        net,
        output_stride=net.output_stride,
        in_channels=net.in_channels,
        rates=rates_at(net.output_stride, net.aspp_rates),
        hidden=net.hidden,
        kernel_size=net.kernel_size,
        average=net.average,
        dropout=net.dropout,
        dtype=net.dtype,
        norm=net.norm,
    )


def rates_at(output_stride: int, rates: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the rates for an output stride, from those given at output stride 8.

    The new rates see the same part of the image.

    Args:
      output_stride: Pixels of the image per pixel of the map: 8, 16 or 32.
      rates: Rates at output stride 8.

    Raises:
      ConfigError: An output stride other than 8, 16 or 32, no rate, or a rate below 1.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride is 8, 16 or 32, not {output_stride}")
    if not rates or min(rates) < 1:
        raise ConfigError(f"aspp_rates are one or more numbers of at least 1, not {rates}")
    return tuple(max(1, rate * _RATES_AT // output_stride) for rate in rates)
