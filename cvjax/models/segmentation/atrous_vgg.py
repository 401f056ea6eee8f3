"""VGG as DeepLab v1 and v2 have it: late poolings without stride, and dense layers that became atrous convolutions.

The poolings' windows are 3x3, and those behind the output stride keep every pixel, so that the layers after them are
dilated instead. VGG's first dense layer, 7x7, becomes a convolution with fewer taps that lie farther apart: a field of
view as large or larger for a sixth of the parameters. Its weights may come from the dense layers by leaving most of
them out (`cvjax.weights.decimate`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.classification.vgg import VGG
from cvjax.models.segmentation.dilated import DilatedNet
from cvjax.nn import Dropout, TorchConv, avg_pool, gaussian

_RATES_AT = 8  # the output stride that rates are given for


class AtrousBranch(nn.Module):
    """VGG's two hidden dense layers as convolutions: `fc6`, with holes, and `fc7`, 1x1, each with ReLU and dropout.

    Attributes:
      hidden: channels of both.
      kernel_size: side of fc6's kernel, in taps.
      rate: distance of its taps, in pixels of the map.
      dropout: of both, in training.
      dtype: of the computation.
      axis_name: the device axis under pmap, see `cvjax.nn.Dropout`.
    """

    hidden: int
    kernel_size: int
    rate: int
    dropout: float
    dtype: jnp.dtype
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, hidden]."""
        reach = (self.kernel_size - 1) * self.rate
        pads = (reach // 2, reach - reach // 2)
        fc6 = TorchConv(
            self.hidden, self.kernel_size, kernel_dilation=self.rate, padding=(pads, pads), dtype=self.dtype, name="fc6"
        )
        x = Dropout(self.dropout, self.axis_name)(nn.relu(fc6(x)), train)
        fc7 = TorchConv(self.hidden, 1, dtype=self.dtype, name="fc7")
        return Dropout(self.dropout, self.axis_name)(nn.relu(fc7(x)), train)


class AtrousVGG(VGG):
    """VGG's convolutions, and `AtrousBranch`es beside one another on the last map.

    Attributes: those of `VGG`, of which `num_classes` and the dense head go unused, and
      kernel_size: of fc6.
      rates: of fc6 in each branch, in pixels of the map.
      average: 3x3 average pooling before them.
    """

    num_classes: int = 0
    kernel_size: int = 3
    rates: tuple[int, ...] = (12,)
    average: bool = False

    def setup(self) -> None:
        super().setup()
        self.branch = [
            AtrousBranch(self.hidden, self.kernel_size, rate, self.dropout, self.dtype, self.axis_name)
            for rate in self.rates
        ]

    def branches(self, images: jax.Array, train: bool = False) -> list[jax.Array]:
        """What leaves each branch, [B, H / output_stride, W / output_stride, hidden], sides rounded up."""
        x = self.features(images, train)["pool5"]
        if self.average:
            x = avg_pool(x, 3, 1, 1)
        return [branch(x, train) for branch in self.branch]


class OnVGG(DilatedNet):
    """A net on an `AtrousVGG`: each branch's last layer classified, and the scores added.

    Attributes: those of `DilatedNet`, and
      in_channels: of the images.
      stage_sizes, widths, batch_norm: of the backbone, see `VGG`.
      hidden, kernel_size, average: of its branches, see `AtrousVGG`.
      aspp_rates: of fc6 at output stride 8, a branch for each; half of them at 16.
      dropout: of fc6 and fc7.
    """

    output_stride: int = 8
    in_channels: int = 3
    stage_sizes: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    batch_norm: bool = False
    hidden: int = 1024
    kernel_size: int = 3
    aspp_rates: tuple[int, ...] = (12,)
    average: bool = False
    dropout: float = 0.5

    def setup(self) -> None:
        self.backbone = self.make_backbone()
        self.classifier = [
            TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01)) for _ in self.aspp_rates
        ]

    def make_backbone(self) -> nn.Module:
        """The VGG."""
        if self.kernel_size < 1:
            raise ConfigError(f"kernel_size is at least 1, not {self.kernel_size}")
        return AtrousVGG(
            in_channels=self.in_channels,
            stage_sizes=self.stage_sizes,
            widths=self.widths,
            batch_norm=self.batch_norm,
            output_stride=self.output_stride,
            pool_size=3,
            hidden=self.hidden,
            kernel_size=self.kernel_size,
            rates=rates_at(self.output_stride, self.aspp_rates),
            average=self.average,
            dropout=self.dropout,
            **self.layer_options(),
        )

    def score(self, images: jax.Array, train: bool) -> jax.Array:
        """Images -> scores, float32 [B, h, w, num_classes] at the output stride."""
        maps = self.backbone.branches(images, train)
        return sum(classify(x).astype(jnp.float32) for classify, x in zip(self.classifier, maps))


def rates_at(output_stride: int, rates: tuple[int, ...]) -> tuple[int, ...]:
    """Rates that are given at output stride 8, at another one, where they see as much of the image.

    Raises:
      ConfigError: an output stride other than 8, 16 or 32, no rate, or one below 1.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride is 8, 16 or 32, not {output_stride}")
    if not rates or min(rates) < 1:
        raise ConfigError(f"aspp_rates are one or more numbers of at least 1, not {rates}")
    return tuple(max(1, rate * _RATES_AT // output_stride) for rate in rates)
