"""DenseNet (Huang et al., 1608.06993): every layer of a block reads the outputs of all layers before it.

A layer appends `growth` channels to its input, by concatenation. Between blocks a transition halves channels and
pixels. These are the DenseNet-BC of the paper: with bottlenecks (1x1 convolutions to four times the growth) and
compression. The nets for CIFAR have three blocks and keep the pixels of the image in the first.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.errors import ConfigError
from cvjax.models.classification.classifier import Classifier
from cvjax.models.images import check_images, check_output_stride
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.maker import ModuleMaker
from cvjax.nn import Dropout, TorchConv, avg_pool, he_normal, max_pool
from cvjax.nn.dense_block import DenseBlockOptions, DenseLayerParams, Moments, dense_block


class DenseLayer(nn.Module):
    """Applies a 1x1 and a 3x3 convolution, each after BatchNorm and ReLU, and appends the result to its input.

    Attributes:
      growth: Number of channels that it appends.
      bottleneck: Channels of the 1x1 convolution, in multiples of the growth.
      dilation: Distance of the 3x3 convolution's taps in pixels.
      dropout: Rate of dropout of the new channels, in training.
      conv, norm: Makers of the layers, with dtype and momentum bound already.
    """

    growth: int
    bottleneck: int
    dilation: int
    dropout: float
    conv: ModuleMaker
    norm: ModuleMaker

    def setup(self) -> None:
        self.norm1, self.norm2 = self.norm(), self.norm()
        self.conv1 = self.conv(self.bottleneck * self.growth, 1)
        self.conv2 = self.conv(self.growth, 3, kernel_dilation=self.dilation)
        self.drop = Dropout(self.dropout)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into [B, H, W, C + growth]."""
        y = self.conv1(nn.relu(self.norm1(x, not train)))
        y = self.conv2(nn.relu(self.norm2(y, not train)))
        return jnp.concatenate([x, self.drop(y, train)], axis=-1)

    def params(self, x: jax.Array) -> DenseLayerParams:
        """Returns its parameters as a block takes them, and in training the mask that drops new maps beside x."""
        params = self.variables["params"]
        norm1, norm2 = params["norm1"], params["norm2"]
        kept = self.drop(jnp.ones((*x.shape[:3], self.growth), x.dtype), True) if self.dropout else None
        return DenseLayerParams(
            norm1["scale"], norm1["bias"], params["conv1"]["kernel"],
            norm2["scale"], norm2["bias"], params["conv2"]["kernel"], kept,
        )  # fmt: skip

    def update_averages(self, seen: Moments, within: Moments) -> None:
        """Moves the running statistics of its BatchNorms towards those of the batch."""
        self.norm1.affine(*seen)
        self.norm2.affine(*within)


class Transition(nn.Module):
    """Applies BatchNorm, ReLU, a 1x1 convolution and 2x2 average pooling.

    Attributes:
      features: Channels of the output.
      spread: Distance of the pooled pixels. 0 pools with stride 2. With another distance every pixel keeps its place
        and becomes the mean of 2x2 pixels at this distance. Every second one of them is then the result of pooling,
        where the sides divide.
      conv, norm: Makers of the layers, as for `DenseLayer`.
    """

    features: int
    spread: int
    conv: ModuleMaker
    norm: ModuleMaker

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, statistics: Moments | None = None) -> tuple[jax.Array, jax.Array]:
        """Turns x [B, H, W, C] into [B, H // 2, W // 2, features], or with a spread into [B, H, W, features].

        The map before the convolution, [B, H, W, C], is the second result. Statistics of x that are known already need
        not be computed again.
        """
        norm = self.norm(name="norm")
        x = nn.relu(norm(x, not train) if statistics is None else norm.normalize(x, *statistics))
        y = self.conv(self.features, 1, name="conv")(x)
        return (_mean_in_place(y, self.spread) if self.spread else avg_pool(y, 2, 2)), x


def _mean_in_place(x: jax.Array, distance: int) -> jax.Array:
    """Averages, at every pixel, 2x2 pixels at a distance; the map's last pixels are repeated beyond its border."""
    for axis in (1, 2):
        size = x.shape[axis]
        far = np.minimum(np.arange(size) + distance, size - 1)
        x = (x + jnp.take(x, far, axis=axis)) / 2
    return x


