"""U-Net as published (Ronneberger, Fischer and Brox, 1505.04597): no convolution is padded.

Every logit sees only real pixels, so the output is smaller than the input: 388 pixels a side of 572. The surroundings
that an image lacks are its mirror image. Tiles of one image fit together without a seam, see
`cvjax.tasks.segmentation.tiles`. In training the loader gives crops with their surroundings
(`cvjax.tasks.segmentation.warp`).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.doubling import doubling
from cvjax.nn import Dropout, TorchConv, Upsampling, he_normal, max_pool
from cvjax.ops.geometry import pair

_LOST = 4
"""Pixels of height and width that the two 3x3 convolutions of a level take away."""


class UNetOriginal(nn.Module):
    """Segments images by levels of two unpadded 3x3 convolutions, down to a bottom and up again by 2x2 up-convolutions.

    On the way up, each level joins the map of the same scale, cropped to the same size. Kernels start normal with
    variance 2 / N for N inputs of a neuron. Up-convolutions start such that they keep the variance, and have no
    rectifier unless `up_relu` is set. The first convolution sees three equal channels where images are gray. With
    `in_channels=1` the net has the 31,030,658 parameters of the paper's.

    Attributes:
      num_classes: Channels of the logits.
      in_channels: Channels of the images.
      width: Channels of the first level; doubled from level to level.
      depth: Number of times that maps are halved.
      upsampling: Way in which the decoder doubles its maps, see `cvjax.nn.Upsampling`. Only transposed convolutions see
        no padding. With the others, tiles agree except for a few pixels at their borders.
      last_up_width: Channels of the last up-convolution; None takes those of its level. The authors' Caffe release has
        128 there, twice its level's.
      up_relu: Whether a ReLU follows each up-convolution, as in the authors' Caffe release.
      dropout: Rate of dropout at the end of the contracting path: on the last map that is halved, and at the bottom.
      dtype: Type of the computation; parameters and logits are float32.
    """

    num_classes: int
    in_channels: int = 3
    width: int = 64
    depth: int = 4
    upsampling: Upsampling = "transposed"
    last_up_width: int | None = None
    up_relu: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32

    def setup(self) -> None:
        if self.depth < 1 or self.width < 1:
            raise ConfigError(f"a U-Net has a depth and a width of at least 1, not {self.depth} and {self.width}")
        if self.last_up_width is not None and self.last_up_width < 1:
            raise ConfigError(f"last_up_width is None or at least 1, not {self.last_up_width}")
        for level in range(1, self.depth + 2):
            self._make_pair(f"down{level}", self.width * 2 ** (level - 1))
        for level in range(self.depth, 0, -1):
            width = self.width * 2 ** (level - 1)
            enlarged = self.last_up_width if level == 1 and self.last_up_width is not None else width
            setattr(self, f"up{level}", doubling(enlarged, self.upsampling, self.dtype))
            self._make_pair(f"join{level}", width)
        self.drop = Dropout(self.dropout)
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=he_normal("fan_in"))

    def _make_pair(self, name: str, width: int) -> None:
        for number in (1, 2):
            conv = TorchConv(width, 3, padding="VALID", dtype=self.dtype, kernel_init=he_normal("fan_in"))
            setattr(self, f"{name}_conv{number}", conv)

    def _pair(self, name: str, x: jax.Array) -> jax.Array:
        for number in (1, 2):
            x = nn.relu(getattr(self, f"{name}_conv{number}")(x))
        return x

    @property
    def margin(self) -> int:
        """Returns the number of pixels that the logits lack on every side of the input: 92 for the published net."""
        return _LOST * (3 * 2**self.depth - 2) // 2

    @property
    def step(self) -> int:
        """Returns the distance in pixels between sizes that fit.

        Tiles whose corners lie at multiples of it agree with the whole image.
        """
        return 2**self.depth

    @nn.nowrap
    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the height and width of the logits of an image.

        Args:
          size: Height and width of the image.

        Raises:
          ConfigError: An image whose maps do not halve evenly, or vanish. The message names the nearest sizes that fit.
        """
        if any(side != self._fitting(side) for side in size):
            below = [self._fitting(side, up=False) for side in size]
            above = [self._fitting(side) for side in size]
            near = " or ".join(f"{h}x{w}" for h, w in dict.fromkeys((tuple(below), tuple(above))))
            raise ConfigError(
                f"an unpadded U-Net of depth {self.depth} cannot halve {size[0]}x{size[1]} pixels evenly; the nearest "
                f"sizes that fit are {near}, and cvjax.tasks.segmentation.tiles brings images of any size to one"
            )
        return pair(side - 2 * self.margin for side in size)

    @nn.nowrap
    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the height and width of the smallest image whose logits are at least of this size."""
        return pair(self._fitting(side + 2 * self.margin) for side in size)

    @nn.nowrap
    def _fitting(self, side: int, up: bool = True) -> int:
        # The bottom map has n pixels behind its convolutions, so the input has first + (n - 1) * step; the logits of
        # small n are less than nothing.
        first = self.step + _LOST * (2 ** (self.depth + 1) - 1)
        while first <= 2 * self.margin:
            first += self.step
        beyond = side - first + (self.step - 1 if up else 0)
        return first + max(0, beyond // self.step) * self.step

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps of the contracting path, from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of a size that fits, floating point, normalized.
          train: Use dropout (stream `dropout`).

        Returns:
          `level1`, `level2`, ... with strides 1, 2, ..., each 4 pixels smaller than the input of its convolutions.

        Raises:
          ConfigError: Images that it cannot take, see `output_size`.
        """
        check_images(images, self.in_channels)
        self.output_size(pair(images.shape[1:3]))
        x, maps = images.astype(self.dtype), {}
        for level in range(1, self.depth + 2):
            x = self._pair(f"down{level}", x if level == 1 else max_pool(x, 2, 2))
            if level >= self.depth:
                x = self.drop(x, train)
            maps[f"level{level}"] = x
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, *output_size, num_classes], float32; arguments and errors are those of `features`."""
        *skips, x = self.features(images, train).values()
        for level in range(self.depth, 0, -1):
            x = getattr(self, f"up{level}")(x)
            x = nn.relu(x) if self.up_relu else x
            x = self._pair(f"join{level}", jnp.concatenate([_crop(skips.pop(), x.shape[1:3]), x], axis=-1))
        return self.classifier(x).astype(jnp.float32)


def _crop(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Crops a map to its middle."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[1:3], size))
    return x[:, top : top + size[0], left : left + size[1]]


VARIANTS = (
    Variant(
        ModelInfo(
            name="unet_original",
            task="segmentation",
            paper="1505.04597",
            year=2015,
            image_size=572,
            params=31_031_810,
            gmacs=None,
            params_classes=2,
        ),
        UNetOriginal,
        {},
    ),
)
