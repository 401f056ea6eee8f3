"""Xception as DeepLab v3+ has it (Chen et al., 1802.02611): Chollet's net (1610.02357), deeper and without pooling.

Every convolution but the stem's is depthwise separable, and three of them lie under each shortcut. Where the original
net pools, the third one strides, so that it can be dilated instead. Depthwise convolutions have their own BatchNorms.
Entry flow, middle flow and exit flow are one row of blocks here.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from cvjax.models.blocks.mbconv import spatial_conv
from cvjax.models.classification.classifier import Classifier
from cvjax.models.images import check_images, check_output_stride
from cvjax.models.info import ModelInfo, Preprocessing, Variant
from cvjax.models.maker import ModuleMaker
from cvjax.nn import BatchNormOptions


class Entry(NamedTuple):
    """Describes a block of the entry flow.

    Attributes:
      features: Channels of the block.
      stride: Stride of its last convolution in pixels.
    """

    features: int
    stride: int


SHORT = (Entry(128, 2), Entry(256, 2), Entry(728, 2))
LONG = (Entry(128, 2), Entry(256, 1), Entry(256, 2), Entry(728, 1), Entry(728, 2))


class SeparableLayer(nn.Module):
    """Applies a depthwise 3x3 convolution, BatchNorm, a pointwise convolution and BatchNorm.

    A ReLU follows each BatchNorm, or one ReLU comes before everything.

    Attributes:
      features: Output channels.
      stride: Stride of the depthwise convolution in pixels.
      dilation: Distance of its taps in pixels.
      relu_first: Whether one ReLU comes before everything.
      conv, norm: Makers of the layers, with dtype and momentum bound already.
    """

    features: int
    stride: int
    dilation: int
    relu_first: bool
    conv: ModuleMaker
    norm: ModuleMaker

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into [B, ceil(H / stride), ceil(W / stride), features]."""
        channels = x.shape[-1]
        depthwise = self.conv(channels, 3, self.stride, self.dilation, groups=channels, name="depthwise_conv")
        x = self.norm(name="depthwise_bn")(depthwise(nn.relu(x) if self.relu_first else x), not train)
        x = self.conv(self.features, 1, name="pointwise_conv")(x if self.relu_first else nn.relu(x))
        x = self.norm(name="pointwise_bn")(x, not train)
        return x if self.relu_first else nn.relu(x)


class XceptionBlock(nn.Module):
    """Adds three separable convolutions to a shortcut, which is projected where shapes differ.

    Attributes:
      features: Channels of the three convolutions.
      stride: Stride of the third in pixels.
      dilations: Dilations of the three in pixels.
      shortcut: Whether there is a shortcut. The last block has none, and its ReLUs come behind its BatchNorms.
      conv, norm: Makers of the layers, with dtype and momentum bound already.
      map_before_relu: Whether the map before the stride is taken before the third convolution's ReLU.
    """

    features: tuple[int, int, int]
    stride: int
    dilations: tuple[int, int, int]
    shortcut: bool
    conv: ModuleMaker
    norm: ModuleMaker
    map_before_relu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Turns x [B, H, W, C] into ([B, ceil(H / stride), ceil(W / stride), features[2]], [B, H, W, features[1]]).

        The second result is the input of the third convolution: the last map before the stride.
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
        return x + y, inner if self.map_before_relu else nn.relu(inner)


class Xception(Classifier):
    """Classifies images by a stem and blocks of separable convolutions.

    Its other attributes are those of `Classifier`.

    Attributes:
      entry: Blocks of the entry flow.
      middle_blocks: Number of blocks of 728 channels between entry and exit flow.
      width_coefficient: Factor on all channels, 1 in the paper.
      output_stride: Pixels of the input per pixel of the last map: 32, 16 or 8. At 16 and 8, later blocks dilate
        instead of striding, so that every n-th pixel is the one that the strided net computes. Parameters are the same.
      multi_grid: Factors on the dilations of the last block's three convolutions (1706.05587).
      maps_before_relu: Take the maps of `features` but the last before their ReLU, as the authors of DeepLab v3+ do.
    """

    entry: tuple[Entry, ...] = SHORT
    middle_blocks: int = 16
    width_coefficient: float = 1.0
    output_stride: int = 32
    multi_grid: tuple[int, int, int] = (1, 1, 1)
    maps_before_relu: bool = False
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
                    self.maps_before_relu,
                )
            )
            taps.append(row["stride"] > 1)
            reached, dilation = reached * stride, dilation * row["stride"] // stride
        self.blocks, self.taps = blocks, taps
        self._make_head()

    def _width(self, features: int) -> int:
        return max(1, round(features * self.width_coefficient))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of any size, floating point, normalized.
          train: Whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` (stride 2), `stage1` (4), `stage2` (8) and `stage3` (16), each the input of the next striding
          convolution, and `stage4` (32), the last map. No stride exceeds `output_stride`. They have 128, 256, 728, 1024
          and 2048 channels. A side of n pixels becomes ceil(n / stride).

        Raises:
          ConfigError: Images that it cannot take.
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