class DenseNet(Classifier):
    """Classifies images by dense blocks with transitions between them.

    Its other attributes are those of `Classifier`.

    Attributes:
      block_sizes: Number of layers in each block.
      growth: Number of channels that a layer appends.
      stem_features: Channels of the first convolution.
      small_images: Use a bare 3x3 convolution as the stem, instead of a 7x7 one with stride 2, BatchNorm and pooling.
      bottleneck: Channels of a layer's 1x1 convolution, in multiples of the growth.
      compression: Fraction of the channels that a transition keeps.
      checkpoint: Keep no map for the gradient but those that a block appends: bottlenecks are computed again too.
      layer_dropout: Rate of dropout of every layer's new channels, in training.
      output_stride: Pixels of the input per pixel of the last block's map: 32, 16 or 8. At 16 and 8, late transitions
        keep every pixel and later layers dilate. Parameters are the same.
      normalized_maps: Whether `features` takes the maps of blocks after the transition's BatchNorm and ReLU, and the
        last one before its ReLU, as segmentation_models_pytorch does; for encoders only.
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
    normalized_maps: bool = False

    def setup(self) -> None:
        check_output_stride(self.output_stride)
        if self.normalized_maps and self.num_classes:
            raise ConfigError(
                "normalized_maps is for encoders: a classifier reads the last map after its ReLU; leave it out"
            )
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype, kernel_init=he_normal("fan_in"))
        norm = self.norm.maker(dtype=self.dtype)
        layer = partial(
            DenseLayer,
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
        """Returns how many transitions pool before the output stride is reached."""
        reached = 1 if self.small_images else 4
        return min(len(self.block_sizes) - 1, (self.output_stride // reached).bit_length() - 1)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized. Sides are at least 29 pixels (13 or 5 at an
            output stride of 16 or 8), or 4 for CIFAR's nets.
          train: Whether BatchNorm uses the batch's statistics, and layers drop (`dropout` stream).

        Returns:
          `stem` (stride 2; 1 for small images), and `block1` to `block4` (4 to 32; for small images `block1` to
          `block3`, 1 to 4). The last one is taken after its BatchNorm and ReLU, see `normalized_maps` for others. No
          stride exceeds `output_stride`.

        Raises:
          ConfigError: Images that it cannot take.
        """
        halvings = 2 ** self._strided_transitions()
        check_images(images, self.in_channels, smallest=halvings if self.small_images else 4 * halvings - 3)
        x = self.stem_conv(images.astype(self.dtype))
        if not self.small_images:
            x = nn.relu(self.stem_bn(x, use_running_average=not train))
        maps = {"stem": x}
        if not self.small_images:
            x = max_pool(x, 3, 2, padding=1)
        statistics = None
        for number in range(1, len(self.block_sizes) + 1):
            x, statistics = self._block(number, x, train)
            maps[f"block{number}"] = x
            if number < len(self.block_sizes):
                x, normalized = getattr(self, f"transition{number}")(x, train, statistics)
                maps[f"block{number}"] = normalized if self.normalized_maps else maps[f"block{number}"]
        if statistics is None:
            last = self.last_bn(x, use_running_average=not train)
        else:
            last = self.last_bn.normalize(x, *statistics)
        return maps | {f"block{len(self.block_sizes)}": last if self.normalized_maps else nn.relu(last)}

    def _block(self, number: int, x: jax.Array, train: bool) -> tuple[jax.Array, Moments | None]:
        """Returns a block's maps, and in training their statistics, where the batch's are what normalizes."""
        layers = [getattr(self, f"block{number}_layer{place}") for place in range(1, self.block_sizes[number - 1] + 1)]
        if not train or self.norm.frozen or self.is_initializing():
            for layer in layers:
                x = layer(x, train)
            return x, None
        options = DenseBlockOptions(self.norm.epsilon, layers[0].dilation, not self.checkpoint)
        result = dense_block(options, x, tuple(layer.params(x) for layer in layers))
        channels = x.shape[3]
        for layer, within in zip(layers, result.inner):
            layer.update_averages(Moments(*(a[:channels] for a in result.moments)), within)
            channels += self.growth
        return result.maps, result.moments


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
