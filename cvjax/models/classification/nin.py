"""Network in Network (Lin, Chen and Yan, 1312.4400): perceptrons that slide like convolutions, and no dense layer.

An mlpconv layer follows a convolution by two 1x1 convolutions, a small net that sees one position at a time. The last
of these layers makes one map for each class. The mean of a map over the image is the logit of its class: this is global
average pooling, which later nets have taken over. `nin` is the ImageNet net that the authors published for Caffe.
`nin_cifar` is the net of the paper.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import Conv, Dropout, avg_pool, gaussian, he_normal, max_pool

# A layer: (side, stride and padding of the convolution; its features and those of the two 1x1 convolutions). The last
# number of the last layer is the number of classes. Behind each but the last: the pooling's kind.
IMAGENET = (
    ((11, 4, 0), (96, 96, 96), "max"),
    ((5, 1, 2), (256, 256, 256), "max"),
    ((3, 1, 1), (384, 384, 384), "max"),
    ((3, 1, 1), (1024, 1024, 0), None),
)
CIFAR = (
    ((5, 1, 2), (192, 160, 96), "max"),
    ((5, 1, 2), (192, 192, 192), "average"),
    ((3, 1, 1), (192, 192, 0), None),
)


class NIN(nn.Module):
    """Classifies images by mlpconv layers with overlapping pooling between them.

    Attributes:
      num_classes: Number of maps of the last layer; 0 returns the means of the maps that go into it [B, C].
      in_channels: Channels of the images.
      layers: Rows of ((side, stride, padding), (features of the three convolutions), pooling).
      width: Factor on the features of all convolutions.
      drop_all: Drop pixels before every mlpconv layer but the first, as in the paper; otherwise before the last only.
      dropout: Rate of this dropout, in training.
      dtype: Type of the computation; parameters and logits are float32.
    """

    num_classes: int
    in_channels: int = 3
    layers: tuple[Any, ...] = IMAGENET
    width: float = 1.0
    drop_all: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32

    def setup(self) -> None:
        if len(self.layers) < 2:
            raise ConfigError(f"layers are at least two mlpconv layers, not {self.layers}")
        self.mlpconv = [self._mlpconv(*row[:2], last=row is self.layers[-1]) for row in self.layers]
        self.drop = Dropout(self.dropout)

    def _mlpconv(self, convolution: tuple[int, int, int], features: tuple[int, ...], last: bool) -> list[nn.Module]:
        side, stride, pad = convolution
        first, second, third = (round(self.width * count) for count in features)
        padding = ((pad, pad), (pad, pad))
        he = {"kernel_init": he_normal("fan_in"), "dtype": self.dtype}
        layers: list[nn.Module] = [
            Conv(first, (side, side), (stride, stride), padding=padding, **he),
            Conv(second, (1, 1), **he),
        ]
        if not last:
            layers.append(Conv(third, (1, 1), **he))
        elif self.num_classes:
            # The last layer is rectified too, so a class whose map is negative everywhere never learns: all start at 1.
            head = {"kernel_init": gaussian(0.01), "bias_init": nn.initializers.ones}
            layers.append(Conv(self.num_classes, (1, 1), **head, dtype=self.dtype))
        return layers

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized. Sides are at least 67 pixels for the
            ImageNet net, and 3 for CIFAR's.
          train: Whether pixels are dropped (`dropout` stream).

        Returns:
          `mlpconv1`, `mlpconv2`, ... before their pooling. Strides are 4, 8, 16, 32 for the ImageNet net and 1, 2, 4
          for CIFAR's. The last has one map for each class.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels, smallest=self._smallest())
        x, maps = images.astype(self.dtype), {}
        final = len(self.layers)
        for number, (layer, (*_, pooling)) in enumerate(zip(self.mlpconv, self.layers), start=1):
            for conv in layer:
                x = nn.relu(conv(x))
            maps[f"mlpconv{number}"] = x
            if pooling:
                pool = {"max": max_pool, "average": avg_pool}[pooling]
                x = pool(x, 3, 2, padding=0, ceil_mode=True)
                if self.drop_all or number == final - 1:
                    x = self.drop(x, train)
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes], or with `num_classes=0` features [B, C]; float32.

        Arguments and errors are those of `features`.
        """
        last = self.features(images, train)[f"mlpconv{len(self.layers)}"]
        return last.mean(axis=(1, 2), dtype=jnp.float32)

    def _smallest(self) -> int:
        """Returns the least side of images that leaves every pooling a whole window."""
        side = 1
        for (size, stride, pad), _, pooling in reversed(self.layers):
            if pooling:
                side = 2 * (side - 1) + 3
            side = max(1, (side - 1) * stride + size - 2 * pad)
        return side


VARIANTS = (
    Variant(
        ModelInfo(
            name="nin",
            task="classification",
            paper="1312.4400",
            year=2013,
            image_size=224,
            params=7_595_176,
            gmacs=None,
            params_classes=1000,
        ),
        NIN,
        {},
    ),
    Variant(
        ModelInfo(
            name="nin_cifar",
            task="classification",
            paper="1312.4400",
            year=2013,
            image_size=32,
            params=966_986,
            gmacs=None,
            params_classes=10,
        ),
        NIN,
        {"layers": CIFAR, "drop_all": True},
    ),
)
