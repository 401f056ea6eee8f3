"""DenseNet (Huang et al., 1608.06993): every layer of a block reads the outputs of all layers before it.

A layer adds `growth` channels to what it was given, by concatenation. Between blocks a transition halves channels and
pixels. These are the DenseNet-BC of the paper: with bottlenecks (1x1 convolutions to four times the growth) and
compression. The nets for CIFAR have three blocks and keep the pixels of the image in the first.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.models.classification.classifier import Classifier
from cvjax.models.images import check_images, check_output_stride
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.maker import ModuleMaker
from cvjax.nn import Dropout, TorchConv, avg_pool, he_normal, max_pool


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution, BatchNorm, ReLU, 3x3 convolution; the result goes behind the input's channels.

    Attributes:
      growth: channels that it adds.
      bottleneck: channels of the 1x1 convolution, in multiples of the growth.
      dilation: distance of the 3x3 convolution's taps, in pixels.
      dropout: of the added channels, in training.
      conv, norm: makers of the layers, already told of dtype and momentum.
    """

    growth: int
    bottleneck: int
    dilation: int
    dropout: float
    conv: ModuleMaker
    norm: ModuleMaker

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C + growth]."""
        y = nn.relu(self.norm(name="norm1")(x, not train))
        y = self.conv(self.bottleneck * self.growth, 1, name="conv1")(y)
        y = nn.relu(self.norm(name="norm2")(y, not train))
        y = self.conv(self.growth, 3, kernel_dilation=self.dilation, name="conv2")(y)
        y = Dropout(self.dropout)(y, train)
        return jnp.concatenate([x, y], axis=-1)


class Transition(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution, 2x2 average pooling.

    Attributes:
      features: channels of the output.
      spread: 0 pools with stride 2. Otherwise every pixel keeps its place and becomes the mean of 2x2 pixels at this
        distance, so that every other is what pooling would give (where the sides divide).
      conv, norm: as for `DenseLayer`.
    """

    features: int
    spread: int
    conv: ModuleMaker
    norm: ModuleMaker

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H // 2, W // 2, features], or [B, H, W, features]."""
        x = self.conv(self.features, 1, name="conv")(nn.relu(self.norm(name="norm")(x, not train)))
        return _mean_in_place(x, self.spread) if self.spread else avg_pool(x, 2, 2)


def _mean_in_place(x: jax.Array, distance: int) -> jax.Array:
    """The mean of 2x2 pixels at a distance, at every pixel; beyond the last ones the border goes on."""
    for axis in (1, 2):
        size = x.shape[axis]
        far = np.minimum(np.arange(size) + distance, size - 1)
        x = (x + jnp.take(x, far, axis=axis)) / 2
    return x


