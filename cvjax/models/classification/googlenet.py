"""GoogLeNet (Szegedy et al., 1409.4842): nine inception blocks, and two auxiliary classifiers halfway for training.

An inception block looks at its input through 1x1, 3x3 and 5x5 convolutions and a pooling side by side. 1x1 convolutions
before the larger kernels, and behind the pooling, keep it cheap.

`googlenet_original` is the net of 2014 as the published Caffe model has it: local response normalization, no BatchNorm,
poolings that round sizes up. `googlenet` is torchvision's: BatchNorm everywhere, and a 3x3 kernel in the place of the
5x5.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.classification.classifier import Classifier
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Preprocessing, Variant
from cvjax.models.maker import ModuleMaker
from cvjax.nn import (
    BatchNormOptions,
    ConvBNReLU,
    Dropout,
    LocalResponseNorm,
    TorchConv,
    adaptive_avg_pool,
    max_pool,
    xavier_uniform,
)

# Features of a block: 1x1; reduction before the 3x3, 3x3; reduction before the 5x5, 5x5; behind the pooling.
_BLOCKS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
_AUX = {"aux1": "inception4a", "aux2": "inception4d"}
_STAGES = {"inception3": 2, "inception4": 5, "inception5": 2}
_SMALLEST = 15


class ConvReLU(nn.Module):
    """Applies a convolution with a bias and a ReLU, as nets did before BatchNorm.

    Attributes:
      features: Output channels.
      kernel_size: Side of the kernel in pixels.
      strides: Step between outputs in pixels.
      dtype: Type of the computation.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Turns x [B, H, W, C] into [B, ceil(H / strides), ceil(W / strides), features]."""
        # Caffe's published net starts with these kernels and biases.
        conv = partial(TorchConv, kernel_init=xavier_uniform(), bias_init=nn.initializers.constant(0.2))
        return nn.relu(conv(self.features, self.kernel_size, self.strides, dtype=self.dtype, name="conv")(x))


class Inception(nn.Module):
    """Concatenates the channels of four branches side by side.

    Attributes:
      features: Six numbers of features in the branches, in the order of `_BLOCKS`.
      unit: Maker of a convolution with its activation, called with features and kernel size.
      large: Side of the largest kernel in pixels.
      naive: Leave out the 1x1 convolutions before the larger kernels and behind the pooling (the paper's figure 2a).
    """

    features: tuple[int, ...]
    unit: ModuleMaker
    large: int = 5
    naive: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into [B, H, W, sum of the branches' features]."""
        one, reduce3, three, reduce5, five, projected = self.features
        pooled = max_pool(x, 3, 1, padding=1)
        narrow3, narrow5 = x, x
        if not self.naive:
            narrow3 = self.unit(reduce3, 1, name="branch2_0")(x, train)
            narrow5 = self.unit(reduce5, 1, name="branch3_0")(x, train)
            pooled = self.unit(projected, 1, name="branch4_1")(pooled, train)
        branches = (
            self.unit(one, 1, name="branch1")(x, train),
            self.unit(three, 3, name="branch2_1")(narrow3, train),
            self.unit(five, self.large, name="branch3_1")(narrow5, train),
            pooled,
        )
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryClassifier(nn.Module):
    """Classifies an early map in training, so that its loss brings gradients there.

    Attributes:
      num_classes: Channels of the logits.
      widths: Channels of the convolution and of the hidden layer.
      unit: Maker of a convolution with its activation, as for `Inception`.
      dropout: Rate of dropout of the hidden layer, in training.
      dtype: Type of the computation; logits are float32.
    """

    num_classes: int
    widths: tuple[int, int]
    unit: ModuleMaker
    dropout: float = 0.7
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into logits [B, num_classes], float32.

        The map is averaged to 4x4 pixels first. Images of 224x224 pixels give maps of 14x14.
        """
        x = self.unit(self.widths[0], 1, name="conv")(adaptive_avg_pool(x, (4, 4)), train)
        x = nn.relu(nn.Dense(self.widths[1], dtype=self.dtype, name="fc1")(x.reshape(x.shape[0], -1)))
        x = Dropout(self.dropout)(x, train)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="fc2")(x).astype(jnp.float32)


class GoogLeNet(Classifier):
    """Classifies images by a stem of three convolutions, nine inception blocks and global average pooling.

    Its other attributes are those of `Classifier`.

    Attributes:
      width: Factor on the channels of all layers.
      stage_sizes: Number of blocks in each of the three stages, 2, 5 and 2 or fewer; the last ones of a stage are left
        out. The second auxiliary classifier then sits on the last block of its stage, if that has fewer than four.
      batch_norm: Use BatchNorm instead of biases. Otherwise the stem's responses are normalized locally.
      large_kernel: Side of the largest kernel of a block in pixels.
      last_pool: Side of the last pooling's window in pixels.
      naive: Use inception blocks without reduction, see `Inception`.
      aux: Have the two auxiliary classifiers (not with `num_classes=0`).
      aux_dropout: Rate of dropout in the auxiliary classifiers.
    """

    width: float = 1.0
    stage_sizes: tuple[int, int, int] = (2, 5, 2)
    batch_norm: bool = True
    large_kernel: int = 3
    last_pool: int = 2
    naive: bool = False
    aux: bool = True
    dropout: float = 0.2
    aux_dropout: float = 0.7
    norm: BatchNormOptions = BatchNormOptions(epsilon=1e-3)

    def setup(self) -> None:
        unit: ModuleMaker = partial(ConvReLU, dtype=self.dtype)
        if self.batch_norm:
            unit = partial(
                ConvBNReLU,
                dtype=self.dtype,
                norm=self.norm,
            )
        self.conv1, self.conv2 = unit(self._scaled(64), 7, 2), unit(self._scaled(64), 1)
        self.conv3 = unit(self._scaled(192), 3)
        # Caffe divides alpha by the size of the neighborhood.
        self.normalize = LocalResponseNorm(alpha=1e-4 / 5, k=1.0)
        for name in self._blocks():
            features = _BLOCKS[name]
            setattr(self, name, Inception(tuple(map(self._scaled, features)), unit, self.large_kernel, self.naive))
        self._make_head(nn.initializers.lecun_normal())
        if self.num_classes and self.aux:
            widths = self._scaled(128), self._scaled(1024)
            self.aux1, self.aux2 = (
                AuxiliaryClassifier(self.num_classes, widths, unit, self.aux_dropout, self.dtype) for _ in _AUX
            )

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized. Sides are at least 15 pixels.
          train: Whether BatchNorm uses the batch's statistics.

        Returns:
          `conv1` (stride 2), `conv3` (4), `inception3a` and `inception3b` (8), `inception4a` to `inception4e` (16), and
          `inception5a` and `inception5b` (32), or those of them that `stage_sizes` leaves.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels, _SMALLEST)
        pool = partial(max_pool, strides=2, padding=0, ceil_mode=True)
        x = images.astype(self.dtype)
        maps = {"conv1": self.conv1(x, train)}
        x = pool(maps["conv1"], 3)
        x = self.conv2(x if self.batch_norm else self.normalize(x), train)
        maps["conv3"] = self.conv3(x, train)
        x = maps["conv3"] if self.batch_norm else self.normalize(maps["conv3"])
        for name in self._blocks():
            if name in ("inception3a", "inception4a", "inception5a"):
                x = pool(x, self.last_pool if name == "inception5a" else 3)
            x = maps[name] = getattr(self, name)(x, train)
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Returns logits [B, num_classes], or with `num_classes=0` pooled features [B, 1024 * width]; float32.

        With `train=True` and auxiliary classifiers it returns (logits, {"aux1": logits, "aux2": logits}). Evaluation
        does not compute them.

        Arguments and errors are those of `features`.
        """
        maps = self.features(images, train)
        logits = self._classify(maps[self._blocks()[-1]], train)
        if not (self.num_classes and self.aux) or not (train or self.is_initializing()):
            return logits
        last = f"inception4{'abcde'[self.stage_sizes[1] - 1]}"
        auxiliary = {name: getattr(self, name)(maps[min(where, last)], train) for name, where in _AUX.items()}
        return (logits, auxiliary) if train else logits

    def _blocks(self) -> list[str]:
        """Returns the names of the blocks in their order."""
        sizes, most = self.stage_sizes, _STAGES.values()
        if len(sizes) != len(most) or not all(1 <= size <= limit for size, limit in zip(sizes, most)):
            raise ConfigError(f"stage_sizes are 1 to 2, 1 to 5 and 1 to 2 blocks, not {sizes}")
        return [f"{stage}{'abcde'[number]}" for stage, size in zip(_STAGES, sizes) for number in range(size)]

    def _scaled(self, features: int) -> int:
        return max(1, round(features * self.width))


_info = partial(ModelInfo, task="classification", paper="1409.4842", year=2014, image_size=224, params_classes=1000)
_ORIGINAL = {"batch_norm": False, "large_kernel": 5, "last_pool": 3, "dropout": 0.4}
# Caffe's: blue first, in values up to 255, less the mean.
_CAFFE = Preprocessing(224, 256, mean=(123 / 255, 117 / 255, 104 / 255), std=(1 / 255, 1 / 255, 1 / 255), bgr=True)
VARIANTS = (
    Variant(_info("googlenet", params=13_004_888, gmacs=1.498), GoogLeNet, {}),
    Variant(_info("googlenet_original", params=13_378_280, gmacs=None, preprocessing=_CAFFE), GoogLeNet, _ORIGINAL),
)
