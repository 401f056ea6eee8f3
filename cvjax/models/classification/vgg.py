"""VGG (Simonyan and Zisserman, 1409.1556): nothing but 3x3 convolutions, in five stages of doubling width.

Two 3x3 convolutions see 5x5 pixels, as one 5x5 convolution does. They need 18 instead of 25 weights for each pair of
channels and have one more rectifier between them. Three see 7x7 pixels with 27 instead of 49 weights.

With `fully_convolutional` the dense layers slide over larger images (section 3.2), with the same weights. FCN starts
from this net. Models with `_bn` normalize after every convolution (1502.03167), as torchvision's do.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.blocks.dense_head import DenseHead
from cvjax.models.images import check_images, check_output_stride
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import BatchNormOptions, TorchConv, adaptive_avg_pool, he_normal, max_pool


class VGG(nn.Module):
    """Classifies images by five stages of 3x3 convolutions, each followed by pooling, and three dense layers.

    Attributes:
      num_classes: Channels of the logits; 0 returns the second dense layer's output.
      in_channels: Channels of the images.
      stage_sizes: Number of convolutions in each of the five stages.
      widths: Channels of each stage.
      batch_norm: Normalize after every convolution.
      output_stride: Pixels of the input per pixel of `pool5`: 32, 16 or 8. At 16 and 8, late poolings keep every pixel
        and later layers read at a distance. So every n-th pixel is the one that the plain net computes (the "hole
        algorithm" of DeepLab, 1412.7062). Parameters are the same.
      pool_size: Side of the poolings' windows. Windows of 3, DeepLab's, are padded by a pixel: images may have any
        size, and pixel j of a map of stride s lies on pixel s * j of the image. Where they do not stride, they look at
        the next pixels.
      ceil_mode: Keep the last row and column of an odd map in poolings, as Caffe does. Images may then have any size.
      fully_convolutional: Slide the dense layers over the map, which gives a map of logits. Otherwise the map is
        averaged to the 7x7 pixels that they see.
      hidden: Channels of the dense layers.
      dropout: Rate of dropout of the two hidden dense layers, in training.
      dtype: Type of the computation; parameters, statistics and logits are float32.
      norm: Options of the BatchNorms, where there are some.
    """

    num_classes: int
    in_channels: int = 3
    stage_sizes: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    batch_norm: bool = False
    output_stride: int = 32
    pool_size: Literal[2, 3] = 2
    ceil_mode: bool = False
    fully_convolutional: bool = False
    hidden: int = 4096
    dropout: float = 0.5
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def setup(self) -> None:
        check_output_stride(self.output_stride)
        if self.pool_size not in (2, 3):
            raise ConfigError(f"pool_size is 2 or 3, not {self.pool_size}")
        norm = self.norm.maker(dtype=self.dtype)
        layers, rate = {}, 1
        for stage, (count, width) in enumerate(zip(self.stage_sizes, self.widths), start=1):
            for number in range(1, count + 1):
                layers[f"conv{stage}_{number}"] = TorchConv(width, 3, kernel_dilation=rate, dtype=self.dtype)
                if self.batch_norm:
                    layers[f"bn{stage}_{number}"] = norm()
            rate *= 2 if 2**stage > self.output_stride else 1
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.head = DenseHead(
            self.num_classes,
            window=7,
            rate=rate if self.fully_convolutional else 1,
            hidden=self.hidden,
            dropout=self.dropout,
            kernel_init=he_normal("fan_in"),
            dtype=self.dtype,
        )

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized. Sides are at least 32 pixels; with
            `ceil_mode` or a `pool_size` of 3 they may have any length.
          train: Whether BatchNorm uses the batch's statistics.

        Returns:
          `stage1` to `stage5` (strides 1, 2, 4, 8, 16), each before its pooling, and `pool1` to `pool5` (2 to 32), with
          the channels of `widths`. No stride exceeds `output_stride`. Sides are rounded down; with `ceil_mode` or a
          `pool_size` of 3 they are rounded up.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels, smallest=1 if self.ceil_mode or self.pool_size == 3 else 32)
        x, maps, rate = images.astype(self.dtype), {}, 1
        for stage, count in enumerate(self.stage_sizes, start=1):
            for number in range(1, count + 1):
                x = getattr(self, f"conv{stage}_{number}")(x)
                if self.batch_norm:
                    x = getattr(self, f"bn{stage}_{number}")(x, use_running_average=not train)
                x = nn.relu(x)
            maps[f"stage{stage}"] = x
            strided = 2**stage <= self.output_stride
            if self.pool_size == 3:
                x = max_pool(x, 3, 2 if strided else 1, 1)
            elif strided:
                x = max_pool(x, 2, 2, 0, self.ceil_mode)
            else:
                x, rate = _max_in_place(x, rate), 2 * rate
            maps[f"pool{stage}"] = x
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes], or with `num_classes=0` features [B, hidden]; float32.

        With `fully_convolutional` it returns maps of them, [B, H', W', ...]. They have a position for every window of
        224 pixels, at distances of `output_stride`.

        Arguments and errors are those of `features`. Fully convolutional nets take images of at least 224 pixels a
        side.
        """
        if self.fully_convolutional:
            check_images(images, self.in_channels, smallest=224)
            return self.head(self.features(images, train)["pool5"], train).astype(jnp.float32)
        pooled = adaptive_avg_pool(self.features(images, train)["pool5"], (7, 7))
        return self.head(pooled, train)[:, 0, 0].astype(jnp.float32)


def _max_in_place(x: jax.Array, rate: int) -> jax.Array:
    """Takes, at every pixel, the maximum of 2x2 pixels at a distance.

    At distance 1, every second pixel of the result is a pixel of 2x2 pooling with stride 2.
    """
    for axis in (1, 2):
        far = jax.lax.slice_in_dim(x, min(rate, x.shape[axis]), None, axis=axis)
        edges = [(0, 0)] * 4
        edges[axis] = (0, x.shape[axis] - far.shape[axis])
        x = jnp.maximum(x, jnp.pad(far, edges, constant_values=-jnp.inf))
    return x


def _variant(depth: int, sizes: tuple[int, int, int, int, int], params: int, gmacs: float, norm: int) -> list[Variant]:
    """Makes the lines of a net without and with BatchNorm, which adds `norm` parameters."""
    return [
        Variant(
            ModelInfo(
                name=f"vgg{depth}{'_bn' * batch_norm}",
                task="classification",
                paper="1409.1556",
                year=2014,
                image_size=224,
                params=params + norm * batch_norm,
                gmacs=gmacs,
                params_classes=1000,
            ),
            VGG,
            {"stage_sizes": sizes, "batch_norm": batch_norm},
        )
        for batch_norm in (False, True)
    ]


VARIANTS = (
    *_variant(11, (1, 1, 2, 2, 2), 132_863_336, 7.609, 5_504),
    *_variant(13, (2, 2, 2, 2, 2), 133_047_848, 11.308, 5_888),
    *_variant(16, (2, 2, 3, 3, 3), 138_357_544, 15.47, 8_448),
    *_variant(19, (2, 2, 4, 4, 4), 143_667_240, 19.632, 11_008),
)
