"""U-Net (1505.04597) as it is mostly used: padded convolutions, BatchNorm, logits of the image's size.

Images may have any size. They are continued by mirroring, at the bottom and on the right, until every level halves
evenly, and the logits are cropped. So no map is ever odd, and skips need no cropping.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import (
    BatchNormOptions,
    ConvBNReLU,
    Dropout,
    TorchConv,
    Upsample,
    Upsampling,
    gaussian,
    max_pool,
    mirror_pad,
)
from cvjax.ops.geometry import pair


class UNet(nn.Module):
    """Segments images by levels of two 3x3 convolutions, down to a bottom and up again.

    On the way up, each level joins the map of the same scale.

    Attributes:
      num_classes: Channels of the logits.
      in_channels: Channels of the images.
      width: Channels of the first level; doubled from level to level.
      depth: Number of times that maps are halved.
      upsampling: Way in which the decoder doubles its maps, see `cvjax.nn.Upsampling`.
      dropout: Rate of dropout at the bottom.
      dtype: Type of the computation; parameters, statistics and logits are float32.
      norm: Options of the BatchNorms.
    """

    num_classes: int
    in_channels: int = 3
    width: int = 64
    depth: int = 4
    upsampling: Upsampling = "transposed"
    dropout: float = 0.0
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def setup(self) -> None:
        if self.depth < 1 or self.width < 1:
            raise ConfigError(f"a U-Net has a depth and a width of at least 1, not {self.depth} and {self.width}")
        layer = partial(ConvBNReLU, dtype=self.dtype, norm=self.norm)
        widths = [self.width * 2**level for level in range(self.depth + 1)]
        self.down = [[layer(width), layer(width)] for width in widths]
        self.up = [doubling(width, self.upsampling, self.dtype) for width in widths[:-1]]
        self.join = [[layer(width), layer(width)] for width in widths[:-1]]
        self.drop = Dropout(self.dropout)
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps of the contracting path, from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of any size, floating point, normalized.
          train: Use the batch's BatchNorm statistics, and dropout (stream `dropout`).

        Returns:
          `level1`, `level2`, ... with strides 1, 2, ..., of the image continued to a multiple of the last stride.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels)
        x, maps = pad_to_multiple(images.astype(self.dtype), 2**self.depth), {}
        for level, layers in enumerate(self.down, start=1):
            x = _through(layers, x if level == 1 else max_pool(x, 2, 2), train)
            maps[f"level{level}"] = x
        maps[f"level{len(self.down)}"] = self.drop(x, train)
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, H, W, num_classes], float32; arguments and errors are those of `features`."""
        *skips, x = self.features(images, train).values()
        for skip, up, layers in zip(reversed(skips), reversed(self.up), reversed(self.join)):
            x = _through(layers, jnp.concatenate([skip, up(x)], axis=-1), train)
        return self.classifier(x)[:, : images.shape[1], : images.shape[2]].astype(jnp.float32)


def doubling(features: int, upsampling: Upsampling, dtype: Any) -> Upsample:
    """Makes a decoder's layer to twice the height and width.

    A transposed convolution is the paper's, 2x2 with a bias.
    """
    if upsampling != "transposed":
        return Upsample(features, 2, upsampling, use_bias=True, dtype=dtype)
    # Each output sees one tap of the kernel, so a quarter of what `fan_in` counts: this keeps the variance.
    init = nn.initializers.variance_scaling(4.0, "fan_in", "normal")
    return Upsample(features, 2, kernel_size=2, kernel_init=init, use_bias=True, dtype=dtype)


def pad_to_multiple(x: jax.Array, multiple: int, smallest: int = 1) -> jax.Array:
    """Continues images by mirroring, at the bottom and on the right, to sides that `multiple` divides.

    Args:
      x: Images [B, H, W, C].
      multiple: Number that will divide the sides.
      smallest: Least side in pixels.
    """
    sides = (-(-max(side, smallest) // multiple) * multiple for side in x.shape[1:3])
    return mirror_pad(x, pair((0, side - have) for side, have in zip(sides, x.shape[1:3])))


def _through(layers: list[ConvBNReLU], x: jax.Array, train: bool) -> jax.Array:
    for layer in layers:
        x = layer(x, train)
    return x


VARIANTS = (
    Variant(
        ModelInfo(
            name="unet",
            task="segmentation",
            paper="1505.04597",
            year=2015,
            image_size=512,
            params=31_037_698,
            gmacs=None,
            params_classes=2,
        ),
        UNet,
        {},
    ),
)
