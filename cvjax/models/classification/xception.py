"""Xception as DeepLab v3+ has it (Chen et al., 1802.02611): Chollet's net (1610.02357), deeper and without pooling.

Every convolution but the stem's is depthwise separable, and three of them lie under each shortcut. Where the original
net pools, the third one strides, so that it can be dilated instead; depthwise convolutions have their own BatchNorms.
Entry flow, middle flow and exit flow are one row of blocks here.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from cvjax.models.classification.classifier import Classifier
from cvjax.models.classification.mbconv import spatial_conv
from cvjax.models.images import check_images, check_output_stride
from cvjax.models.info import ModelInfo, Preprocessing, Variant
from cvjax.models.maker import ModuleMaker
from cvjax.nn import BatchNormOptions


class Entry(NamedTuple):
    """A block of the entry flow: channels, and the stride of its last convolution."""

    features: int
    stride: int


SHORT = (Entry(128, 2), Entry(256, 2), Entry(728, 2))
LONG = (Entry(128, 2), Entry(256, 1), Entry(256, 2), Entry(728, 1), Entry(728, 2))


class SeparableLayer(nn.Module):
    """Depthwise 3x3, BatchNorm, pointwise, BatchNorm; with a ReLU behind each BatchNorm, or one before everything.

    Attributes:
      features: output channels.
      stride: of the depthwise convolution, in pixels.
      dilation: distance of its taps, in pixels.
      relu_first: where the ReLUs are, see above.
      conv, norm: makers of the layers, already told of dtype and momentum.
    """

    features: int
    stride: int
    dilation: int
    relu_first: bool
    conv: ModuleMaker
    norm: ModuleMaker

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]."""
        channels = x.shape[-1]
        depthwise = self.conv(channels, 3, self.stride, self.dilation, groups=channels, name="depthwise_conv")
        x = self.norm(name="depthwise_bn")(depthwise(nn.relu(x) if self.relu_first else x), not train)
        x = self.conv(self.features, 1, name="pointwise_conv")(x if self.relu_first else nn.relu(x))
        x = self.norm(name="pointwise_bn")(x, not train)
        return x if self.relu_first else nn.relu(x)


class XceptionBlock(nn.Module):
    """Three separable convolutions beside a shortcut, which is projected where shapes differ.

    Attributes:
      features: channels of the three.
      stride: of the third, in pixels.
      dilations: of the three, in pixels.
      shortcut: whether there is one; the last block has none, and its ReLUs come behind its BatchNorms.
      conv, norm: makers of the layers.
    """

    features: tuple[int, int, int]
    stride: int
    dilations: tuple[int, int, int]
    shortcut: bool
    conv: ModuleMaker
    norm: ModuleMaker

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """[B, H, W, C] -> ([B, ceil(H / stride), ceil(W / stride), features[2]], [B, H, W, features[1]]).

        The second is what the third convolution reads: the last map before the stride.
        """
        y = inner = x
        for number, (features, dilation) in enumerate(zip(self.features, self.dilations), start=1):
            inner = y
            stride = self.stride if number == 3 else 1
            layer = SeparableLayer(
                features, stride, dilation, self.shortcut, self.conv, self.norm, name=f"separable{number}"
            )
            y = layer(y, train)
        if not self.shortcut:
            return y, inner
        if self.stride != 1 or x.shape[-1] != y.shape[-1]:
            x = self.conv(y.shape[-1], 1, self.stride, name="shortcut_conv")(x)
            x = self.norm(name="shortcut_bn")(x, not train)
        return x + y, nn.relu(inner)


class Xception(Classifier):
    """A stem, and blocks of separable convolutions.

    Attributes: those of `Classifier`, and
      entry: blocks of the entry flow.
      middle_blocks: of 728 channels, between entry and exit flow.
      width_coefficient: factor on all channels, 1 in the paper.
      output_stride: pixels of the input per pixel of the last map: 32, or 16 or 8, where later blocks dilate instead of
        striding, so that every n-th pixel is the one that the strided net computes. Parameters are the same.
      multi_grid: factors on the dilations of the last block's three convolutions (1706.05587).
    """

    entry: tuple[Entry, ...] = SHORT
    middle_blocks: int = 16
    width_coefficient: float = 1.0
    output_stride: int = 32
    multi_grid: tuple[int, int, int] = (1, 1, 1)
    norm: BatchNormOptions = BatchNormOptions(epsilon=1e-3)

    def setup(self) -> None:
        check_output_stride(self.output_stride)
        conv = partial(spatial_conv, dtype=self.dtype)
        norm = self.norm.maker(dtype=self.dtype)
        self.stem_conv = [conv(self._width(32), 3, 2), conv(self._width(64), 3)]
        self.stem_bn = [norm() for _ in range(2)]
        plan: list[dict[str, Any]] = [{"features": (f, f, f), "stride": stride} for f, stride in self.entry]
        plan += [{"features": (728, 728, 728), "stride": 1}] * self.middle_blocks
        plan += [{"features": (728, 1024, 1024), "stride": 2}, {"features": (1536, 1536, 2048), "stride": 1}]
        blocks, taps, reached, dilation = [], [], 2, 1
        for number, row in enumerate(plan, start=1):
            last = number == len(plan)
            stride = row["stride"] if reached * row["stride"] <= self.output_stride else 1
            first, second, third = map(self._width, row["features"])
            a, b, c = self.multi_grid if last else (1, 1, 1)
            blocks.append(
                XceptionBlock(
                    (first, second, third),
                    stride,
                    (dilation * a, dilation * b, dilation * c),
                    not last,
                    conv,
                    norm,
                )
            )
            taps.append(row["stride"] > 1)
            reached, dilation = reached * stride, dilation * row["stride"] // stride
        self.blocks, self.taps = blocks, taps
        self._make_head()

    def _width(self, features: int) -> int:
        return max(1, round(features * self.width_coefficient))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps from shallow to deep.

        Args:
          images: [B, H, W, in_channels], floating point, normalized; any size.
          train: whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` (stride 2), `stage1` (4), `stage2` (8) and `stage3` (16), what the next striding convolution reads, and
          `stage4` (32), the last map; no stride above `output_stride`. 128, 256, 728, 1024 and 2048 channels; a side of
          n pixels becomes ceil(n / stride).

        Raises:
          ConfigError: images that it cannot take.
        """
        check_images(images, self.in_channels)
        x = images.astype(self.dtype)
        for conv, norm in zip(self.stem_conv, self.stem_bn):
            x = nn.relu(norm(conv(x), use_running_average=not train))
        maps = []
        for block, tap in zip(self.blocks, self.taps):
            x, inner = block(x, train)
            maps += [inner] if tap else []
        return dict(zip(("stem", "stage1", "stage2", "stage3", "stage4"), [*maps, x]))


def _variant(depth: int, params: int, gmacs: float, **settings: Any) -> Variant:
    info = ModelInfo(
        name=f"xception{depth}",
        task="classification",
        paper="1802.02611",
        year=2018,
        image_size=299,
        params=params,
        gmacs=gmacs,
        params_classes=1000,
        preprocessing=Preprocessing(299, 331, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic"),
    )
    return Variant(info, Xception, settings)


# GMACs are timm's, which count BatchNorm, too.
VARIANTS = (
    _variant(41, 26_969_560, 9.28, middle_blocks=8),
    _variant(65, 39_916_312, 13.96),
    _variant(71, 42_338_736, 18.09, entry=LONG),
)