class DenseNet(Classifier):
    """Dense blocks with transitions between them.

    Attributes: those of `Classifier`, and
      block_sizes: layers in each block.
      growth: channels that a layer adds.
      stem_features: channels of the first convolution.
      small_images: the stem is a bare 3x3 convolution, instead of one of 7x7 with stride 2, BatchNorm and pooling.
      bottleneck: channels of a layer's 1x1 convolution, in multiples of the growth.
      compression: part of the channels that a transition keeps.
      checkpoint: compute layers anew for the gradient instead of keeping their maps, which grow with the square of a
        block's depth. XLA for CPU merges the second computation with the first, so it saves memory elsewhere only.
      layer_dropout: of every layer's new channels, in training.
      output_stride: pixels of the input per pixel of the last block's map: 32, or 16 or 8, where late transitions keep
        every pixel and later layers dilate. Parameters are the same.
    """

    block_sizes: tuple[int, ...] = (6, 12, 24, 16)
    growth: int = 32
    stem_features: int = 64
    small_images: bool = False
    bottleneck: int = 4
    compression: float = 0.5
    checkpoint: bool = False
    layer_dropout: float = 0.0
    output_stride: int = 32

    def setup(self) -> None:
        check_output_stride(self.output_stride)
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype, kernel_init=he_normal("fan_in"))
        norm = self.norm.maker(dtype=self.dtype)
        # Under remat `train` has to be a constant: argument 2, counted from the module itself.
        layer = nn.remat(DenseLayer, static_argnums=(2,)) if self.checkpoint else DenseLayer
        layer = partial(
            layer,
            self.growth,
            self.bottleneck,
            dropout=self.layer_dropout,
            conv=conv,
            norm=norm,
        )
        size, stride = (3, 1) if self.small_images else (7, 2)
        self.stem_conv = conv(self.stem_features, size, stride)
        if not self.small_images:
            self.stem_bn = norm()
        channels, strided = self.stem_features, self._strided_transitions()
        for number, count in enumerate(self.block_sizes, start=1):
            dilation = 2 ** max(0, number - 1 - strided)
            for place in range(1, count + 1):
                setattr(self, f"block{number}_layer{place}", layer(dilation=dilation))
            channels += count * self.growth
            if number < len(self.block_sizes):
                channels = int(channels * self.compression)
                spread = 0 if number <= strided else dilation
                setattr(self, f"transition{number}", Transition(channels, spread, conv, norm))
        self.last_bn = norm()
        self._make_head(nn.initializers.lecun_normal())

    def _strided_transitions(self) -> int:
        """How many transitions pool before the output stride is reached."""
        reached = 1 if self.small_images else 4
        return min(len(self.block_sizes) - 1, (self.output_stride // reached).bit_length() - 1)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps from shallow to deep.

        Args:
          images: [B, H, W, in_channels], floating point, normalized; at least 29 pixels a side (13 or 5 at an output
            stride of 16 or 8), or 4 for CIFAR's nets.
          train: whether BatchNorm uses the batch's statistics, and layers drop (`dropout` stream).

        Returns:
          `stem` (stride 2; 1 for small images), and `block1` to `block4` (4 to 32; for small images `block3`, 1 to 4),
          the last after its BatchNorm and ReLU; no stride above `output_stride`.

        Raises:
          ConfigError: images that it cannot take.
        """
        halvings = 2 ** self._strided_transitions()
        check_images(images, self.in_channels, smallest=halvings if self.small_images else 4 * halvings - 3)
        x = self.stem_conv(images.astype(self.dtype))
        if not self.small_images:
            x = nn.relu(self.stem_bn(x, use_running_average=not train))
        maps = {"stem": x}
        if not self.small_images:
            x = max_pool(x, 3, 2, padding=1)
        for number, count in enumerate(self.block_sizes, start=1):
            for place in range(1, count + 1):
                x = getattr(self, f"block{number}_layer{place}")(x, train)
            maps[f"block{number}"] = x
            if number < len(self.block_sizes):
                x = getattr(self, f"transition{number}")(x, train)
        return maps | {f"block{len(self.block_sizes)}": nn.relu(self.last_bn(x, use_running_average=not train))}


def _imagenet(sizes: tuple[int, ...], params: int, gmacs: float, growth: int = 32, stem: int = 64) -> Variant:
    info = ModelInfo(
        name=f"densenet{2 * sum(sizes) + 5}",
        task="classification",
        paper="1608.06993",
        year=2016,
        image_size=224,
        params=params,
        gmacs=gmacs,
        params_classes=1000,
    )
    return Variant(info, DenseNet, {"block_sizes": sizes, "growth": growth, "stem_features": stem})


def _cifar(depth: int, growth: int, params: int, gmacs: float | None = None) -> Variant:
    info = ModelInfo(
        name=f"densenet{depth}_k{growth}_cifar",
        task="classification",
        paper="1608.06993",
        year=2016,
        image_size=32,
        params=params,
        gmacs=gmacs,
        params_classes=10,
    )
    sizes = 3 * ((depth - 4) // 6,)
    settings = {"block_sizes": sizes, "growth": growth, "stem_features": 2 * growth, "small_images": True}
    return Variant(info, DenseNet, settings)


VARIANTS = (
    _imagenet((6, 12, 24, 16), 7_978_856, 2.834),
    _imagenet((6, 12, 36, 24), 28_681_000, 7.728, growth=48, stem=96),
    _imagenet((6, 12, 32, 32), 14_149_480, 3.36),
    _imagenet((6, 12, 48, 32), 20_013_928, 4.291),
    _cifar(100, 12, 769_162),
    _cifar(250, 24, 15_324_406),
    _cifar(190, 40, 25_624_430, 9.388),  # counted by CondenseNet (1711.09224)
)
